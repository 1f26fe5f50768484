package pools_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/pools"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a set of pools on the test server.
type bench struct {
	*pools.Pools
	app  string       // application_name of its connections
	made atomic.Int32 // calls of Connect
}

func newBench(t *testing.T, cfg pools.Config) *bench {
	t.Helper()
	p, err := pools.New(cfg)
	require.NoError(t, err)
	b := &bench{Pools: p, app: "pools " + t.Name()}
	if len(b.app) > 63 {
		b.app = b.app[:63]
	}
	pgtest.Server(t) // up before anybody begins to wait
	t.Cleanup(p.Close)
	return b
}

// request asks for a connection of the test server; change may alter what for.
func (b *bench) request(t *testing.T, change ...func(*pools.Request)) pools.Request {
	t.Helper()
	cfg, err := pgconn.ParseConfig(pgtest.Server(t).DSN)
	require.NoError(t, err)
	cfg.RuntimeParams["application_name"] = b.app
	req := pools.Request{Server: "server", Pool: "pool", Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
		b.made.Add(1)
		return pgconn.ConnectConfig(ctx, cfg)
	}}
	for _, c := range change {
		c(&req)
	}
	return req
}

func (b *bench) acquire(t *testing.T, req pools.Request) *pools.Conn {
	t.Helper()
	conn, err := b.Acquire(t.Context(), req)
	require.NoError(t, err)
	return conn
}

// stats returns the state of the one server.
func (b *bench) stats(t *testing.T) pools.Stats {
	t.Helper()
	all := b.Stats()
	require.Len(t, all, 1)
	return all[0]
}

func forClient(name string) func(*pools.Request) { return func(r *pools.Request) { r.Client = name } }
func ofPool(name string) func(*pools.Request)    { return func(r *pools.Request) { r.Pool = name } }
func with(affinity string) func(*pools.Request) {
	return func(r *pools.Request) { r.Affinity = affinity }
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, time.Millisecond)
}

func TestWaitingForAConnectionEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 1, AcquireTimeout: time.Second})
	held := b.acquire(t, b.request(t))
	_, err := b.Acquire(t.Context(), b.request(t))
	require.ErrorIs(t, err, pools.ErrExhausted)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Acquire(ctx, b.request(t))
	require.ErrorIs(t, err, context.Canceled)
	held.Release()
	held.Release() // does nothing
	b.acquire(t, b.request(t)).Release()
	require.Equal(t, 1, b.stats(t).Open)
}

func TestACallThatIsLateNeverGetsAConnectionLost(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 2, AcquireTimeout: time.Minute})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*j)*time.Microsecond)
				if conn, err := b.Acquire(ctx, b.request(t, forClient(string(rune('a'+i))))); err == nil {
					conn.Release()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	eventually(t, func() bool { s := b.stats(t); return s.InUse == 0 && s.Waiting == 0 })
	first, second := b.acquire(t, b.request(t)), b.acquire(t, b.request(t))
	first.Release()
	second.Release()
}

func TestManyCallersOfANewPoolShareTheFailureOfItsFirstConnection(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{})
	boom := errors.New("boom")
	fail := make(chan struct{})
	req := b.request(t)
	req.Connect = func(context.Context) (*pgconn.PgConn, error) {
		b.made.Add(1)
		<-fail
		return nil, boom
	}
	errs := make(chan error, 50)
	for range cap(errs) {
		go func() {
			_, err := b.Acquire(t.Context(), req)
			errs <- err
		}()
	}
	eventually(t, func() bool { return len(b.Stats()) == 1 && b.stats(t).Waiting == cap(errs) })
	close(fail)
	for range cap(errs) {
		require.ErrorIs(t, <-errs, boom)
	}
	require.EqualValues(t, 1, b.made.Load())
	b.acquire(t, b.request(t)).Release() // and the next try is a new one
}

func TestAServerThatDoesNotAnswerHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are taken, and nothing is ever said
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	b := newBench(t, pools.Config{AcquireTimeout: 5 * time.Second})
	began := make(chan struct{})
	stuck := make(chan error, 1)
	go func() {
		_, err := b.Acquire(t.Context(), pools.Request{Server: "silent", Pool: "pool", Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
			close(began)
			return pgconn.Connect(ctx, "postgres://nobody@"+silent.Addr().String()+"/none?sslmode=disable")
		}})
		stuck <- err
	}()
	<-began
	b.acquire(t, b.request(t)).Release()
	select {
	case err := <-stuck:
		require.Fail(t, "the silent server answered", "%v", err)
	default:
	}
	require.ErrorIs(t, <-stuck, context.DeadlineExceeded)
}

