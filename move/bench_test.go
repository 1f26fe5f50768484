package move_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/internal/pairs/race"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// newBench builds a house on a server that flushes its commits to a disk.
func newBench(b *testing.B) *testhouse.House {
	b.Helper()
	return testhouse.New(b, testhouse.Options{Own: pgtest.DiskServer(b)})
}

// seed gives a tenant customers with an order of three lines each.
func seed(b *testing.B, h *testhouse.House, p placement.Placement, customers int) {
	b.Helper()
	_, err := h.Router(b).Tenant(p.Tenant).Exec(b.Context(), `
with c as (insert into customers (email, name) select 'seed' || n || '@example.com', repeat('x', n % 50) from generate_series(1, $1) n returning id),
     o as (insert into orders (customer_id, currency) select id, 'EUR' from c returning id)
insert into order_lines (order_id, position, product, quantity, unit_price) select id, p, 'thing', p, 1.50 from o, generate_series(1, 3) p`, customers)
	require.NoError(b, err)
	h.SuperExec(b, p.Home.Database, "vacuum analyze")
}

// phases calls a function when a move has come to a phase. What else is logged is left out.
type phases struct {
	slog.Handler
	come func(move.Phase)
}

func (p phases) Enabled(context.Context, slog.Level) bool { return true }

func (p phases) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "phase" {
			p.come(move.Phase(a.Value.String()))
		}
		return true
	})
	return nil
}

func newMover(b *testing.B, h *testhouse.House, homes move.Homes, come func(move.Phase)) *move.Mover {
	b.Helper()
	m, err := move.New(move.Config{Catalog: h.Catalog, Homes: homes, Logger: slog.New(phases{slog.DiscardHandler, come})})
	require.NoError(b, err)
	return m
}

// unmaking calls a function before a home is taken away.
type unmaking struct {
	move.Homes
	begins func()
}

func (u unmaking) Unmake(ctx context.Context, p placement.Placement) error {
	u.begins()
	return u.Homes.Unmake(ctx, p)
}

// crossing measures the longest time between two acknowledged commits while a tenant is passed on.
type crossing struct {
	load  *load.Load
	under string                     // what is under way; empty: nothing
	gaps  map[string][]time.Duration // by what was
}

func (c *crossing) begin(what string) {
	if c.under == "" { // else it is tried again
		c.load.TakeGap()
		c.under = what
	}
}

func (c *crossing) end(what string) {
	if c.under == what {
		c.gaps[what] = append(c.gaps[what], c.load.TakeGap())
		c.under = ""
	}
}

// What is measured, and what it is measured beside.
const quiet, passedOn, passedBack = "quiet", "cutover", "rollback"

// BenchmarkCutover moves a tenant there and back while 16 writers work for it, each 5 ms after its last answer, and reports the longest
// time between two of their acknowledged commits: while it is passed on, while it is passed back, and in half a second before each move.
// A cutover counts from the phase fencing until the new home is open and the stream to it is gone, a rollback from rolling back until the
// home that was left begins to be taken away; one that was tried again counts once, with all its attempts. "server" is how long the
// writers waited as the old home's server saw it. At the end every acknowledged commit must be there once.
func BenchmarkCutover(b *testing.B) {
	const cycles = 25 // of each transition
	h := newBench(b)
	gaps, pauses := map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, tr := range []struct {
		slug     string
		from, to place
	}{
		{"promoted", place{shared, "a"}, place{database, "b"}},
		{"demoted", place{schema, "a"}, place{shared, "b"}},
	} {
		p := h.Add(b, tr.slug, tr.from.model, tr.from.cluster)
		seed(b, h, p, 2000)
		l := load.New(load.Config{DB: h.Router(b).Tenant(p.Tenant), Writers: 16, Think: 5 * time.Millisecond})
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan load.Result, 1)
		go func() {
			got, err := l.Run(ctx)
			require.NoError(b, err)
			done <- got
		}()
		require.Eventually(b, func() bool { return l.TakeGap() > 0 }, waitFor, tick, "at work")
		c := &crossing{load: l, gaps: gaps}
		mover := newMover(b, h, unmaking{h.Service, func() { c.end(passedBack) }}, func(at move.Phase) {
			switch at {
			case move.Fencing:
				c.begin(passedOn)
			case move.Reversing:
				c.end(passedOn)
			case move.RollingBack:
				c.begin(passedBack)
			}
		})
		for range cycles {
			c.begin(quiet)
			time.Sleep(time.Second / 2)
			c.end(quiet)
			m := begin(b, h, p, tr.to)
			m = drive(b, mover, m, move.ToReversing)
			pauses[passedOn] = append(pauses[passedOn], m.Pause)
			m = drive(b, mover, m, move.ToReverted)
			pauses[passedBack] = append(pauses[passedBack], m.Pause)
		}
		stop()
		got := <-done
		require.True(b, got.Clean(), "%+v", got)
	}
	for _, what := range []string{quiet, passedOn, passedBack} {
		metrics := race.Milliseconds(gaps[what])
		if all := pauses[what]; len(all) > 0 {
			server := race.Milliseconds(all)
			metrics["server-p50-ms"], metrics["server-p99-ms"] = server["p50-ms"], server["p99-ms"]
		}
		race.Report(b, what, metrics)
	}
}

