package placement_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
)

func TestVersionIsWhatInitMakes(t *testing.T) {
	t.Parallel()
	c := open(t, placement.Config{DSN: catalogDSN(t)})
	have, want, err := c.Version(t.Context())
	require.NoError(t, err)
	require.Positive(t, want)
	require.Equal(t, want, have)

	_, _, err = emptyCatalog(t).Version(t.Context())
	require.ErrorIs(t, err, placement.ErrNoCatalog)
}

func TestCommandsHoldNoConnectionBetweenCalls(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, KeepNone: true})
	for range 3 {
		_, err := c.Clusters(t.Context())
		require.NoError(t, err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	require.Eventually(t, func() bool {
		var others int
		const q = `select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
		require.NoError(t, conn.QueryRow(t.Context(), q).Scan(&others))
		return others == 0
	}, 10*time.Second, 10*time.Millisecond)
}
