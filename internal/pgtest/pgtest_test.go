package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestDatabasesAreEmptyAndApart(t *testing.T) {
	t.Parallel()
	a, b := pgtest.NewDatabase(t), pgtest.NewDatabase(t)
	require.NotEqual(t, a, b)
	exec(t, connect(t, a), `create table t (a int)`)
	require.Equal(t, "0", ask(t, connect(t, b), `select count(*)::text from pg_tables where schemaname = 'public'`))
}

func TestADatabaseGoesWithItsTestWhateverStillUsesIt(t *testing.T) {
	t.Parallel()
	var name string
	var idle, walsender *pgx.Conn
	// A connection that nobody refers to any more is closed when memory is collected.
	defer func() { runtime.KeepAlive(idle); runtime.KeepAlive(walsender) }()
	t.Run("the test", func(t *testing.T) {
		dsn := pgtest.NewDatabase(t)
		var err error
		idle, err = pgx.Connect(context.Background(), dsn)
		require.NoError(t, err)
		name = ask(t, idle, `select current_database()::text`)
		exec(t, idle, `create publication p for all tables`)
		exec(t, idle, `select pg_create_logical_replication_slot('s_' || current_database(), 'pgoutput')`)

		// An active slot forbids the drop, even by force.
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		cfg.RuntimeParams["replication"] = "database"
		walsender, err = pgx.ConnectConfig(context.Background(), cfg)
		require.NoError(t, err)
		walsender.PgConn().Frontend().Send(&pgproto3.Query{String: startReplication(name)})
		require.NoError(t, walsender.PgConn().Frontend().Flush())
		watcher := connect(t, pgtest.Server(t).DSN)
		require.Eventually(t, func() bool {
			const q = `select count(*)::text from pg_replication_slots where active and slot_name = 's_' || $1::text`
			return ask(t, watcher, q, name) == "1"
		}, 20*time.Second, 10*time.Millisecond)
	})
	admin := connect(t, pgtest.Server(t).DSN)
	require.Equal(t, "0", ask(t, admin, `select count(*)::text from pg_database where datname = $1::text`, name))
}

func TestClonesStartAsTheirTemplateWhichIsBuiltOnce(t *testing.T) {
	t.Parallel()
	var built atomic.Int32
	build := func(ctx context.Context, conn *pgx.Conn) error {
		built.Add(1)
		_, err := conn.Exec(ctx, `create table t as select 1 as a`)
		return err
	}
	key := t.Name() + pgtest.NewDatabase(t) // new to a server that was used before
	t.Run("at once", func(t *testing.T) {
		for range 4 {
			t.Run("clone", func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.Clone(t, key, build))
				require.Equal(t, "1", ask(t, conn, `select count(*)::text from t`))
				exec(t, conn, `drop table t`)
			})
		}
	})
	require.EqualValues(t, 1, built.Load())
}

func TestATemplateThatFailedIsBuiltAnew(t *testing.T) {
	t.Parallel()
	key := t.Name() + pgtest.NewDatabase(t)
	broken := errors.New("broken migration")
	failed := &spy{TB: t}
	failed.run(func() {
		pgtest.Clone(failed, key, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `create table half_done (a int)`)
			require.NoError(t, err)
			return broken
		})
	})
	require.Contains(t, failed.fatal, broken.Error())

	conn := connect(t, pgtest.Clone(t, key, func(context.Context, *pgx.Conn) error { return nil }))
	require.Equal(t, "0", ask(t, conn, `select count(*)::text from pg_tables where tablename = 'half_done'`))
}

func TestAnOwnServerCanBeKilled(t *testing.T) {
	t.Parallel()
	s := pgtest.OwnServer(t)
	require.NoError(t, s.Kill(t.Context()))
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, "1", ask(t, connect(t, s.DSN()), `select '1'`))
}

