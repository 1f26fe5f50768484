package main_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
)

type devStatus struct {
	Servers []struct {
		Name    string
		Running bool
		Port    int
		PID     int
		DataDir string `json:"data_dir"`
		Version string
	}
	Config string
}

// devUp starts the two servers, for one test. They have been set up already, as copies are quickly; with all else the command does
// what it does on first use.
func devUp(t *testing.T, s *shop) devStatus {
	t.Helper()
	copyNewServers(t, s)
	return devUpAnew(t, s)
}

// devUpAnew has the servers set up too.
func devUpAnew(t *testing.T, s *shop) devStatus {
	t.Helper()
	t.Cleanup(func() { s.ok("dev", "down", "--purge") })
	return parse[devStatus](t, s.ok("dev", "up", "--json"))
}

func TestDevUpCanBeRepeatedAndDownKeepsTheData(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	up := devUpAnew(t, s)
	require.Len(t, up.Servers, 2)
	for _, server := range up.Servers {
		require.True(t, server.Running)
		require.NotZero(t, server.PID)
		require.FileExists(t, up.Config)
	}
	require.NotEqual(t, up.Servers[0].Port, up.Servers[1].Port)

	again := s.run("dev", "up", "--json")
	require.Equal(t, up, parse[devStatus](t, again.stdout))
	require.Contains(t, again.stderr, "server a already runs")

	psql := func(sql string) string { return s.ok("dev", "psql", "--database", "landlord", "-c", sql) }
	require.Contains(t, psql("select current_user, current_setting('port')"), "postgres")
	psql("create table kept ()")
	secret, err := os.ReadFile(filepath.Join(s.dir, ".landlord/secrets/a.app.secret"))
	require.NoError(t, err)
	s.write(".landlord/migrations/00003_orders.sql", "-- mine now\n")

	s.ok("dev", "down")
	require.Contains(t, s.ok("dev", "status"), "stopped")
	for _, server := range parse[devStatus](t, s.ok("dev", "status", "--json")).Servers {
		require.False(t, server.Running)
		require.Zero(t, server.PID)
	}

	back := parse[devStatus](t, s.ok("dev", "up", "--json"))
	require.Equal(t, up.Servers[0].DataDir, back.Servers[0].DataDir)
	psql("table kept")
	require.Equal(t, string(secret), read(t, s, ".landlord/secrets/a.app.secret"))
	require.Equal(t, "-- mine now\n", read(t, s, ".landlord/migrations/00003_orders.sql"))
}

func read(t *testing.T, s *shop, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	require.NoError(t, err)
	return string(b)
}

func TestDevUpWritesSecretsThatOthersCannotRead(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUpAnew(t, s)
	var seen []string
	secrets := filepath.Join(s.dir, ".landlord/secrets")
	err := filepath.WalkDir(secrets, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		if !d.IsDir() {
			seen = append(seen, d.Name())
		}
		return nil
	})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"catalog.dsn", "a.operator.dsn", "a.app.secret", "a.admin.secret", "b.operator.dsn", "b.app.secret", "b.admin.secret",
	}, seen)
	require.NotEqual(t, read(t, s, ".landlord/secrets/a.app.secret"), read(t, s, ".landlord/secrets/b.app.secret"))
	for line := range strings.Lines(read(t, s, ".landlord/landlord.yaml")) {
		require.NotContains(t, line, "postgres://")
	}
}

func TestDevUpRestartsAServerThatWasKilled(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	up := devUp(t, s)
	require.NoError(t, syscall.Kill(up.Servers[0].PID, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		return !parse[devStatus](t, s.ok("dev", "status", "--json")).Servers[0].Running
	}, time.Minute, 50*time.Millisecond)
	back := parse[devStatus](t, s.ok("dev", "up", "--json"))
	require.NotEqual(t, up.Servers[0].PID, back.Servers[0].PID)
	require.Equal(t, up.Servers[1].PID, back.Servers[1].PID, "the other one went on")
	s.ok("dev", "psql", "--database", "landlord", "-c", "select 1")
}

func TestDevDownPurgeLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	up := devUp(t, s)
	require.Contains(t, s.ok("dev", "down", "--purge", "--dry-run"), "running")
	require.DirExists(t, up.Servers[0].DataDir)
	s.ok("dev", "down", "--purge")
	require.NoDirExists(t, filepath.Join(s.dir, ".landlord"))
	for _, server := range up.Servers {
		require.NoDirExists(t, server.DataDir)
		_, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port)))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	require.Contains(t, s.ok("dev", "status"), "no local servers")
}

func TestDevUpDryRunStartsNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Contains(t, s.run("dev", "up", "--dry-run").stderr, "would start 2 servers")
	require.NoDirExists(t, filepath.Join(s.dir, ".landlord"))
}

func TestDevPsqlFailsWhenItsSQLFails(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	r := s.run("dev", "psql", "--database", "landlord", "-c", "select 1/0", "-c", "select 'not' || 'reached'")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "22012", "with the SQLSTATE")
	require.NotContains(t, r.stdout, "notreached")

	require.Contains(t, s.ok("dev", "psql", "--cluster", "b", "--database", "postgres", "-c", "select current_setting('port')"), "1 row")
	require.Equal(t, 1, s.run("dev", "psql", "--cluster", "c", "-c", "select 1").status)
	require.Equal(t, 2, s.run("dev", "psql", "--role", "nobody", "-c", "select 1").status)
}

func TestInterruptEndsPsqlsStatement(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	cmd := s.command("dev", "psql", "--database", "landlord", "-c", "select pg_sleep(60)")
	require.NoError(t, cmd.Start())
	const running = `select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'`
	require.Eventually(t, func() bool {
		return strings.Contains(s.ok("dev", "psql", "--database", "landlord", "-c", running), " 1\n")
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.Contains(t, s.ok("dev", "psql", "--database", "landlord", "-c", running), " 0\n")
}

func TestSampleApplicationIsASetOfMigrations(t *testing.T) {
	t.Parallel()
	set, err := migrate.Load(os.DirFS("sample"))
	require.NoError(t, err)
	require.NotEmpty(t, set.Versions())
}
