package move_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// How long something is waited for that comes for sure, on a machine with much else to do, and how often it is looked for.
const (
	waitFor = 2 * time.Minute
	tick    = 20 * time.Millisecond
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// place is a model on a cluster.
type place struct {
	model   placement.Model
	cluster string
}

func (p place) String() string { return string(p.model) + "-" + p.cluster }

// removal is a house, a tenant with rows who is to be moved, a neighbour, and a mover.
type removal struct {
	*testhouse.House
	tenant    placement.Placement
	neighbour placement.Placement
	router    *router.Router
	mover     *move.Mover
}

func newRemoval(t *testing.T, opts testhouse.Options, from place, to place) *removal {
	t.Helper()
	r := &removal{House: testhouse.New(t, opts)}
	r.tenant = r.Add(t, "acme", from.model, from.cluster)
	r.neighbour = r.Add(t, "neighbour", placement.ModelShared, from.cluster)
	residents := []placement.Placement{r.tenant, r.neighbour}
	if from.cluster != to.cluster {
		residents = append(residents, r.Add(t, "stranger", placement.ModelShared, to.cluster))
	}
	r.router = r.Router(t)
	for _, p := range residents {
		_, err := r.router.Tenant(p.Tenant).Exec(t.Context(), `
with c as (insert into customers (email, name) select 'seed' || n || '@example.com', repeat('x', n % 50) from generate_series(1, 500) n returning id),
     o as (insert into orders (customer_id, currency) select id, 'EUR' from c returning id)
insert into order_lines (order_id, position, product, quantity, unit_price) select id, p, 'thing', p, 1.50 from o, generate_series(1, 3) p`)
		require.NoError(t, err)
	}
	r.mover = r.newMover(t)
	return r
}

func (r *removal) newMover(t *testing.T) *move.Mover {
	t.Helper()
	m, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service})
	require.NoError(t, err)
	return m
}

// begin records a move. Whatever it makes goes with the test.
func (r *removal) begin(t *testing.T, to place, change ...func(*placement.MoveRequest)) placement.Move {
	t.Helper()
	req := placement.MoveRequest{Tenant: r.tenant.Tenant, Model: to.model, Cluster: to.cluster}
	for _, c := range change {
		c(&req)
	}
	m, err := r.Catalog.BeginMove(t.Context(), req)
	require.NoError(t, err)
	r.Forget(t, m.At(true))
	t.Cleanup(func() { r.dropSlots(t, m) })
	return m
}

// dropSlots drops what would be in the way of dropping the databases of a failed test.
func (r *removal) dropSlots(t *testing.T, m placement.Move) {
	name := "landlord_move_" + compact(m.ID)
	r.SuperExec(t, "postgres", fmt.Sprintf(`
do $$ begin
    perform pg_terminate_backend(active_pid, 5000) from pg_replication_slots where starts_with(slot_name, '%[1]s') and active;
    perform pg_drop_replication_slot(slot_name) from pg_replication_slots where starts_with(slot_name, '%[1]s');
end $$`, name))
}

func compact(id string) string { return id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:] }

// drive drives a move to a goal. On a machine with much else to do a cutover may be given up, as it would be at a busy tenant.
func (r *removal) drive(t *testing.T, m placement.Move, goal move.Goal) placement.Move {
	t.Helper()
	for began := time.Now(); ; {
		now, err := r.mover.Drive(t.Context(), m.ID, goal)
		var busy *cutover.BusyError
		if errors.As(err, &busy) && time.Since(began) < waitFor {
			t.Logf("again: %v", err)
			continue
		}
		require.NoError(t, err)
		return now
	}
}

// livesAt asserts where the tenant is, and that it can work there.
func (r *removal) livesAt(t *testing.T, home placement.Home, epoch int64) {
	t.Helper()
	now, err := r.Catalog.Tenant(t.Context(), r.tenant.Tenant)
	require.NoError(t, err)
	require.Equal(t, home, now.Home)
	require.Equal(t, epoch, now.Epoch)
	_, err = r.router.Tenant(r.tenant.Tenant).Exec(t.Context(), `insert into customers (email, name) values ('at-' || $1 || '@example.com', '')`, fmt.Sprint(epoch, time.Now().UnixNano()))
	require.NoError(t, err)
}

// nothingLeft asserts that the tenant is active and that no server and no catalog has anything of a move.
func (r *removal) nothingLeft(t *testing.T, m placement.Move) {
	t.Helper()
	now, err := r.Catalog.Tenant(t.Context(), r.tenant.Tenant)
	require.NoError(t, err)
	require.Equal(t, placement.StateActive, now.State)
	left, err := move.Residue(t.Context(), r.Catalog)
	require.NoError(t, err)
	require.Empty(t, left)
	cleanups, err := r.Catalog.Cleanups(t.Context(), m.ID)
	require.NoError(t, err)
	require.Empty(t, cleanups)
	for _, p := range []placement.Placement{m.At(false), m.At(true)} {
		if p.Home != now.Home {
			r.noHome(t, p)
		}
	}
}