func begin(b *testing.B, h *testhouse.House, p placement.Placement, to place, change ...func(*placement.MoveRequest)) placement.Move {
	b.Helper()
	request := placement.MoveRequest{Tenant: p.Tenant, Model: to.model, Cluster: to.cluster}
	for _, c := range change {
		c(&request)
	}
	m, err := h.Catalog.BeginMove(b.Context(), request)
	require.NoError(b, err)
	return m
}

// drive drives a move to a goal, however long it has to wait for a better moment.
func drive(b *testing.B, mover *move.Mover, m placement.Move, goal move.Goal) placement.Move {
	b.Helper()
	for {
		now, err := mover.Drive(b.Context(), m.ID, goal)
		if busy := new(cutover.BusyError); errors.As(err, &busy) {
			b.Log(err)
			continue
		}
		require.NoError(b, err)
		return now
	}
}

// paces are the rates at which BenchmarkNeighbours copies, in bytes a second. 0: as fast as it can.
var paces = []struct {
	name string
	rate int64
}{{"copying", 0}, {"copying-at-5MB", 5 << 20}, {"copying-at-2MB", 2 << 20}}

// BenchmarkNeighbours has four other tenants of a shared home work, each statement 5 ms after the last, and by turns begins to copy a
// large tenant of that home to another cluster, at several rates, and leaves it alone. It reports how long the neighbours' statements
// took meanwhile, and how many bytes a second were copied; what began in one period and ended in another is left out.
func BenchmarkNeighbours(b *testing.B) {
	const rounds, pause, longest = 6, 2 * time.Second, 4 * time.Second // longest: what is seen of a copy
	h := newBench(b)
	p := h.Add(b, "large", shared, "a")
	seed(b, h, p, 100_000)
	r := h.Router(b)

	var now atomic.Value // the period; empty: none that counts
	now.Store("")
	ctx, stop := context.WithCancel(b.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	var mu sync.Mutex
	took := map[string][]time.Duration{} // by period
	for i := range 4 {
		n := h.Add(b, fmt.Sprintf("neighbour-%d", i), shared, "a")
		seed(b, h, n, 1000)
		db := r.Tenant(n.Tenant)
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				q := `update customers set name = repeat('y', $1 % 50) where email = 'seed' || (1 + $1 % 1000) || '@example.com'`
				if i%2 == 0 {
					q = `select from customers c join orders o on o.customer_id = c.id where email = 'seed' || (1 + $1 % 1000) || '@example.com'`
				}
				period, began := now.Load(), time.Now()
				tag, err := db.Exec(ctx, q, i*37)
				if ctx.Err() == nil && (err != nil || tag.RowsAffected() != 1) {
					b.Errorf("a neighbour's statement met %d rows: %v", tag.RowsAffected(), err)
					return
				}
				if period == now.Load() {
					mu.Lock()
					took[period.(string)] = append(took[period.(string)], time.Since(began))
					mu.Unlock()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	bytes, seconds := map[string]float64{}, map[string]float64{}
	for range rounds {
		for _, pace := range paces {
			now.Store(quiet)
			time.Sleep(pause)
			now.Store("")
			m := begin(b, h, p, place{database, "b"}, func(r *placement.MoveRequest) { r.MaxRate = pace.rate })
			copied, lasted := copyFor(b, h, m, longest, func(copying bool) {
				now.Store(map[bool]string{true: pace.name}[copying])
			})
			bytes[pace.name] += float64(copied)
			seconds[pace.name] += lasted.Seconds()
			drive(b, newMover(b, h, h.Service, func(move.Phase) {}), m, move.ToAborted)
		}
	}
	stop()
	work.Wait()
	alone := race.Milliseconds(took[quiet])
	race.Report(b, quiet, alone)
	for _, pace := range paces {
		beside := race.Milliseconds(took[pace.name])
		for _, unit := range []string{"p50", "p99"} {
			beside["x-quiet-"+unit] = beside[unit+"-ms"] / alone[unit+"-ms"]
		}
		beside["MB/s"] = bytes[pace.name] / seconds[pace.name] / (1 << 20)
		race.Report(b, pace.name, beside)
	}
}

// copyFor drives a move until its copy is complete, or has lasted for so long, and returns how many bytes were copied in what time. It
// says when the copy begins and when it ends.
func copyFor(b *testing.B, h *testhouse.House, m placement.Move, longest time.Duration, say func(copying bool)) (bytes int64, lasted time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var began time.Time
	end := sync.OnceFunc(func() {
		say(false)
		lasted = time.Since(began)
		cancel()
	})
	mover := newMover(b, h, h.Service, func(at move.Phase) {
		switch {
		case at == move.Copying:
			began = time.Now()
			time.AfterFunc(longest, end)
			say(true)
		case !began.IsZero():
			end()
		}
	})
	m, err := mover.Drive(ctx, m.ID, move.Ready)
	require.ErrorIs(b, err, context.Canceled)
	now, err := mover.Look(b.Context(), m)
	require.NoError(b, err)
	end() // done before, and its results are to be seen
	return now.Move.Bytes, lasted
}
