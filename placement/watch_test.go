package placement_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// Tests wait on what must happen; these only bound how long a broken one hangs.
const (
	waitMost = time.Minute
	waitStep = 5 * time.Millisecond
	never    = time.Hour // a poll that cannot be what delivered
)

// signalOnLog is a logger that signals each line.
func signalOnLog(to chan struct{}) *slog.Logger { return slog.New(signalHandler{to}) }

type signalHandler struct{ to chan struct{} }

func (signalHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h signalHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h signalHandler) WithGroup(string) slog.Handler          { return h }

func (h signalHandler) Handle(context.Context, slog.Record) error {
	select {
	case h.to <- struct{}{}:
	default:
	}
	return nil
}

// watch is a Watch that runs for the test, and what it was told.
type watch struct {
	changes chan tenant.ID
	resets  chan struct{}
}

func startWatch(t testing.TB, c *placement.Catalog, poll time.Duration) watch {
	t.Helper()
	w := watch{changes: make(chan tenant.ID, 10000), resets: make(chan struct{}, 10000)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, placement.Watcher{
			OnChange: func(id tenant.ID) { w.changes <- id },
			OnReset:  func() { w.resets <- struct{}{} },
			Poll:     poll,
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return w
}

func (w watch) requireReset(t testing.TB) {
	t.Helper()
	select {
	case <-w.resets:
	case <-time.After(waitMost):
		require.Fail(t, "no reset came")
	}
}

func (w watch) requireChange(t testing.TB, id tenant.ID) {
	t.Helper()
	select {
	case got := <-w.changes:
		require.Equal(t, id, got)
	case <-time.After(waitMost):
		require.Fail(t, "no change came")
	}
}

func TestWatchTellsWhatChangesWhileConnected(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	before := place(t, c, placement.Request{Slug: "before"})
	w := startWatch(t, c, never)
	w.requireReset(t) // whatever was cached before the first connection may be old

	p := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelDatabase})
	w.requireChange(t, p.Tenant)
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	w.requireChange(t, p.Tenant)
	// A dedicated database concerns its tenant, a shared one everybody.
	d := aDatabase("a", p.Home.Database)
	d.Model = placement.ModelDatabase
	require.NoError(t, c.PutDatabase(t.Context(), d))
	w.requireChange(t, p.Tenant)
	require.NoError(t, c.PutDatabase(t.Context(), aDatabase("a", "app")))
	w.requireReset(t)
	require.NoError(t, c.DeleteTenant(t.Context(), before.Tenant))
	w.requireChange(t, before.Tenant)
	// So does an endpoint; but not what only decides about new tenants.
	update := func(alter func(*placement.Cluster)) {
		_, err := c.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error { alter(c); return nil })
		require.NoError(t, err)
	}
	update(func(c *placement.Cluster) { c.State = placement.ClusterFull })
	update(func(c *placement.Cluster) { c.App = "env:ROTATED" })
	w.requireReset(t)
	require.Empty(t, w.resets)
	require.Empty(t, w.changes)
}

