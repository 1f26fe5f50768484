package move_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// patient is an application that tries everything again until it is done.
type patient struct {
	r     *removal
	stop  context.CancelFunc
	group sync.WaitGroup
	mu    sync.Mutex // guards n
	n     int        // rows that were written, each with its number
}

func (r *removal) insist(t *testing.T) *patient {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	p := &patient{r: r, stop: stop}
	t.Cleanup(func() { stop(); p.group.Wait() })
	db := r.Router(t).Tenant(r.tenant.Tenant)
	p.group.Go(func() {
		for n := 1; ctx.Err() == nil; {
			_, err := db.Exec(ctx, `
insert into customers (email, name) values ($1, '0') on conflict (tenant_id, email) do update set name = (customers.name::int + 1)::text`,
				fmt.Sprintf("p%d@example.com", n))
			if err != nil {
				_ = sleep(ctx, 10*time.Millisecond)
				continue
			}
			p.mu.Lock()
			p.n = n
			p.mu.Unlock()
			n++
		}
	})
	return p
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (p *patient) written() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// more waits until n more rows were written.
func (p *patient) more(t *testing.T, n int) int {
	t.Helper()
	until := p.written() + n
	require.Eventually(t, func() bool { return p.written() >= until }, waitFor, tick)
	return until
}

// arrive waits until a row is at a home, which is not open.
func (p *patient) arrive(t *testing.T, home placement.Home, n int) {
	t.Helper()
	conn := p.r.Super(t, home.Database)
	q := fmt.Sprintf(`select exists (select from %q.customers where tenant_id = $1 and email = $2)`, home.Schema)
	require.Eventually(t, func() bool {
		var there bool
		require.NoError(t, conn.QueryRow(t.Context(), q, p.r.tenant.Tenant.String(), fmt.Sprintf("p%d@example.com", n)).Scan(&there))
		return there
	}, waitFor, tick, "row %d does not arrive", n)
	require.NoError(t, conn.Close(t.Context()))
}

// done stops, and asserts that every row that was written is at the tenant's home.
func (p *patient) done(t *testing.T, home placement.Home) {
	t.Helper()
	p.stop()
	p.group.Wait()
	var n int
	q := fmt.Sprintf(`
select count(distinct c.email) from %q.customers c join generate_series(1, $2) n on c.email = 'p' || n || '@example.com' where c.tenant_id = $1`, home.Schema)
	require.NoError(t, p.r.Super(t, home.Database).QueryRow(t.Context(), q, p.r.tenant.Tenant.String(), p.n).Scan(&n))
	require.Equal(t, p.n, n)
}

// The servers of both homes crash while the follower is at work, in both directions. It goes on by itself.
func TestServersOfBothHomesCrashAndTheMoveGoesOn(t *testing.T) {
	t.Parallel()
	servers := map[string]*pglocal.Server{"a": pgtest.OwnServer(t), "b": pgtest.OwnServer(t)}
	r := newRemoval(t, testhouse.Options{Apart: servers}, place{schema, "a"}, place{shared, "b"})
	others := r.others(t)
	m := r.begin(t, place{shared, "b"})
	ended := r.stay(t, m)
	app := r.insist(t)
	r.await(t, m, move.Verified)
	crash := func(to placement.Home) {
		t.Helper()
		for _, cluster := range []string{"b", "a"} {
			app.more(t, 3)
			require.NoError(t, servers[cluster].Kill(t.Context()))
			require.NoError(t, servers[cluster].Restart(t.Context()))
			app.arrive(t, to, app.more(t, 3))
		}
	}
	crash(m.Target.Home)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	crash(m.Source.Home)
	m, err := r.Catalog.Move(t.Context(), m.ID)
	require.NoError(t, err)
	require.Equal(t, move.Reversing, m.Phase)
	require.Empty(t, m.NoRollback)
	require.Empty(t, m.Error)
	r.ask(t, m, placement.AskRollback)
	m = r.await(t, m, move.Reverted)
	require.NoError(t, <-ended)
	app.more(t, 3)
	app.done(t, m.Source.Home)
	require.Equal(t, others, r.others(t))
	r.nothingLeft(t, m)
}
