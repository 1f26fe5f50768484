package pglocal_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestABouncerLetsTheServersLoginsInAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	pgtest.NeedBouncer(t)
	server := pgtest.OwnServer(t)
	exec(t, server.DSN(), "create role shop login password 'open sesame'")
	exec(t, server.DSN(), "create database other")

	dir := folder(t)
	b, err := pglocal.StartBouncer(t.Context(), pglocal.BouncerConfig{Dir: dir, Server: server.DSN(), PoolSize: 1})
	require.NoError(t, err)
	require.Regexp(t, `^PgBouncer \d`, b.Version)
	cfg, err := pgx.ParseConfig("postgres://shop:open%20sesame@" + b.Addr() + "/postgres?sslmode=disable&default_query_exec_mode=exec")
	require.NoError(t, err)
	look := func() (pid int, database string) {
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_backend_pid(), current_database()::text").Scan(&pid, &database))
		return pid, database
	}
	first, database := look()
	require.Equal(t, "postgres", database)
	again, _ := look()
	require.Equal(t, first, again, "connections share a backend")
	require.NoError(t, b.Point(t.Context(), "postgres", "other"))
	_, database = look()
	require.Equal(t, "other", database)

	require.NoError(t, b.Close())
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	require.Error(t, err)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestABouncerDiesWithItsKilledParentAndLeavesNothing(t *testing.T) {
	t.Parallel()
	pgtest.NeedBouncer(t)
	dir := folder(t)
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky)) // as the folder for temporary files is
	_, addr := killedParent(t, child{Bouncer: &pglocal.BouncerConfig{
		Dir: dir, Server: "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable", PoolSize: 1,
	}})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		left, _ := os.ReadDir(dir)
		return err != nil && len(left) == 0
	}, 30*time.Second, 10*time.Millisecond)
}

func TestABouncerThatIsMissingSaysHowToGetIt(t *testing.T) {
	t.Setenv(pglocal.BouncerEnv, filepath.Join(t.TempDir(), "none"))
	_, err := pglocal.StartBouncer(t.Context(), pglocal.BouncerConfig{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "apt-get install pgbouncer")
	require.ErrorContains(t, err, pglocal.BouncerEnv)
}
