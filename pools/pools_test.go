package pools_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/pools"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newPools(t *testing.T, cfg pools.Config) *pools.Pools {
	t.Helper()
	p, err := pools.New(cfg)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// opener opens connections to the test server, and counts how often it is called.
func opener(t *testing.T, calls *atomic.Int32) pools.Opener {
	t.Helper()
	dsn := pgtest.Server(t).DSN
	return func() (*pgxpool.Config, error) {
		calls.Add(1)
		return pgxpool.ParseConfig(dsn)
	}
}

func TestAPoolIsOpenedOnceHoweverManyComeAtOnce(t *testing.T) {
	t.Parallel()
	p := newPools(t, pools.Config{MaxConns: 3})
	var calls atomic.Int32
	open := opener(t, &calls)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			conn, err := p.Acquire(t.Context(), "key", open)
			if err == nil {
				conn.Release()
				conn.Release() // does nothing
			}
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, calls.Load())
}

func TestAFailedOpenIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newPools(t, pools.Config{})
	boom := errors.New("boom")
	_, err := p.Acquire(t.Context(), "key", func() (*pgxpool.Config, error) { return nil, boom })
	require.ErrorIs(t, err, boom)
	var calls atomic.Int32
	conn, err := p.Acquire(t.Context(), "key", opener(t, &calls))
	require.NoError(t, err)
	conn.Release()
}

func TestWaitingForAConnectionEnds(t *testing.T) {
	t.Parallel()
	p := newPools(t, pools.Config{MaxConns: 1, AcquireTimeout: 100 * time.Millisecond})
	var calls atomic.Int32
	open := opener(t, &calls)
	held, err := p.Acquire(t.Context(), "key", open)
	require.NoError(t, err)
	_, err = p.Acquire(t.Context(), "key", open)
	require.ErrorIs(t, err, pools.ErrExhausted)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Acquire(ctx, "key", open)
	require.ErrorIs(t, err, context.Canceled)
	held.Release()
	conn, err := p.Acquire(t.Context(), "key", open)
	require.NoError(t, err)
	conn.Release()
}

func TestAServerThatDoesNotAnswerHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are taken, and nothing is ever said
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	var calls atomic.Int32
	open := opener(t, &calls) // the test server is up before the waiting begins
	p := newPools(t, pools.Config{AcquireTimeout: 5 * time.Second})
	stuck := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		_, err := p.Acquire(t.Context(), "silent", func() (*pgxpool.Config, error) {
			close(began)
			return pgxpool.ParseConfig("postgres://nobody@" + silent.Addr().String() + "/none?sslmode=disable")
		})
		stuck <- err
	}()
	<-began
	conn, err := p.Acquire(t.Context(), "key", open)
	require.NoError(t, err)
	conn.Release()
	select {
	case err := <-stuck:
		require.Fail(t, "the silent server answered", "%v", err)
	default:
	}
	require.ErrorIs(t, <-stuck, context.DeadlineExceeded)
}

func TestCloseWaitsForConnectionsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	p := newPools(t, pools.Config{})
	var calls atomic.Int32
	open := opener(t, &calls)
	held, err := p.Acquire(t.Context(), "key", open)
	require.NoError(t, err)
	closed := make(chan struct{})
	go func() {
		p.Close()
		close(closed)
	}()
	require.Eventually(t, func() bool {
		conn, err := p.Acquire(t.Context(), "key", open)
		if err == nil {
			conn.Release()
		}
		return errors.Is(err, pools.ErrClosed)
	}, 10*time.Second, time.Millisecond)
	select {
	case <-closed:
		require.Fail(t, "closed while a connection was in use")
	default:
	}
	require.False(t, held.PgConn().IsClosed())
	held.Release()
	<-closed
}

func TestEveryProblemOfAConfigurationIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := pools.New(pools.Config{MaxConns: -1, AcquireTimeout: -1, MaxIdleTime: -1})
	require.ErrorContains(t, err, "MaxConns")
	require.ErrorContains(t, err, "AcquireTimeout")
	require.ErrorContains(t, err, "MaxIdleTime")
}