// noHome asserts that nothing of the tenant is at p's home.
func (r *removal) noHome(t *testing.T, p placement.Placement) {
	t.Helper()
	c, err := r.Catalog.Cluster(t.Context(), p.Home.Cluster)
	require.NoError(t, err)
	conn := r.Super(t, c.SharedDatabase)
	var exists bool
	switch p.Model {
	case placement.ModelDatabase:
		const q = `select exists (select from pg_database where datname = $1) or exists (select from pg_roles where rolname = $2)`
		require.NoError(t, conn.QueryRow(t.Context(), q, p.Home.Database, placement.DedicatedLogin(p.Home.Database)).Scan(&exists))
	case placement.ModelSchema:
		const q = `select exists (select from pg_namespace where nspname = $1)`
		require.NoError(t, conn.QueryRow(t.Context(), q, p.Home.Schema).Scan(&exists))
	case placement.ModelShared:
		const q = `select exists (select from customers where tenant_id = $1) or exists (select from order_lines where tenant_id = $1)`
		require.NoError(t, conn.QueryRow(t.Context(), q, p.Tenant.String()).Scan(&exists))
	}
	require.False(t, exists, "something is left at %s", p.Home)
}

// others is all that the shared homes have of other tenants: how many rows, and a hash over the rows and their versions, which
// also tells rows that were locked, or written again as they were.
func (r *removal) others(t *testing.T) map[string]string {
	t.Helper()
	hashes := map[string]string{}
	for _, cluster := range r.Clusters {
		c, err := r.Catalog.Cluster(t.Context(), cluster)
		require.NoError(t, err)
		conn := r.Super(t, c.SharedDatabase)
		for name, whose := range map[string]string{
			"public.customers": "tenant_id", "public.orders": "tenant_id", "public.order_lines": "tenant_id", "landlord.fence": "tenant",
		} {
			q := fmt.Sprintf(`
select count(*) || ' rows ' || coalesce(sum(hashtextextended((t.ctid, t.xmin, t.xmax, t)::text, 0)::numeric), 0) from %s t where %s::text <> $1`, name, whose)
			var hash string
			require.NoError(t, conn.QueryRow(t.Context(), q, r.tenant.Tenant.String()).Scan(&hash))
			hashes[cluster+" "+name] = hash
		}
		require.NoError(t, conn.Close(t.Context()))
	}
	return hashes
}

// writers are application code at work through a router, and what they were told.
type writers struct {
	r       *removal
	router  *router.Router
	stop    context.CancelFunc
	group   sync.WaitGroup
	acked   sync.Map // email: how often its row was changed afterwards
	unknown sync.Map // emails whose outcome the router could not tell
	count   atomic.Int64

	mu   sync.Mutex
	errs []error
}

// write begins to write.
func (r *removal) write(t *testing.T, n int) *writers {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &writers{r: r, router: r.Router(t), stop: stop}
	t.Cleanup(func() { stop(); w.group.Wait() })
	for i := range n {
		w.group.Go(func() { w.work(ctx, i) })
	}
	return w
}

// work makes customers with orders, changes them, and removes some.
func (w *writers) work(ctx context.Context, worker int) {
	db := w.router.Tenant(w.r.tenant.Tenant)
	for i := 0; ctx.Err() == nil; i++ {
		email := fmt.Sprintf("w%d-%d@example.com", worker, i)
		err := db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			var id, order int64
			if err := tx.QueryRow(ctx, `insert into customers (email, name) values ($1, '0') returning id`, email).Scan(&id); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, `insert into orders (customer_id, currency) values ($1, 'EUR') returning id`, id).Scan(&order); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `insert into order_lines (order_id, position, product, quantity, unit_price) values ($1, 1, 'p', 1, 1)`, order); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `update customers set name = '1' where id = $1`, id)
			return err
		})
		switch {
		case err == nil:
			w.acked.Store(email, true)
			w.count.Add(1)
		case ctx.Err() != nil, errors.Is(err, router.ErrOutcomeUnknown):
			w.unknown.Store(email, true)
		default:
			w.mu.Lock()
			w.errs = append(w.errs, err)
			w.mu.Unlock()
		}
	}
}

// more waits until n more transactions were acknowledged.
func (w *writers) more(t *testing.T, n int64) {
	t.Helper()
	until := w.count.Load() + n
	require.Eventually(t, func() bool { return w.count.Load() >= until }, waitFor, 5*time.Millisecond)
}

// done stops writing and asserts that every acknowledged transaction is at the tenant's home, whole and once, and that the application
// met no error.
func (w *writers) done(t *testing.T) {
	t.Helper()
	w.stop()
	w.group.Wait()
	require.Empty(t, w.errs)
	now, err := w.r.Catalog.Tenant(t.Context(), w.r.tenant.Tenant)
	require.NoError(t, err)
	conn := w.r.Super(t, now.Home.Database)
	_, err = conn.Exec(t.Context(), "set search_path = "+pgx.Identifier{now.Home.Schema}.Sanitize())
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `
select c.email, c.name, (select count(*) from orders o join order_lines l on (l.tenant_id, l.order_id) = (o.tenant_id, o.id)
                          where (o.tenant_id, o.customer_id) = (c.tenant_id, c.id))
  from customers c where c.tenant_id = $1 and c.email like 'w%'`, now.ID.String())
	require.NoError(t, err)
	found := map[string]bool{}
	var email, name string
	var lines int
	_, err = pgx.ForEachRow(rows, []any{&email, &name, &lines}, func() error {
		found[email] = true
		if name != "1" || lines != 1 {
			return fmt.Errorf("%s is not whole: %q, %d lines", email, name, lines)
		}
		if _, ok := w.acked.Load(email); ok {
			return nil
		}
		if _, ok := w.unknown.Load(email); ok {
			return nil
		}
		return fmt.Errorf("%s was never written", email)
	})
	require.NoError(t, err)
	lost := 0
	w.acked.Range(func(email, _ any) bool {
		if !found[email.(string)] {
			lost++
		}
		return true
	})
	require.Zero(t, lost, "of %d acknowledged transactions", w.count.Load())
	require.NoError(t, conn.Close(t.Context()))
}