func TestWatchDeliversWhatChangedWhileItWasCut(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	net, through := proxied(t, dsn)
	lost := make(chan struct{}, 1000)
	w := startWatch(t, open(t, placement.Config{DSN: through, Logger: signalOnLog(lost)}), never)
	w.requireReset(t)

	net.Cut()
	<-lost
	var placed []tenant.ID
	for i := range 3 {
		placed = append(placed, place(t, c, placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%d", i))}).Tenant)
	}
	require.Empty(t, w.changes)
	net.Restore()
	for _, id := range placed {
		w.requireChange(t, id)
	}
	require.Empty(t, w.resets, "the log says exactly what was missed")
}

func TestWatchFindsOutThatTheNetworkIsSilent(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	net, through := proxied(t, dsn+"&connect_timeout=1")
	lost := make(chan struct{}, 1000)
	watching := open(t, placement.Config{DSN: through, Logger: signalOnLog(lost), Timeout: 200 * time.Millisecond})
	w := startWatch(t, watching, 20*time.Millisecond)
	w.requireReset(t)

	net.Blackhole()
	<-lost // only the poll can have found it: nothing was closed
	p := place(t, c, placement.Request{Slug: "acme"})
	require.Empty(t, w.changes)
	net.Restore()
	w.requireChange(t, p.Tenant)
}

func TestWatchSurvivesTheEndOfItsSession(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	w := startWatch(t, open(t, placement.Config{DSN: dsn + "&application_name=watch"}), never)
	w.requireReset(t)
	conn := connect(t, dsn)
	for i := range 3 {
		exec(t, conn, `
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'watch'`)
		p := place(t, c, placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%d", i))})
		w.requireChange(t, p.Tenant)
	}
}

func TestWatchPollsWhereNotificationsAreSwallowed(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	// What a pooler in transaction mode amounts to.
	exec(t, connect(t, dsn), `
create or replace function landlord.append_placement_log() returns trigger language plpgsql as $$
begin
    perform landlord.lock_placement();
    select coalesce(max(seq), 0) + 1, clock_timestamp() into new.seq, new.at from landlord.placement_log;
    return new;
end $$`)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	w := startWatch(t, c, 10*time.Millisecond)
	w.requireReset(t)
	for i := range 3 {
		w.requireChange(t, place(t, c, placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%d", i))}).Tenant)
	}
}

func TestWatchMissesNothingOfManyWriters(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, MaxConns: 8})
	addClusters(t, c, aCluster("a"))
	net, through := proxied(t, dsn)
	w := startWatch(t, open(t, placement.Config{DSN: through}), 50*time.Millisecond)
	w.requireReset(t)
	const writers, each = 8, 10
	group, ctx := errgroup.WithContext(t.Context())
	for i := range writers {
		group.Go(func() error {
			for j := range each {
				slug := tenant.Slug(fmt.Sprintf("t-%d-%d", i, j))
				if _, _, err := c.Place(ctx, placement.Request{Slug: slug, Model: placement.ModelShared}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	seen := map[tenant.ID]int{}
	for i := range writers * each {
		if i%20 == 10 {
			net.Cut()
			net.Restore()
		}
		select {
		case id := <-w.changes:
			seen[id]++
		case <-time.After(waitMost):
			require.Fail(t, "a change was missed")
		}
	}
	require.NoError(t, group.Wait())
	require.Len(t, seen, writers*each, "each exactly once")
}

func TestWatchStartsBeforeTheCatalogIsThere(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{}, 1000)
	c := emptyCatalogWith(t, signalOnLog(failed))
	w := startWatch(t, c, never)
	<-failed
	_, err := c.Init(t.Context(), tenant.UUID)
	require.NoError(t, err)
	w.requireReset(t)
	addClusters(t, c, aCluster("a"))
	w.requireChange(t, place(t, c, placement.Request{Slug: "acme"}).Tenant)
}

func TestWatchNoticesACatalogFromABackup(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	lost := make(chan struct{}, 1000)
	net, through := proxied(t, dsn)
	w := startWatch(t, open(t, placement.Config{DSN: through, Logger: signalOnLog(lost)}), never)
	w.requireReset(t)
	p := place(t, c, placement.Request{Slug: "acme"})
	w.requireChange(t, p.Tenant)

	// Back to one row, and then on to a number beyond the cursor, by another history.
	net.Cut()
	<-lost
	conn := connect(t, dsn)
	exec(t, conn, `alter table landlord.placement_log disable trigger append_only`)
	exec(t, conn, `delete from landlord.placement_log where seq > 1`)
	for _, slug := range []tenant.Slug{"x", "y", "z"} {
		place(t, c, placement.Request{Slug: slug})
	}
	net.Restore()
	w.requireReset(t)
	require.Empty(t, w.changes)
	w.requireChange(t, place(t, c, placement.Request{Slug: "later"}).Tenant)
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, c.Watch(ctx, placement.Watcher{OnChange: func(tenant.ID) {}, OnReset: func() {}}))
	require.ErrorContains(t, c.Watch(t.Context(), placement.Watcher{}), "is missing")
}

// What a router's login needs: reading is enough.
func TestReaderOfTheCatalogRoutesAndWatches(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme"})
	login, as := newLogin(t, dsn, "")
	admin, quoted := connect(t, dsn), pgx.Identifier{login}.Sanitize()
	exec(t, admin, "grant usage on schema landlord to "+quoted)
	exec(t, admin, "grant select on all tables in schema landlord to "+quoted)

	reader := open(t, placement.Config{DSN: as})
	route, err := reader.Route(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.Equal(t, p, route.Placement)
	w := startWatch(t, reader, never)
	w.requireReset(t)
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	w.requireChange(t, p.Tenant)
	require.Error(t, reader.SetState(t.Context(), p.Tenant, placement.StateSuspended))
	steps, err := reader.Init(t.Context(), tenant.UUID)
	require.Error(t, err)
	require.Empty(t, steps)
}