func TestAPoolThatCannotBeOpenedLeavesRoomForOthersOnItsServer(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 3})
	stuck := b.request(t, ofPool("stuck"))
	stuck.Connect = func(ctx context.Context) (*pgconn.PgConn, error) { <-ctx.Done(); return nil, ctx.Err() }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Acquire(ctx, stuck)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	eventually(t, func() bool { return len(b.Stats()) == 1 && b.stats(t).Waiting == 20 })
	first, second := b.acquire(t, b.request(t)), b.acquire(t, b.request(t))
	first.Release()
	second.Release()
	cancel()
	wg.Wait()
}

func TestACallerGetsAReleasedConnectionWhileItsOwnIsBeingMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{AcquireTimeout: time.Minute})
	first := b.acquire(t, b.request(t))
	goOn := make(chan struct{})
	slow := b.request(t)
	quick := slow.Connect
	slow.Connect = func(ctx context.Context) (*pgconn.PgConn, error) {
		<-goOn
		return quick(ctx)
	}
	got := make(chan *pools.Conn)
	go func() {
		conn, err := b.Acquire(t.Context(), slow)
		if err != nil {
			close(got)
			return
		}
		got <- conn
	}()
	eventually(t, func() bool { return b.stats(t).Open == 2 })
	pid := first.PgConn().PID()
	first.Release()
	second := <-got
	require.Equal(t, pid, second.PgConn().PID())
	close(goOn)
	eventually(t, func() bool { return b.stats(t).Opened == 2 }) // and is there for whoever comes next
	third := b.acquire(t, b.request(t))
	require.NotEqual(t, pid, third.PgConn().PID())
	second.Release()
	third.Release()
}

func TestADeadConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 1})
	conn := b.acquire(t, b.request(t))
	pid := conn.PgConn().PID()
	conn.Release()
	time.Sleep(1100 * time.Millisecond) // idle for so long that it is looked at
	killer, err := pgconn.Connect(t.Context(), pgtest.Server(t).DSN)
	require.NoError(t, err)
	defer killer.Close(context.WithoutCancel(t.Context()))
	_, err = killer.Exec(t.Context(), "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = '"+b.app+"'").ReadAll()
	require.NoError(t, err)
	conn = b.acquire(t, b.request(t))
	require.NotEqual(t, pid, conn.PgConn().PID())
	require.NoError(t, conn.PgConn().Ping(t.Context()))
	conn.Release()
}

func TestAConnectionIsReusedOnlyIfItIsIdle(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 1})
	conn := b.acquire(t, b.request(t))
	pid := conn.PgConn().PID()
	conn.Release()
	conn = b.acquire(t, b.request(t))
	require.Equal(t, pid, conn.PgConn().PID())
	_, err := conn.PgConn().Exec(t.Context(), "begin").ReadAll()
	require.NoError(t, err)
	conn.Release()
	conn = b.acquire(t, b.request(t))
	require.NotEqual(t, pid, conn.PgConn().PID())
	conn.Release()
}

func TestCloseWaitsForConnectionsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 1, AcquireTimeout: time.Minute})
	held := b.acquire(t, b.request(t))
	waiting := make(chan error, 1)
	go func() {
		_, err := b.Acquire(t.Context(), b.request(t))
		waiting <- err
	}()
	eventually(t, func() bool { return b.stats(t).Waiting == 1 })
	closed := make(chan struct{})
	go func() {
		b.Close()
		close(closed)
	}()
	require.ErrorIs(t, <-waiting, pools.ErrClosed)
	_, err := b.Acquire(t.Context(), b.request(t))
	require.ErrorIs(t, err, pools.ErrClosed)
	select {
	case <-closed:
		require.Fail(t, "closed while a connection was in use")
	default:
	}
	require.False(t, held.PgConn().IsClosed())
	held.Release()
	<-closed
	require.Zero(t, b.stats(t).Open)
}

func TestEveryProblemOfAConfigurationIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := pools.New(pools.Config{
		MaxConns: -1, MaxPerClient: -1, MaxAffinities: -1, AcquireTimeout: -1, MaxIdleTime: -1, MaxLifetime: -1,
	})
	for _, name := range []string{"MaxConns", "MaxPerClient", "MaxAffinities", "AcquireTimeout", "MaxIdleTime", "MaxLifetime"} {
		require.ErrorContains(t, err, name)
	}
}
