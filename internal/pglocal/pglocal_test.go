package pglocal_test

import (
	"context"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helper()
		return
	}
	pgtest.Main(m)
}

func TestServerKeepsItsDataPortAndPasswordOverARestart(t *testing.T) {
	t.Parallel()
	s := start(t, pglocal.Config{Dir: folder(t), Name: "a", NoSync: true, Settings: map[string]string{"work_mem": "7MB"}})
	dsn, pid := s.DSN(), s.PID()
	exec(t, dsn, `create table t as select 1 as a`)
	require.Equal(t, "7MB", ask(t, dsn, `show work_mem`))
	require.Equal(t, "logical", ask(t, dsn, `show wal_level`))

	require.NoError(t, s.Stop(t.Context()))
	require.False(t, s.Running(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "a stopped server is stopped")
	_, err := pgx.Connect(t.Context(), dsn)
	require.Error(t, err)

	require.NoError(t, s.Restart(t.Context()))
	require.True(t, s.Running(t.Context()))
	require.Equal(t, dsn, s.DSN())
	require.NotEqual(t, pid, s.PID())
	require.Equal(t, "1", ask(t, dsn, `select a::text from t`))

	require.NoError(t, s.Remove(t.Context()))
	require.NoDirExists(t, s.Dir)
}

func TestAKilledServerLosesNothingThatItConfirmed(t *testing.T) {
	t.Parallel()
	s := start(t, pglocal.Config{Dir: folder(t), Name: "a", NoSync: true})
	exec(t, s.DSN(), `create table t as select generate_series(1, 1000) as a`)

	require.NoError(t, s.Kill(t.Context()))
	require.False(t, s.Running(t.Context()))
	require.NoError(t, s.Kill(t.Context()), "a dead server is dead")
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, "1000", ask(t, s.DSN(), `select count(*)::text from t`))
}

func TestOnlyThePasswordOpensTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, pglocal.Config{Dir: folder(t), Name: "a", NoSync: true, Password: `p@ss/w'rd "1"`})
	require.Equal(t, "postgres", ask(t, s.DSN(), `select current_user::text`))

	for _, host := range []string{"127.0.0.1", s.SocketDir} {
		q := url.Values{"host": {host}, "port": {strconv.Itoa(s.Port)}, "password": {"wrong"}}
		_, err := pgx.Connect(t.Context(), "postgres://postgres@/postgres?"+q.Encode())
		require.True(t, pgerr.Is(err, pgerr.InvalidPassword), "%s: %v", host, err)
	}
}

func TestLongFoldersStillGiveAShortSocket(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(folder(t), strings.Repeat("d", 90))
	s := start(t, pglocal.Config{Dir: deep, Name: "a", NoSync: true})
	require.True(t, strings.HasPrefix(s.Dir, deep))
	require.Less(t, len(filepath.Join(s.SocketDir, ".s.PGSQL.65535")), 100)

	u, err := url.Parse(s.DSN())
	require.NoError(t, err)
	u.Host = ""
	u.RawQuery = url.Values{"host": {s.SocketDir}, "port": {strconv.Itoa(s.Port)}}.Encode()
	require.Equal(t, "1", ask(t, u.String(), `select '1'`))

	require.NoError(t, s.Remove(t.Context()))
	require.NoDirExists(t, s.SocketDir)
}

func TestATakenPortIsRefusedWhenNamedAndAvoidedWhenNot(t *testing.T) {
	t.Parallel()
	cfg := pglocal.Config{Dir: folder(t), Name: "a", NoSync: true, Detach: true}
	s := start(t, cfg)
	require.NoError(t, s.Stop(t.Context()))
	squatter, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
	require.NoError(t, err)
	defer squatter.Close()

	moved, err := pglocal.Start(t.Context(), cfg)
	require.NoError(t, err)
	require.NotEqual(t, s.Port, moved.Port)
	require.NoError(t, moved.Stop(t.Context()))

	cfg.Port = s.Port
	_, err = pglocal.Start(t.Context(), cfg)
	require.ErrorContains(t, err, strconv.Itoa(s.Port))
	require.ErrorContains(t, err, "start local server a")
}