func TestSeveralTestBinariesShareTheServerThatTheVariableNames(t *testing.T) {
	t.Parallel()
	s := pgtest.OwnServer(t)
	admin := connect(t, s.DSN())
	exec(t, admin, `create table builds (at timestamptz default now())`)
	exec(t, admin, `create role ordinary login password 'p'`)

	children := make(chan result)
	for range 2 {
		go func() { children <- child(t, "TestChildClones", pgtest.DSNEnv+"="+s.DSN()) }()
	}
	for range 2 {
		r := <-children
		require.NoError(t, r.err, r.out)
		require.Contains(t, r.out, "source=dsn")
	}
	require.Equal(t, "1", ask(t, admin, `select count(*)::text from builds`))
	require.Equal(t, "0", ask(t, admin, `select count(*)::text from pg_database where datname like 'landlord\_test\_%'`))

	ordinary := strings.Replace(s.DSN(), "//postgres:", "//ordinary:", 1)
	_, password, _ := strings.Cut(strings.Split(ordinary, "@")[0], "ordinary:")
	ordinary = strings.Replace(ordinary, password, "p", 1)
	r := child(t, "TestChildClones", pgtest.DSNEnv+"="+ordinary)
	require.Error(t, r.err)
	require.Contains(t, r.out, "ordinary is no superuser")
}

func TestWithoutDockerTheLocalProgramsServe(t *testing.T) {
	t.Parallel()
	nowhere := "DOCKER_HOST=unix://" + t.TempDir() + "/docker.sock"
	r := child(t, "TestChildClones", nowhere, pgtest.DockerEnv+"=", pgtest.DSNEnv+"=")
	require.NoError(t, r.err, r.out)
	require.Contains(t, r.out, "source=local")
	require.NotContains(t, r.out, "Docker", "a machine without Docker hears nothing of it")

	r = child(t, "TestChildClones", nowhere, pgtest.DockerEnv+"=must", pgtest.DSNEnv+"=")
	require.Error(t, r.err)
	require.Contains(t, r.out, "reach Docker")
}

func TestAGoroutineLeftBehindFailsTheBinary(t *testing.T) {
	t.Parallel()
	r := child(t, "TestChildLeaks")
	require.Error(t, r.err)
	require.Contains(t, r.out, "TestChildLeaks")
}

const childEnv = "LANDLORD_PGTEST_CHILD"

type result struct {
	out string
	err error
}

// child runs one of the tests below in a process of its own.
func child(t *testing.T, name string, env ...string) result {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		return result{err: err}
	}
	cmd := osexec.CommandContext(t.Context(), exe, "-test.v", "-test.run", "^"+name+"$")
	cmd.Env = append(append(os.Environ(), childEnv+"=1"), env...)
	out, err := cmd.CombinedOutput()
	return result{string(out), err}
}

func onlyChild(t *testing.T) {
	t.Helper()
	if os.Getenv(childEnv) == "" {
		t.Skip("a part of other tests, which run it in a process of its own")
	}
}

func TestChildClones(t *testing.T) {
	t.Parallel()
	onlyChild(t)
	info := pgtest.Server(t)
	conn := connect(t, pgtest.Clone(t, "child", func(ctx context.Context, conn *pgx.Conn) error {
		if info.Source != "dsn" {
			return nil
		}
		return report(ctx, info)
	}))
	fmt.Println("source="+info.Source, ask(t, conn, `select current_database()::text`))
}

func report(ctx context.Context, info pgtest.Info) error {
	conn, err := pgx.Connect(ctx, info.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `insert into builds default values`)
	return err
}

func TestChildLeaks(t *testing.T) {
	t.Parallel()
	onlyChild(t)
	go func() { select {} }()
}

// spy is a test that may fail.
type spy struct {
	testing.TB
	fatal string
}

func (s *spy) Fatalf(format string, args ...any) {
	s.fatal = fmt.Sprintf(format, args...)
	panic(s)
}

func (s *spy) run(f func()) {
	defer func() {
		if r := recover(); r != nil && r != any(s) {
			panic(r)
		}
	}()
	f()
}

// startReplication: replication commands are known in capitals only.
func startReplication(database string) string {
	return fmt.Sprintf(`START_REPLICATION SLOT "s_%s" LOGICAL 0/0 (proto_version '1', publication_names 'p')`, database)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func ask(t *testing.T, conn *pgx.Conn, sql string, args ...any) (answer string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&answer))
	return answer
}
