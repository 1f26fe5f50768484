package pools_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/pools"
)

// newFakeBench is a bench on a server within the process.
func newFakeBench(t *testing.T, cfg pools.Config) (*bench, *fake, pools.Request) {
	t.Helper()
	p, err := pools.New(cfg)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	b, f := &bench{Pools: p}, newFake(t)
	return b, f, pools.Request{Server: "server", Pool: "pool", Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
		b.made.Add(1)
		return f.connect(ctx, "pool")
	}}
}

func TestAnotherReleaseDoesNothingEvenAtTheSameTime(t *testing.T) {
	t.Parallel()
	b, _, req := newFakeBench(t, pools.Config{})
	conn, other := b.acquire(t, req), b.acquire(t, req)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(conn.Release)
	}
	wg.Wait()
	require.Equal(t, 1, b.stats(t).InUse)
	require.NoError(t, b.Inconsistent())
	other.Release()
}

// Two callers wait for connections being made. The first is given one that comes back, and what was made for it must not
// lie idle while the second still waits.
func TestAConnectionThatNobodyNeedsAnyMoreGoesToWhoeverStillWaits(t *testing.T) {
	t.Parallel()
	b, f, req := newFakeBench(t, pools.Config{AcquireTimeout: time.Minute})
	held := b.acquire(t, req)
	late := func(goOn <-chan struct{}) pools.Request {
		r := req
		r.Connect = func(ctx context.Context) (*pgconn.PgConn, error) {
			select {
			case <-goOn:
				return f.connect(ctx, "pool")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return r
	}
	goOn := make(chan struct{})
	first := b.acquireLater(t, late(goOn), 1)
	second := b.acquireLater(t, late(nil), 2)
	held.Release()
	one := <-first
	close(goOn)
	two := <-second
	one.Release()
	two.Release()
}

// Affinities are spread for speed: that a server lets nobody else in is no reason to fail.
func TestAnAffinityTakesAnyConnectionWhereNoOtherCanBeMade(t *testing.T) {
	t.Parallel()
	b, _, req := newFakeBench(t, pools.Config{})
	b.acquire(t, req).Release()
	req.Affinity = "some"
	req.Connect = func(context.Context) (*pgconn.PgConn, error) { return nil, errRefused }
	b.acquire(t, req).Release()
	require.EqualValues(t, 1, b.stats(t).Failed)
}

func TestAConnectionLeftInATransactionKeepsItsPlaceUntilTheServerHasLetItGo(t *testing.T) {
	t.Parallel()
	b, f, req := newFakeBench(t, pools.Config{MaxConns: 1})
	f.linger = 100 * time.Millisecond
	for range 3 {
		conn := b.acquire(t, req)
		_, err := conn.PgConn().Exec(t.Context(), "begin").ReadAll()
		require.NoError(t, err)
		conn.Release()
	}
	require.EqualValues(t, 1, f.within.most.Load())
}

// What is being closed is over the limit for a moment longer, and is no reason to close more.
func TestALimitThatFallsTwiceClosesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	b, f, req := newFakeBench(t, pools.Config{MaxConns: 6, AcquireTimeout: time.Minute})
	f.linger = 100 * time.Millisecond
	var held []*pools.Conn
	for range 6 {
		held = append(held, b.acquire(t, req))
	}
	held[0].Release()
	held[1].Release()
	held[2].Release()
	b.SetLimit("server", 4)
	b.SetLimit("server", 4)
	for _, c := range held[3:] {
		c.Release()
	}
	eventually(t, func() bool { return b.stats(t).Open <= 4 })
	require.Equal(t, 4, b.stats(t).Open)
}

func TestALimitOfNothingIsNoSilence(t *testing.T) {
	t.Parallel()
	b, _, req := newFakeBench(t, pools.Config{AcquireTimeout: 10 * time.Millisecond})
	b.SetLimit("server", 0)
	_, err := b.Acquire(t.Context(), req)
	require.ErrorIs(t, err, pools.ErrExhausted)
	require.EqualValues(t, 1, b.stats(t).Exhausted)
	b.SetLimit("server", 1)
	b.acquire(t, req).Release()
}

func TestACallerWhoLeavesWasNotRefused(t *testing.T) {
	t.Parallel()
	b, _, req := newFakeBench(t, pools.Config{MaxConns: 1})
	held := b.acquire(t, req)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := b.Acquire(ctx, req)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.stats(t).Exhausted)
	held.Release()
}

func TestNothingIsMadeForACallerWhoHasLeft(t *testing.T) {
	t.Parallel()
	b, _, req := newFakeBench(t, pools.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Acquire(ctx, req)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.made.Load())
	b.acquire(t, req).Release()
	_, err = b.Acquire(ctx, req)
	require.ErrorIs(t, err, context.Canceled)
}

// The network has forgotten the connections while they were idle: the next caller loses one wait to them, not one for each.
func TestConnectionsThatFellSilentTogetherCostOneWait(t *testing.T) {
	t.Parallel()
	b, f, req := newFakeBench(t, pools.Config{MaxConns: 10, AcquireTimeout: 5 * time.Second})
	var wires []*wire
	var held []*pools.Conn
	req.Connect = func(ctx context.Context) (*pgconn.PgConn, error) {
		pg, err := f.connect(ctx, "pool")
		if err == nil && b.made.Add(1) <= 10 {
			wires = append(wires, pg.Conn().(*wire))
		}
		return pg, err
	}
	for range 10 {
		held = append(held, b.acquire(t, req))
	}
	for _, c := range held {
		c.Release()
	}
	for _, w := range wires {
		w.mute.Store(true)
	}
	time.Sleep(1100 * time.Millisecond) // idle for so long that they are looked at
	b.acquire(t, req).Release()
	require.EqualValues(t, 11, b.made.Load())
}
