package router

import (
	"context"
	"time"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// Counter returns what the router does for its statistics and tracer when a call of a tenant has gone to a cluster and has
// taken so long.
func (r *Router) Counter(cluster string) func(ctx context.Context, id tenant.ID, took time.Duration) {
	w := way{route: &route{
		target: &target{cluster: placement.Cluster{Name: cluster}}, model: placement.ModelShared,
		series: r.stats.series(cluster, placement.ModelShared),
	}}
	return func(ctx context.Context, id tenant.ID, took time.Duration) {
		_, o := r.observe(ctx, Call{Op: OpExec, Tenant: id, Verb: "select"})
		o.started -= took
		o.end(w, nil)
	}
}

// Resolve looks up where a tenant lives, and no more.
func (r *Router) Resolve(ctx context.Context, id tenant.ID) error {
	_, err := r.resolve(ctx, id)
	return err
}

// Invalidate has a tenant looked up again, as the catalog's watch does.
func (r *Router) Invalidate(id tenant.ID) { r.cache.invalidate(id) }

// Sharing tells whether Run keeps shares of the clusters' connections by now.
func (r *Router) Sharing() bool {
	r.shares.mu.Lock()
	defer r.shares.mu.Unlock()
	return r.shares.keepers > 0
}

// Beat says to the catalog that this router is alive.
func (r *Router) Beat(ctx context.Context) error { return r.instance.beat(ctx) }

// Unreachable types the error of getting a connection.
var Unreachable = unreachable