func TestManyServersStartAtOnce(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	type result struct {
		s   *pglocal.Server
		err error
	}
	results := make(chan result)
	for _, name := range []string{"a", "b", "c"} {
		go func() {
			s, err := pglocal.Start(t.Context(), pglocal.Config{Dir: dir, Name: name, NoSync: true})
			results <- result{s, err}
		}()
	}
	ports := map[int]bool{}
	for range 3 {
		r := <-results
		require.NoError(t, r.err)
		removeAtEnd(t, r.s)
		require.Equal(t, "1", ask(t, r.s.DSN(), `select '1'`))
		ports[r.s.Port] = true
	}
	require.Len(t, ports, 3)
}

func TestAStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for name, settings := range map[string]map[string]string{
		"unknown": {"no_such_setting": "1"},
		"hostile": {"work_mem": "1MB'\nport = '1"},
	} {
		_, err := pglocal.Start(t.Context(), pglocal.Config{Dir: dir, Name: name, NoSync: true, Settings: settings})
		require.Error(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pglocal.Start(ctx, pglocal.Config{Dir: dir, Name: "cancelled", NoSync: true})
	require.ErrorIs(t, err, context.Canceled)

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestNamesThatAreNoFolderAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "a/b", "/a"} {
		_, err := pglocal.Start(t.Context(), pglocal.Config{Dir: t.TempDir(), Name: name})
		require.Error(t, err, "%q", name)
	}
}

func TestFoldersThatAShellWouldReadOtherwiseAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`a"b`, "a$HOME", "a`id`", `a\b`, "a,b", "a\nb"} {
		dir := filepath.Join(folder(t), name)
		_, err := pglocal.Start(t.Context(), pglocal.Config{Dir: dir, Name: "a", Detach: true})
		require.ErrorContains(t, err, "choose another folder")
		require.NoDirExists(t, dir)
	}
	start(t, pglocal.Config{Dir: filepath.Join(folder(t), `it's (100%) & fine; #1`), Name: "a", NoSync: true, Detach: true})
}

// TestStartsOfOneServerAtOnceAreOneServer: none of them finds the folder half made and goes elsewhere.
func TestStartsOfOneServerAtOnceAreOneServer(t *testing.T) {
	t.Parallel()
	const starts = 4
	cfg := pglocal.Config{Dir: filepath.Join(folder(t), "new"), Name: "a", NoSync: true, Detach: true}
	type result struct {
		s   *pglocal.Server
		err error
	}
	results := make(chan result)
	for range starts {
		go func() {
			s, err := pglocal.Start(t.Context(), cfg)
			results <- result{s, err}
		}()
	}
	for range starts {
		r := <-results
		require.NoError(t, r.err)
		removeAtEnd(t, r.s)
		require.Equal(t, filepath.Join(cfg.Dir, cfg.Name), r.s.Dir)
	}
}

func TestOpenSaysWhenThereIsNoServer(t *testing.T) {
	t.Parallel()
	_, err := pglocal.Open(pglocal.Config{Dir: t.TempDir(), Name: "a"})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func start(t *testing.T, cfg pglocal.Config) *pglocal.Server {
	t.Helper()
	s, err := pglocal.Start(t.Context(), cfg)
	require.NoError(t, err)
	removeAtEnd(t, s)
	return s
}

func removeAtEnd(t *testing.T, s *pglocal.Server) {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, s.Remove(context.WithoutCancel(t.Context()))) })
}

// folder is one that the user who runs root's servers can reach, which t.TempDir's is not.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(pgtest.Scratch(), "pglocal-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func exec(t *testing.T, dsn, sql string) {
	t.Helper()
	conn := connect(t, dsn)
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func ask(t *testing.T, dsn, sql string) (answer string) {
	t.Helper()
	conn := connect(t, dsn)
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&answer))
	return answer
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
