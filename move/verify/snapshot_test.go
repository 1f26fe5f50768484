package verify_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/verify"
)

// The way back begins at a snapshot's position. After the server has died, nothing that is written gets an earlier one.
func TestAServerThatDiesGoesOnBehindTheSnapshotsItHasGiven(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, server.DSN()) }
	conn, err := connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"alter system set wal_writer_delay = '10s'", "select pg_reload_conf()", "select pg_sleep(1)", // longer than the old delay
		"select pg_logical_emit_message(false, 'x', repeat('x', 50000))", // into the log, and not to disk
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	own, err := connect(t.Context())
	require.NoError(t, err)
	s, err := verify.Take(t.Context(), own, connect)
	require.NoError(t, err)
	require.NoError(t, server.Kill(t.Context()))
	_ = s.Close(t.Context())
	require.NoError(t, server.Restart(t.Context()))

	var after string
	require.Eventually(t, func() bool {
		conn, err := connect(t.Context())
		if err != nil {
			return false
		}
		defer conn.Close(context.Background())
		return conn.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()").Scan(&after) == nil
	}, time.Minute, 50*time.Millisecond)
	at, err := repl.ParseLSN(after)
	require.NoError(t, err)
	require.GreaterOrEqual(t, at, s.At)
}
