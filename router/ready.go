package router

import (
	"context"
	"fmt"
	"time"
)

// readyTimeout is how long Ready waits for the catalog: a probe that does not answer counts as one that says no.
const readyTimeout = 2 * time.Second

// Ready tells whether the router can route: the catalog answers, or has answered before. For placements that are cached are
// used while it is down, and a service that leaves rotation then would turn an outage of one database into one of all.
//
// It asks no cluster, on purpose. A cluster that is down must not take the whole service out of rotation, with every other
// cluster's tenants: its state is in Stats, to alert on.
func (r *Router) Ready(ctx context.Context) error {
	if r.cache.routes.Len() > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if _, err := r.cfg.Catalog.Settings(ctx); err != nil { // which it remembers
		return fmt.Errorf("be ready: %w", err)
	}
	return nil
}
