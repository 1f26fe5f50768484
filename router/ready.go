package router

import (
	"context"
	"fmt"
	"time"
)

// readyTimeout is how long Ready waits for the catalog: a probe that does not answer counts as one that says no.
const readyTimeout = 2 * time.Second

// Ready tells whether the router can route: it is on the catalog's record, or puts itself there now. Once it is, the catalog
// may be down. For placements that are cached are used then, and a service that leaves rotation would turn an outage of one
// database into one of all. It is ErrOutdated while the catalog refuses this release of the application.
//
// It asks no cluster, on purpose. A cluster that is down must not take the whole service out of rotation, with every other
// cluster's tenants: its state is in Stats, to alert on.
func (r *Router) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := r.instance.admit(ctx); err != nil {
		return fmt.Errorf("be ready: %w", err)
	}
	return nil
}
