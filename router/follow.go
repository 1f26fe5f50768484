package router

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// A home that the tenant has left says where to. A router follows at once: the catalog is told only after the new home is open,
// and need not be up for the tenant to be served.

// follow returns the route to where the home of old, which has refused with err, says that the tenant is now. It is nil where
// the home does not say, where that is no newer than newest, the newest epoch that the caller has tried, and where too little
// is known of that place: then the catalog has to tell.
func (c *cache) follow(ctx context.Context, id tenant.ID, old *route, err error, newest int64) *route {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || answer.Code != pgerr.NotHere {
		return nil
	}
	var to isolation.Address
	if answer.Detail == "" || json.Unmarshal([]byte(answer.Detail), &to) != nil || to.Epoch <= newest {
		old.told.Store(false) // it knows no better than the catalog
		return nil
	}
	if known, ok := c.routes.Peek(id); ok && known.entry.Epoch >= to.Epoch {
		return known
	}
	home, homeErr := placement.ParseHome(to.Home)
	model, modelErr := placement.ParseModel(to.Model)
	if homeErr != nil || modelErr != nil {
		return nil
	}
	t := c.targetAt(ctx, home, model, to)
	if t == nil {
		return nil
	}
	rt := c.route(id, home, model, to.Epoch, t)
	rt.told.Store(true)
	return c.keep(id, rt)
}

// targetAt returns the database of a home by what is known of it, or by what the catalog says; nil: neither.
func (c *cache) targetAt(ctx context.Context, home placement.Home, model placement.Model, to isolation.Address) *target {
	cl, ok := c.cluster(home.Cluster)
	if !ok && c.mayAsk() {
		c.learn(ctx)
		cl, ok = c.cluster(home.Cluster)
	}
	if !ok {
		return nil
	}
	db := placement.Database{Cluster: home.Cluster, Name: home.Database, Model: model, Stamp: to.Stamp, Login: to.Login}
	if model == placement.ModelSchema {
		db.Model = placement.ModelShared
	}
	if db.Stamp != "" && db.Login != "" {
		return c.target(cl, db)
	}
	c.mu.Lock()
	known := c.targets.Values()
	c.mu.Unlock()
	there := func(d placement.Database) bool { return d.Cluster == home.Cluster && d.Name == home.Database }
	if i := slices.IndexFunc(known, func(t *target) bool { return there(t.db) }); i >= 0 {
		return c.target(cl, known[i].db)
	}
	if !c.mayAsk() {
		return nil
	}
	all, err := c.catalog.Databases(ctx)
	c.heard(err)
	if i := slices.IndexFunc(all, there); err == nil && i >= 0 {
		return c.target(cl, all[i])
	}
	return nil
}

func (c *cache) cluster(name string) (placement.Cluster, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl, ok := c.clusters[name]
	return cl, ok
}

// learnEvery bounds how often all clusters are asked for.
const learnEvery = 5 * time.Second

// learn asks the catalog for all clusters, so that a tenant that moves to one where this router has not been is followed even when
// the catalog is down by then. While it is down now, nothing is learned.
func (c *cache) learn(ctx context.Context) {
	c.mu.Lock()
	due := time.Since(c.learned) >= learnEvery
	if due {
		c.learned = time.Now()
	}
	c.mu.Unlock()
	if !due {
		return
	}
	all, err := c.catalog.Clusters(ctx)
	c.heard(err)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range all {
		c.clusters[cl.Name] = cl
	}
}
