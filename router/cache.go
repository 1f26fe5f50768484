package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/singleflight"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

const (
	// unknownFor is how long "unknown tenant" is remembered.
	unknownFor = time.Second
	// unknownSize bounds those memories, apart from the placements: made-up ids push out no real tenant.
	unknownSize = 10_000
	// reloadEvery is how often the catalog is asked about a placement that its home refuses.
	reloadEvery = 20 * time.Millisecond
	// retryEvery is how often the catalog, once found down, is asked about a placement that is cached.
	retryEvery = time.Second
)

// route is where one tenant's transactions go.
type route struct {
	entry   isolation.Entry
	schema  string  // of a schema home; empty: the login's own search_path
	target  *target // shared by all tenants of a database
	demand  *demand // nil: none
	request pools.Request
	model   placement.Model
	series  int          // see stats.series
	stale   atomic.Bool  // the catalog has changed it since
	told    atomic.Bool  // a home has told of it that the tenant has left: the catalog may not know yet
	asked   atomic.Int64 // when reload last asked about it, in nanoseconds since 1970
}

// target is one database as the application's login reaches it.
type target struct {
	key     string // what its pool is found by
	cluster placement.Cluster
	db      placement.Database
	connect func(context.Context) (*pgconn.PgConn, error)
	demand  demand // of the tables that its tenants share, or of a dedicated database's
}

// cache keeps placements. They are an optimisation: the home itself refuses a stale one, so they are served without limit
// of age while the catalog is down.
type cache struct {
	catalog *placement.Catalog
	connect func(context.Context, *target) (*pgconn.PgConn, error)
	meet    func(cluster string) // a cluster is seen for the first time
	stats   *stats
	version int64 // that homes must have; 0: any
	loading singleflight.Group
	routes  *lru.Cache[tenant.ID, *route]
	unknown *lru.Cache[tenant.ID, time.Time]
	changes atomic.Int64 // invalidations so far: what was asked for before one may be old
	retryAt atomic.Int64 // when the catalog, found down, is asked again, in nanoseconds since 1970; 0: it answers

	hits, misses, served atomic.Int64 // see CacheStats; served while stale

	keeping sync.Mutex // held while a route is compared with the one that is kept, and takes its place

	mu       sync.Mutex // guards what follows
	targets  *lru.Cache[string, *target]
	clusters map[string]placement.Cluster // as they were told last
	met      map[string]bool              // clusters that routes lead to
	learned  time.Time                    // when all clusters were asked for
}

func newCache(catalog *placement.Catalog, size int, stats *stats) (*cache, error) {
	routes, err := lru.New[tenant.ID, *route](size)
	if err != nil {
		return nil, fmt.Errorf("make the placement cache: %w", err)
	}
	unknown, err := lru.New[tenant.ID, time.Time](unknownSize)
	if err != nil {
		return nil, fmt.Errorf("make the placement cache: %w", err)
	}
	targets, err := lru.New[string, *target](size) // databases: never more than tenants
	if err != nil {
		return nil, fmt.Errorf("make the placement cache: %w", err)
	}
	return &cache{
		catalog: catalog, stats: stats, routes: routes, unknown: unknown, targets: targets,
		clusters: make(map[string]placement.Cluster), met: make(map[string]bool),
	}, nil
}

// resolve returns where id lives, from the cache if it can.
func (c *cache) resolve(ctx context.Context, id tenant.ID) (*route, error) {
	known, ok := c.routes.Get(id)
	if ok && !known.stale.Load() {
		c.hits.Add(1)
		return known, nil
	}
	if since, ok := c.unknown.Get(id); ok && time.Since(since) < unknownFor {
		c.hits.Add(1)
		return nil, fmt.Errorf("resolve the tenant: %w", ErrUnknownTenant)
	}
	if known != nil && !c.mayAsk() {
		c.served.Add(1)
		return known, nil
	}
	c.misses.Add(1)
	fresh, err := c.load(ctx, id)
	if errors.Is(err, ErrCatalogDown) && known != nil {
		c.served.Add(1)
		return known, nil
	}
	return fresh, err
}

// mayAsk tells whether to ask the catalog about what is cached. While it is down only one caller at a time does, so that the
// others do not all wait for a server that does not answer.
func (c *cache) mayAsk() bool {
	at := c.retryAt.Load()
	now := time.Now().UnixNano()
	return at == 0 || now >= at && c.retryAt.CompareAndSwap(at, now+int64(retryEvery))
}

// heard takes note of whether the catalog answers, which was asked and has returned err.
func (c *cache) heard(err error) {
	if errors.Is(err, ErrCatalogDown) {
		c.retryAt.Store(time.Now().Add(retryEvery).UnixNano())
	} else {
		c.retryAt.Store(0)
	}
}

