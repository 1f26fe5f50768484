//go:build landlord_faults

package matrix_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// findings are what was promised and is not so.
type findings []string

func (f *findings) add(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Sprintf(format, args...))
	}
}

// invariants ends the tenant's work, and looks at everything that has to hold after a move that has come to end, whatever happened.
// I9 is enter's: it refuses a home that is being filled, and this sees that such a home never says that it is open.
func (r *removal) invariants(end placement.MovePhase) (load.Result, findings) {
	r.t.Helper()
	r.stop()
	got := <-r.result
	r.watcher.end()
	f := append(findings{}, r.watcher.findings...) // I2, I3: one open home at most, and epochs only rise

	// I1, and I8 after a roll-back
	f.add(got.Clean(), "I1: of %d acknowledged commits %d are lost and %d doubled, and %d calls failed: %q", got.Acked, got.Lost, got.Doubled, got.Errors, got.Findings)

	m, err := r.Catalog.Move(r.t.Context(), r.move.ID)
	require.NoError(r.t, err)
	f.add(m.Phase == end, "I6: the move is %s and not %s: %s", m.Phase, end, m.Error)
	f.add(!strings.Contains(m.Error, "after the cutover"), "I4: %s", m.Error)
	f.add(r.away || m.Pause < m.MaxPause, "I7: writers waited for %v", m.Pause)

	home, gone, epoch := m.Source, m.Target, m.Epoch
	switch end {
	case move.Done:
		home, gone, epoch = m.Target, m.Source, m.Epoch+1
	case move.Reverted:
		epoch = m.Epoch + 2
	}
	now, err := r.Catalog.Tenant(r.t.Context(), m.Tenant)
	require.NoError(r.t, err)
	f.add(now.State == placement.StateActive && now.Home == home.Home && now.Epoch == epoch,
		"I3: the catalog has the tenant %s at %s, epoch %d", now.State, now.Home, now.Epoch)
	stands, err := isolation.ReadFence(r.t.Context(), r.Super(r.t, home.Home.Database), isolation.FenceKey{Tenant: m.Tenant.String(), Home: home.Home.String()})
	f.add(err == nil && stands.State == isolation.Open && stands.Epoch == epoch, "I2: the home %s is %s, epoch %d (%v)", home.Home, stands.State, stands.Epoch, err)

	after := r.others()
	for table, hash := range r.before {
		f.add(after[table] == hash, "I5: other tenants' rows of %s have changed", table)
	}

	left, err := move.Residue(r.t.Context(), r.Catalog)
	f.add(err == nil && len(left) == 0, "I6: left behind: %+v (%v)", left, err)
	cleanups, err := r.Catalog.Cleanups(r.t.Context(), m.ID)
	f.add(err == nil && len(cleanups) == 0, "I6: still recorded as to be taken away: %+v (%v)", cleanups, err)
	f.add(!r.exists(gone), "I6: something is left of the home %s", gone.Home)
	return got, f
}

// others hashes the rows of all other tenants in the shared homes, table by table.
func (r *removal) others() map[string]string {
	r.t.Helper()
	hashes := map[string]string{}
	for _, cluster := range r.Clusters {
		c, err := r.Catalog.Cluster(r.t.Context(), cluster)
		require.NoError(r.t, err)
		conn := r.Super(r.t, c.SharedDatabase)
		for _, table := range []string{"customers", "orders", "order_lines"} {
			q := `select count(*) || ' rows ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from public.` + table + ` t where tenant_id <> $1`
			var hash string
			require.NoError(r.t, conn.QueryRow(r.t.Context(), q, r.tenant.Tenant.String()).Scan(&hash))
			hashes[cluster+"."+table] = hash
		}
		require.NoError(r.t, conn.Close(r.t.Context()))
	}
	return hashes
}

// exists tells whether anything of the tenant is at a place.
func (r *removal) exists(p placement.Place) (exists bool) {
	r.t.Helper()
	c, err := r.Catalog.Cluster(r.t.Context(), p.Home.Cluster)
	require.NoError(r.t, err)
	conn := r.Super(r.t, c.SharedDatabase)
	q, arg := `select exists (select from customers where tenant_id = $1) or exists (select from orders where tenant_id = $1)
    or exists (select from order_lines where tenant_id = $1)`, r.tenant.Tenant.String()
	switch p.Model {
	case placement.ModelDatabase:
		q, arg = `select exists (select from pg_database where datname = $1)`, p.Home.Database
	case placement.ModelSchema:
		q, arg = `select exists (select from pg_namespace where nspname = $1)`, p.Home.Schema
	}
	require.NoError(r.t, conn.QueryRow(r.t.Context(), q, arg).Scan(&exists))
	require.NoError(r.t, conn.Close(r.t.Context()))
	return exists
}

// watcher looks at the fence rows of both homes in turns, all the time.
type watcher struct {
	r        *removal
	stop     context.CancelFunc
	ended    chan struct{}
	findings findings // readable once ended is closed

	once    sync.Once
	highest int64  // epoch that was seen open
	where   string // the home that had it
}

func (r *removal) watch() *watcher {
	ctx, stop := context.WithCancel(context.Background())
	w := &watcher{r: r, stop: stop, ended: make(chan struct{})}
	go w.run(ctx)
	return w
}

func (w *watcher) end() {
	w.once.Do(func() {
		w.stop()
		<-w.ended
	})
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.ended)
	sides := []*sight{{home: w.r.move.Source.Home}, {home: w.r.move.Target.Home}}
	defer func() {
		for _, s := range sides {
			s.close()
		}
	}()
	turn := time.NewTicker(3 * time.Millisecond)
	defer turn.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		if f, ok := sides[i%2].look(ctx, w.r); ok {
			w.saw(f)
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
		}
	}
}

// saw takes a row down that was seen later than all before it. The homes never have the same epoch: whoever sees one open after a higher
// one was open has seen two open homes.
func (w *watcher) saw(f isolation.Fence) {
	if f.State != isolation.Open && !f.Overdue {
		return
	}
	w.findings.add(f.Epoch > w.highest || f.Epoch == w.highest && f.Home == w.where,
		"I2: %s is open at epoch %d, after %s was at epoch %d", f.Home, f.Epoch, w.where, w.highest)
	if f.Epoch > w.highest {
		w.highest, w.where = f.Epoch, f.Home
	}
}

// sight is a connection to a home's database, which need not be there.
type sight struct {
	home  placement.Home
	conn  *pgx.Conn
	retry time.Time
}

func (s *sight) look(ctx context.Context, r *removal) (isolation.Fence, bool) {
	if s.conn == nil {
		if time.Now().Before(s.retry) {
			return isolation.Fence{}, false
		}
		s.retry = time.Now().Add(50 * time.Millisecond)
		conn, err := pgx.Connect(ctx, pgtest.WithDatabase(r.Server.DSN, s.home.Database))
		if err != nil {
			return isolation.Fence{}, false
		}
		s.conn = conn
	}
	f, err := isolation.ReadFence(ctx, s.conn, isolation.FenceKey{Tenant: r.tenant.Tenant.String(), Home: s.home.String()})
	if s.conn.IsClosed() {
		s.close()
	}
	return f, err == nil
}

func (s *sight) close() {
	if s.conn != nil {
		_ = s.conn.Close(context.Background())
		s.conn = nil
	}
}
