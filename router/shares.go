package router

import (
	"context"
	"time"

	"github.com/landlord-go/landlord/placement"
)

const (
	shareEvery = placement.ShareTTL / 3
	// shareSoonest is how soon shares are asked for again because callers wait.
	shareSoonest = 200 * time.Millisecond
)

// sharing is what is known of one cluster's share.
type sharing struct {
	need int  // connections, falling slowly after a peak
	told bool // by the catalog, at least once
}

// share keeps this process's part of each cluster's connections as the catalog divides them, until ctx ends. While the
// catalog is down the last shares stand.
func (r *Router) share(ctx context.Context) {
	known := make(map[string]*sharing)
	for ctx.Err() == nil {
		asked := time.Now()
		wait := shareEvery
		if !r.renewShares(ctx, known) {
			wait = shareSoonest // what has been closed by then is for others
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.met:
		case <-r.pools.Starved():
			timer.Reset(time.Until(asked.Add(shareSoonest)))
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-r.met:
			}
		}
		timer.Stop()
	}
}

// renewShares asks once, and reports whether nothing has changed.
func (r *Router) renewShares(ctx context.Context, known map[string]*sharing) (settled bool) {
	var demands []placement.Demand
	for _, d := range r.pools.Demands() {
		s := known[d.Server]
		if s == nil {
			s = &sharing{}
			known[d.Server] = s
		}
		s.need = max(d.Peak, s.need*9/10)
		demands = append(demands, placement.Demand{
			Cluster: d.Server, Limit: d.Limit, Open: d.Open, Want: max(r.cfg.Pools.MaxConns, s.need*3/2),
		})
	}
	if len(demands) == 0 {
		return true
	}
	shares, err := r.cfg.Catalog.Shares(ctx, r.process, demands)
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "shares of connections are not renewed", "error", err)
	}
	settled = true
	for _, d := range demands {
		share, ok := shares[d.Cluster]
		s := known[d.Cluster]
		switch {
		case ok:
			s.told = true
		case s.told || d.Limit > 0:
			continue
		default: // the catalog has gone down since it said where the tenant lives, or does not know the cluster any more
			share = r.cfg.Pools.MaxConns
		}
		if share != d.Limit {
			r.pools.SetLimit(d.Cluster, share)
			settled = false
		}
	}
	return settled
}

// meet is called when a cluster is seen for the first time. While shares are kept, its connections wait for the first one.
func (r *Router) meet(cluster string) {
	if !r.sharing.Load() {
		return
	}
	r.pools.SetLimit(cluster, 0)
	select {
	case r.met <- struct{}{}:
	default: // somebody else's will do
	}
}

// releaseShares gives everything back, once all connections are closed.
func (r *Router) releaseShares() {
	if !r.shared.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if err := r.cfg.Catalog.ReleaseShares(ctx, r.process); err != nil {
		r.log.Warn("shares of connections are not given back; they expire", "error", err)
	}
}
