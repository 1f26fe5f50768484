package pools_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/pools"
)

// Hundreds of pools share a server that lets in fewer connections than there are pools: everybody is served, the server
// never sees more connections than the budget, and none is closed while somebody uses it.
func TestManyPoolsLiveWithinOneBudget(t *testing.T) {
	t.Parallel()
	const budget, callers, calls, keys = 8, 24, 12, 100
	b := newBench(t, pools.Config{MaxConns: budget, AcquireTimeout: time.Minute})

	stop := make(chan struct{})
	most := make(chan int, 1)
	watcher, err := pgconn.Connect(t.Context(), pgtest.Server(t).DSN)
	require.NoError(t, err)
	defer watcher.Close(context.WithoutCancel(t.Context()))
	go func() {
		seen := 0
		for {
			rows, err := watcher.Exec(t.Context(), "select count(*) from pg_stat_activity where application_name = '"+b.app+"'").ReadAll()
			if err == nil {
				n, _ := strconv.Atoi(string(rows[0].Rows[0][0]))
				seen = max(seen, n)
			}
			select {
			case <-stop:
				most <- seen
				return
			default:
			}
		}
	}()

	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				key := strconv.Itoa(rand.IntN(keys))
				conn, err := b.Acquire(t.Context(), b.request(t, ofPool(key), forClient(key)))
				if !assertNoError(t, err) {
					return
				}
				_, err = conn.PgConn().Exec(t.Context(), "select 1").ReadAll()
				conn.Release()
				assertNoError(t, err)
			}
		})
	}
	wg.Wait()
	close(stop)
	seen := <-most
	require.Positive(t, seen)
	require.LessOrEqual(t, seen, budget)
	s := b.stats(t)
	require.Positive(t, s.Evicted)
	require.Zero(t, s.Exhausted)
	require.LessOrEqual(t, s.Open, budget)
}

func assertNoError(t *testing.T, err error) bool {
	if err != nil {
		t.Errorf("unexpected: %v", err)
	}
	return err == nil
}

func TestAClientNeverTakesAllConnectionsAndOthersComeFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 4, AcquireTimeout: time.Minute})
	release := make(chan struct{})
	var greedy atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			conn, err := b.Acquire(t.Context(), b.request(t, forClient("greedy")))
			if assertNoError(t, err) {
				greedy.Add(1)
				<-release
				conn.Release()
			}
		})
	}
	eventually(t, func() bool { return len(b.Stats()) == 1 && greedy.Load() == 2 && b.stats(t).Waiting == 198 })
	for i := range 20 { // others are served while 198 calls of the greedy one wait
		first := b.acquire(t, b.request(t, forClient("modest "+strconv.Itoa(i))))
		second := b.acquire(t, b.request(t, forClient("other "+strconv.Itoa(i))))
		first.Release()
		second.Release()
	}
	require.EqualValues(t, 2, greedy.Load())
	close(release)
	wg.Wait()
	require.EqualValues(t, 200, greedy.Load())
}

func TestTheClientWithTheFewestConnectionsComesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 3, MaxPerClient: 3, AcquireTimeout: time.Minute})
	a1, a2 := b.acquire(t, b.request(t, forClient("a"))), b.acquire(t, b.request(t, forClient("a")))
	b1 := b.acquire(t, b.request(t, forClient("b")))
	moreOfA := b.acquireLater(t, b.request(t, forClient("a")), 1)
	moreOfB := b.acquireLater(t, b.request(t, forClient("b")), 2)
	newcomer := b.acquireLater(t, b.request(t, forClient("c")), 3)

	a1.Release()
	c := <-newcomer // has none, the others one each
	a2.Release()
	a := <-moreOfA // has none by now
	b1.Release()
	(<-moreOfB).Release()
	a.Release()
	c.Release()
}

// acquireLater asks for a connection on a goroutine of its own and returns once as many wait.
func (b *bench) acquireLater(t *testing.T, req pools.Request, waiting int) <-chan *pools.Conn {
	t.Helper()
	got := make(chan *pools.Conn, 1)
	go func() {
		conn, err := b.Acquire(t.Context(), req)
		if assertNoError(t, err) {
			got <- conn
		}
	}()
	eventually(t, func() bool { return b.stats(t).Waiting == waiting })
	return got
}

func TestTheConnectionIdleLongestMakesRoomAndNoneInUse(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 3, AcquireTimeout: time.Minute})
	pids := make(map[string]uint32)
	conns := make(map[string]*pools.Conn)
	for _, pool := range []string{"a", "b", "c"} {
		conns[pool] = b.acquire(t, b.request(t, ofPool(pool)))
		pids[pool] = conns[pool].PgConn().PID()
	}
	late := b.acquireLater(t, b.request(t, ofPool("d")), 1)
	require.Empty(t, late) // nothing in use is closed
	conns["b"].Release()
	d := <-late
	conns["a"].Release()
	conns["c"].Release()
	require.NoError(t, d.PgConn().Ping(t.Context()))

	b.acquire(t, b.request(t, ofPool("e"))).Release() // in place of a, which came back before c
	c := b.acquire(t, b.request(t, ofPool("c")))
	require.Equal(t, pids["c"], c.PgConn().PID())
	require.EqualValues(t, 2, b.stats(t).Evicted)
	c.Release()
	d.Release()
}

