package router_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// setBudget says how many connections routers may have open on cluster a.
func setBudget(t *testing.T, h *testhouse.House, connections int) {
	t.Helper()
	_, err := h.Catalog.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error {
		c.Connections = connections
		return nil
	})
	require.NoError(t, err)
}

// running is a router whose Run goes on until the test ends, with connections of its own name.
func running(t *testing.T, h *testhouse.House, app string, change ...func(*router.Config)) *router.Router {
	t.Helper()
	r := h.Router(t, append(change, func(cfg *router.Config) { cfg.AppName = app })...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	eventually(t, r.Sharing, "Run has begun")
	return r
}

// watchConnections counts the server's connections of the applications like app until stop, which returns the most at once.
func watchConnections(t *testing.T, h *testhouse.House, app string) (now func() int, stop func() int) {
	t.Helper()
	var last, most atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	super := h.Super(t, "postgres")
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			var n int64
			if super.QueryRow(ctx, `select count(*) from pg_stat_activity where application_name like $1`, app).Scan(&n) == nil {
				last.Store(n)
				most.Store(max(most.Load(), n))
			}
		}
	})
	return func() int { return int(last.Load()) }, func() int {
		cancel()
		watch.Wait()
		return int(most.Load())
	}
}

// load keeps callers busy until stop, which returns how many calls there were. Every call must succeed.
func load(t *testing.T, r *router.Router, ps []placement.Placement, callers int) (calls *atomic.Int64, stop func()) {
	t.Helper()
	calls = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				var got string
				p := ps[n%len(ps)]
				err := r.Tenant(p.Tenant).QueryRow(context.WithoutCancel(ctx), "select email from customers, pg_sleep(0.001)").Scan(&got)
				if err != nil || got != email(p) {
					t.Errorf("call of %s: %q, %v", p.Slug, got, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	return calls, func() {
		cancel()
		work.Wait()
	}
}

func TestProcessesShareAClustersConnections(t *testing.T) {
	t.Parallel()
	const budget = 6
	n := newNeighbours(t, testhouse.Options{})
	setBudget(t, n.House, budget)
	tenants := []placement.Placement{
		n.here[placement.ModelShared], n.here[placement.ModelSchema], n.here[placement.ModelDatabase],
		n.next(placement.ModelShared), n.next(placement.ModelSchema), n.next(placement.ModelDatabase),
	}
	app := n.Clusters[0] + " share " + n.NewID(t).String()[:8]
	now, stop := watchConnections(t, n.House, app+"%")

	first := running(t, n.House, app+" 1")
	callsOfFirst, stopFirst := load(t, first, tenants, 16)
	eventually(t, func() bool { return now() == budget }, "the first has the whole budget")

	second := running(t, n.House, app+" 2")
	callsOfSecond, stopSecond := load(t, second, tenants, 16)
	eventually(t, func() bool {
		return first.Stats().Pools[0].Limit == budget/2 && second.Stats().Pools[0].Limit == budget/2
	},
		"each has half")
	before := callsOfFirst.Load()
	eventually(t, func() bool { return callsOfFirst.Load() > before+50 && callsOfSecond.Load() > 50 }, "both are served")
	stopSecond()
	second.Close()
	eventually(t, func() bool { return first.Stats().Pools[0].Limit == budget }, "what the second gave back is the first's")
	stopFirst()
	require.LessOrEqual(t, stop(), budget)
}

func TestWithoutTheCatalogAProcessKeepsItsShareAndNeverGrows(t *testing.T) {
	t.Parallel()
	const budget = 4
	n := newNeighbours(t, testhouse.Options{})
	setBudget(t, n.House, budget)
	tenants := []placement.Placement{n.here[placement.ModelShared], n.here[placement.ModelSchema], n.here[placement.ModelDatabase]}
	proxy := faultnet.New(t, n.Server.Addr())
	dsn, err := proxy.Rewrite(n.CatalogDSN)
	require.NoError(t, err)
	app := n.Clusters[0] + " alone " + n.NewID(t).String()[:8]
	r := running(t, n.House, app, func(cfg *router.Config) { cfg.Catalog = n.OpenCatalog(t, dsn) })
	for _, p := range tenants {
		pid(t, r.Tenant(p.Tenant))
	}
	eventually(t, func() bool { return r.Stats().Pools[0].Limit == budget }, "the share is known")
	proxy.Cut()
	setBudget(t, n.House, 50)
	_, stop := watchConnections(t, n.House, app)
	calls, stopLoad := load(t, r, tenants, 16)
	eventually(t, func() bool { return calls.Load() > 200 }, "routing goes on")
	require.Equal(t, budget, r.Stats().Pools[0].Limit)
	proxy.Restore()
	eventually(t, func() bool { return r.Stats().Pools[0].Limit > budget }, "and the share grows again")
	stopLoad()
	require.Positive(t, stop())
}

// A tenant that asks for far more than there is waits for its own turns, not others for theirs.
func TestABusyTenantLeavesConnectionsToOthers(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	busy, quiet := n.here[placement.ModelShared], n.next(placement.ModelShared)
	r := n.Router(t, func(cfg *router.Config) { cfg.Pools.MaxConns, cfg.Pools.AcquireTimeout = 4, time.Minute })
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 200 {
		work.Go(func() { _, _ = r.Tenant(busy.Tenant).Exec(ctx, "select pg_sleep(60)") })
	}
	eventually(t, func() bool { s := r.Stats().Pools; return len(s) == 1 && s[0].Waiting == 198 }, "the busy one waits")
	for range 50 { // while none of its queries ends
		require.Contains(t, emails(t, r.Tenant(quiet.Tenant)), email(quiet))
	}
	require.Equal(t, 198, r.Stats().Pools[0].Waiting)
	cancel()
	work.Wait()
}

// Those who wait at the fence of a tenant that is being moved hold connections, and so count against its limit.
func TestATenantThatWaitsAtItsFenceLeavesConnectionsToOthers(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	moving, quiet := n.here[placement.ModelSchema], n.next(placement.ModelShared)
	r := n.Router(t, func(cfg *router.Config) { cfg.Pools.MaxConns = 4 })
	cut := n.Super(t, moving.Home.Database)
	tx, err := cut.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select pg_advisory_xact_lock(landlord.lock_key($1, $2, false))`, moving.Tenant.String(), moving.Home.String())
	require.NoError(t, err)
	var work sync.WaitGroup
	for range 30 {
		work.Go(func() { addOne(t, r.Tenant(moving.Tenant)) })
	}
	eventually(t, func() bool { s := r.Stats().Pools; return len(s) == 1 && s[0].InUse == 2 && s[0].Waiting == 28 }, "they wait")
	for range 20 {
		require.Contains(t, emails(t, r.Tenant(quiet.Tenant)), email(quiet))
	}
	require.NoError(t, tx.Rollback(t.Context()))
	work.Wait()
}

// A connection that has met many schemas is closed: what the server keeps of each of them never comes back otherwise.
func TestAConnectionThatHasMetManySchemasIsRetired(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	r := h.Router(t, one, func(cfg *router.Config) { cfg.Pools.MaxAffinities = 3 })
	pids := make(map[int]bool)
	for i := range 8 {
		p := h.Add(t, fmt.Sprintf("schema-%d", i), placement.ModelSchema, "a")
		pids[pid(t, r.Tenant(p.Tenant))] = true
		pids[pid(t, r.Tenant(p.Tenant))] = true
	}
	require.Len(t, pids, 3) // the fourth schema ends each but the last
	require.EqualValues(t, 2, r.Stats().Pools[0].Retired)
}