// load asks the catalog; callers that ask for the same tenant meanwhile share the answer.
func (c *cache) load(ctx context.Context, id tenant.ID) (*route, error) {
	loaded := c.loading.DoChan(id.String(), func() (any, error) {
		// Detached from the first caller, whose end must not fail the others. The catalog has a time-out of its own.
		return c.fetch(context.WithoutCancel(ctx), id)
	})
	select {
	case res := <-loaded:
		if res.Err != nil {
			return nil, fmt.Errorf("resolve the tenant: %w", res.Err)
		}
		return res.Val.(*route), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("resolve the tenant: %w", ctx.Err())
	}
}

func (c *cache) fetch(ctx context.Context, id tenant.ID) (*route, error) {
	before := c.changes.Load()
	found, err := c.catalog.Route(ctx, id)
	c.heard(err)
	switch {
	case errors.Is(err, ErrUnknownTenant):
		c.routes.Remove(id)
		c.unknown.Add(id, time.Now())
		return nil, err
	case err != nil:
		return nil, err
	case found.State == placement.StateProvisioning:
		return nil, ErrProvisioning
	}
	if found.State == placement.StateMoving {
		c.learn(ctx)
	}
	rt := c.keep(id, c.route(id, found.Home, found.Model, found.Epoch, c.target(found.Cluster, found.Database)))
	c.unknown.Remove(id)
	if c.changes.Load() != before {
		rt.stale.Store(true)
	}
	return rt, nil
}

func (c *cache) route(id tenant.ID, home placement.Home, model placement.Model, epoch int64, t *target) *route {
	rt := &route{
		entry:  isolation.Entry{Tenant: id.String(), Home: home.String(), Epoch: epoch},
		target: t,
		model:  model,
		series: c.stats.series(t.cluster.Name, model),
	}
	if model == placement.ModelSchema {
		rt.schema = home.Schema
	}
	rt.demand = c.demand(t, home.Schema)
	rt.request = pools.Request{
		Server: t.cluster.Name, Pool: t.key, Client: rt.entry.Tenant, Affinity: rt.schema, Connect: t.connect,
	}
	return rt
}

// keep puts a route into the cache and returns it, or the one that is there already and as good. What a home has told of a
// tenant that has left is better than an older word of the catalog's, which follows the homes.
func (c *cache) keep(id tenant.ID, rt *route) *route {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	if known, ok := c.routes.Peek(id); ok && (known.same(rt) || known.told.Load() && known.entry.Epoch > rt.entry.Epoch) {
		rt = known // keeps the time it was last asked about
		rt.stale.Store(false)
	}
	c.routes.Add(id, rt)
	return rt
}

// counts returns how often the cache was of use.
func (c *cache) counts() CacheStats {
	return CacheStats{Entries: c.routes.Len(), Hits: c.hits.Load(), Misses: c.misses.Load(), Stale: c.served.Load()}
}

// same tells whether two routes lead to the same place.
func (rt *route) same(other *route) bool { return rt.entry == other.entry && rt.target == other.target }

// reload asks the catalog anew after a home has refused old, and reports whether its answer differs. While the catalog is
// down, old stays the best that is known.
func (c *cache) reload(ctx context.Context, id tenant.ID, old *route) (rt *route, changed bool, err error) {
	if rt, ok := c.routes.Peek(id); ok && rt != old && !rt.stale.Load() {
		return rt, true, nil // somebody else has asked already
	}
	now := time.Now().UnixNano()
	if last := old.asked.Load(); now-last < int64(reloadEvery) || !old.asked.CompareAndSwap(last, now) {
		return old, false, nil // a home that refuses everybody must not cost the catalog a query per call
	}
	if !c.mayAsk() {
		return old, false, nil
	}
	c.loading.Forget(id.String()) // an answer on its way may be as old as ours
	rt, err = c.load(ctx, id)
	if errors.Is(err, ErrCatalogDown) {
		return old, false, nil
	}
	return rt, err == nil && !rt.same(old), err
}

// target returns the one value that stands for a database, so that a million tenants share a few.
func (c *cache) target(cl placement.Cluster, db placement.Database) *target {
	key := fmt.Sprintf("%s/%s/%s/%s/%s", cl.Name, db.Name, db.Login, db.Stamp, cl.Endpoint)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clusters[cl.Name] = cl
	t, ok := c.targets.Get(key)
	if !ok {
		t = &target{key: key, cluster: cl, db: db, demand: demand{place: placement.SharedSchema, version: c.version}}
		t.connect = func(ctx context.Context) (*pgconn.PgConn, error) { return c.connect(ctx, t) }
		c.targets.Add(key, t)
		if !c.met[cl.Name] {
			c.met[cl.Name] = true
			c.meet(cl.Name)
		}
	}
	return t
}

// invalidate makes the next resolve of id ask the catalog. The old placement stays for the case that it is down.
func (c *cache) invalidate(id tenant.ID) {
	c.changes.Add(1)
	if rt, ok := c.routes.Peek(id); ok {
		rt.stale.Store(true)
	}
	c.unknown.Remove(id)
}

func (c *cache) invalidateAll() {
	c.changes.Add(1)
	for _, rt := range c.routes.Values() {
		rt.stale.Store(true)
	}
	c.unknown.Purge()
}