// Two pools take turns on one connection. Closing it for each caller costs more than letting those of one pool go first, as
// long as nobody waits for long.
func TestAConnectionServesItsPoolsCallersBeforeItIsClosedForOthers(t *testing.T) {
	t.Parallel()
	const callers = 40
	b, _, req := newFakeBench(t, pools.Config{MaxConns: 1, AcquireTimeout: time.Minute})
	evicted := func(waitFirst time.Duration) int64 {
		held := b.acquire(t, req)
		before := b.stats(t).Evicted
		var work sync.WaitGroup
		for i := range callers {
			mine := req
			mine.Pool, mine.Client = []string{"pool", "other"}[i%2], strconv.Itoa(i)
			work.Go(func() {
				conn, err := b.Acquire(t.Context(), mine)
				if assertNoError(t, err) {
					conn.Release()
				}
			})
		}
		eventually(t, func() bool { return b.stats(t).Waiting == callers })
		time.Sleep(waitFirst)
		held.Release()
		work.Wait()
		return b.stats(t).Evicted - before
	}
	patient, impatient := evicted(0), evicted(60*time.Millisecond)
	require.Greater(t, impatient, int64(callers/4), "strictly by turns")
	require.Less(t, patient, impatient)
}

func TestALimitThatFallsClosesWhatIsIdleAndLaterTheRest(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 4, AcquireTimeout: time.Minute})
	var held []*pools.Conn
	for range 4 {
		held = append(held, b.acquire(t, b.request(t)))
	}
	held[0].Release()
	b.SetLimit("server", 2)
	eventually(t, func() bool { return b.stats(t).Open == 3 })
	require.Equal(t, 3, b.stats(t).InUse)
	waiting := b.acquireLater(t, b.request(t), 1)
	held[1].Release()
	eventually(t, func() bool { return b.stats(t).Open == 2 })
	require.Empty(t, waiting)
	held[2].Release()
	(<-waiting).Release()
	held[3].Release()
	require.Equal(t, 2, b.stats(t).Open)

	b.SetLimit("server", 0)
	eventually(t, func() bool { return b.stats(t).Open == 0 })
	none := b.acquireLater(t, b.request(t), 1)
	select {
	case <-b.Starved():
	default:
		require.Fail(t, "nobody was told that the limit is too low")
	}
	b.SetLimit("server", 1)
	(<-none).Release()
}

func TestDemandIsThePeakSinceItWasLastAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 2, AcquireTimeout: time.Minute})
	first, second := b.acquire(t, b.request(t)), b.acquire(t, b.request(t))
	third := b.acquireLater(t, b.request(t), 1)
	first.Release()
	second.Release()
	(<-third).Release()
	require.Equal(t, []pools.Demand{{Server: "server", Limit: 2, Open: 2, Peak: 3}}, b.Demands())
	require.Equal(t, []pools.Demand{{Server: "server", Limit: 2, Open: 2, Peak: 0}}, b.Demands())
}

func TestAnIdleConnectionIsClosedInTheEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxIdleTime: 50 * time.Millisecond})
	first, second := b.acquire(t, b.request(t, ofPool("a"))), b.acquire(t, b.request(t, ofPool("b")))
	first.Release()
	eventually(t, func() bool { return b.stats(t).Open == 1 })
	require.NoError(t, second.PgConn().Ping(t.Context()))
	second.Release()
	eventually(t, func() bool { return b.stats(t).Open == 0 })
}

func TestAnOldConnectionIsClosedWhenItComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxLifetime: time.Nanosecond})
	b.acquire(t, b.request(t)).Release()
	eventually(t, func() bool { s := b.stats(t); return s.Open == 0 && s.Retired == 1 })
}

// Affinities stay on few connections: fifty of them, asked for in turn, are spread over the pool's connections, and each
// meets the same one again.
func TestAnAffinityMeetsTheSameConnectionAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 20})
	home := make(map[string]uint32)
	served := make(map[uint32]int)
	for round := range 3 {
		for i := range 50 {
			affinity := fmt.Sprintf("schema %d", i)
			conn := b.acquire(t, b.request(t, with(affinity)))
			pid := conn.PgConn().PID()
			conn.Release()
			if round == 0 {
				home[affinity] = pid
				served[pid]++
			}
			require.Equal(t, home[affinity], pid)
		}
	}
	require.Greater(t, len(served), 1)
	require.LessOrEqual(t, len(served), 8)
}

func TestAConnectionEndsAfterManyAffinities(t *testing.T) {
	t.Parallel()
	b := newBench(t, pools.Config{MaxConns: 1, MaxAffinities: 10})
	pids := make(map[uint32]int)
	for i := range 66 {
		conn := b.acquire(t, b.request(t, with(strconv.Itoa(i))))
		pids[conn.PgConn().PID()]++
		conn.Release()
	}
	require.Len(t, pids, 6) // eleven each: the one too many ends it
	for _, n := range pids {
		require.Equal(t, 11, n)
	}
	require.EqualValues(t, 6, b.stats(t).Retired)
}
