package move_test

import (
	"context"
	"os"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// peak is the most that the heap has held of what was in use, as its collector saw it, until end is called.
type peak struct {
	stop chan struct{}
	done sync.WaitGroup
	most uint64
}

func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func watchHeap() *peak {
	p := &peak{stop: make(chan struct{})}
	p.done.Go(func() {
		for {
			p.most = max(p.most, live())
			select {
			case <-p.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return p
}

func (p *peak) end() uint64 {
	close(p.stop)
	p.done.Wait()
	return p.most
}

// One transaction as large as a tenant, committed when the cutover is asked for already, is waited for, and applied in parts: the
// mover never has all of it in memory. LANDLORD_SCALE=full makes it a million rows.
//
//nolint:paralleltest // what is measured is the heap of the process: nothing else may be at work in it
func TestLargeTransactionJustBeforeTheCutoverIsWaitedForAndNotKept(t *testing.T) {
	const most = 120 << 20 // bytes that may be in use
	rows, long := 50_000, 3300
	if os.Getenv("LANDLORD_SCALE") == "full" {
		rows, long = 1_000_000, 500
	}
	require.Greater(t, rows*long, 5*most/4, "it would not fit")
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{database, "b"})
	w := r.write(t, 1)
	m := r.begin(t, place{database, "b"}, func(req *placement.MoveRequest) { req.MaxPause = time.Second })
	ended := r.stay(t, m)
	r.await(t, m, move.Verified)

	heap := watchHeap()
	require.NoError(t, r.router.Tenant(r.tenant.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		const q = `insert into customers (email, name) select 'big' || n || '@example.com', repeat('x', $2) from generate_series(1, $1) n`
		if _, err := tx.Exec(ctx, q, rows, long); err != nil {
			return err
		}
		r.ask(t, m, placement.AskCutover)
		r.await(t, m, move.Fencing)
		return nil
	}))
	m = r.await(t, m, move.Reversing)
	used := heap.end()
	t.Logf("%d MB were in use at most, of about %d MB that were written; the pause was %v at attempt %d", used>>20, rows*long>>20, m.Pause, m.Attempts)
	require.Less(t, used, uint64(most))
	w.more(t, 3)

	var n int
	target := r.Super(t, m.Target.Home.Database)
	const q = `select count(*) from customers where email like 'big%' and length(name) = $1`
	require.NoError(t, target.QueryRow(t.Context(), q, long).Scan(&n))
	require.Equal(t, rows, n)
	require.NoError(t, target.Close(t.Context()))
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.NoError(t, <-ended)
	w.done(t)
	r.nothingLeft(t, m)
}
