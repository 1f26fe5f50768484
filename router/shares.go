package router

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
)

const (
	shareEvery = placement.ShareTTL / 3
	// shareSoonest is how soon shares are asked for again because callers wait.
	shareSoonest = 200 * time.Millisecond
)

// shares keeps this process's part of each cluster's connections as the catalog divides them.
type shares struct {
	catalog *placement.Catalog
	pools   *pools.Pools
	log     *slog.Logger
	least   int           // connections that are asked for without need, and had without the catalog
	process string        // this router, among those that share
	met     chan struct{} // a cluster was seen for the first time; holds one
	work    sync.WaitGroup

	closing context.Context
	close   context.CancelFunc

	mu      sync.Mutex // guards what follows; held over no call to the catalog
	keepers int        // calls of keep under way
	ever    bool
	closed  bool
}

func newShares(catalog *placement.Catalog, p *pools.Pools, log *slog.Logger, least int) *shares {
	ctx, cancel := context.WithCancel(context.Background())
	return &shares{
		catalog: catalog, pools: p, log: log, least: least,
		process: uuid.NewString(), met: make(chan struct{}, 1), closing: ctx, close: cancel,
	}
}

// share is what is known of one cluster's share.
type share struct {
	need int  // connections, falling slowly after a peak
	told bool // by the catalog, at least once

	none time.Time // since when there is none, or later if that has been said
}

// keep keeps the shares until ctx ends, or the router is closed. While the catalog is down the last ones stand.
func (s *shares) keep(ctx context.Context) {
	if !s.begin() {
		return
	}
	defer s.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()

	known := make(map[string]*share)
	defer s.end()
	for ctx.Err() == nil {
		asked := time.Now()
		wait := shareEvery
		if !s.renew(ctx, known) {
			wait = shareSoonest // what has been closed by then is for others
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.met:
		case <-s.pools.Starved():
			timer.Reset(time.Until(asked.Add(shareSoonest)))
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-s.met:
			}
		}
		timer.Stop()
	}
}

func (s *shares) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	s.keepers++
	s.ever = true
	return true
}

// end lets clusters without a share go without.
func (s *shares) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepers--
	for _, d := range s.pools.Demands() {
		if d.Limit == 0 && s.keepers == 0 {
			s.pools.SetLimit(d.Server, s.least)
		}
	}
}

// renew asks once, and reports whether nothing has changed and nobody waits for more.
func (s *shares) renew(ctx context.Context, known map[string]*share) (settled bool) {
	var demands []placement.Demand
	waiting := make(map[string]bool)
	for _, d := range s.pools.Demands() {
		waiting[d.Server] = d.Waiting > 0
		k := known[d.Server]
		if k == nil {
			k = &share{}
			known[d.Server] = k
		}
		k.need = max(d.Peak, k.need*9/10)
		demands = append(demands, placement.Demand{
			Cluster: d.Server, Limit: d.Limit, Open: d.Open, Want: max(s.least, k.need*3/2),
		})
	}
	if len(demands) == 0 {
		return true
	}
	granted, err := s.catalog.Shares(ctx, s.process, demands)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "shares of connections are not renewed", "error", err)
	}
	settled = true
	for _, d := range demands {
		n, ok := granted[d.Cluster]
		k := known[d.Cluster]
		switch {
		case ok:
			k.told = true
		case d.Limit > 0:
			continue
		case k.told: // it had none, when the catalog went down: its tenants shall not all stand still
			n = 1
		default: // the catalog has gone down since it said where the tenant lives, or does not know the cluster any more
			n = s.least
		}
		if n > 0 {
			k.none = time.Time{}
		} else if k.none.IsZero() {
			k.none = time.Now()
		} else if time.Since(k.none) > shareEvery { // longer than others take to make room
			s.log.WarnContext(ctx, "no connections left for this process: raise the cluster's budget", "cluster", d.Cluster)
			k.none = time.Now().Add(time.Hour)
		}
		if n != d.Limit {
			s.pools.SetLimit(d.Cluster, n)
		}
		settled = settled && n == d.Limit && (n >= d.Want || !waiting[d.Cluster])
	}
	return settled
}

// meet is called when a cluster is seen for the first time. While shares are kept, its connections wait for the first one.
func (s *shares) meet(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keepers == 0 {
		return
	}
	s.pools.SetLimit(cluster, 0)
	select {
	case s.met <- struct{}{}:
	default: // somebody else's will do
	}
}

// release ends what keeps shares and gives them all back. The connections are closed already.
func (s *shares) release() {
	s.mu.Lock()
	s.closed = true
	ever := s.ever
	s.mu.Unlock()
	s.close()
	s.work.Wait()
	if !ever {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if err := s.catalog.ReleaseShares(ctx, s.process); err != nil {
		s.log.Warn("shares of connections are not given back; they expire", "error", err)
	}
}
