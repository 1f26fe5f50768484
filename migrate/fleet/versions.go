package fleet

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/placement"
)

// lookTime is how long one server may keep somebody waiting who only wants to know how things are.
const lookTime = 5 * time.Second

// Versions returns the newest version that each of a run's targets has, 0 where it has none. Of those that are verified the run
// knows it; the homes of the others are asked, with one query in each database. What cannot be looked at is left out.
func (f *Fleet) Versions(ctx context.Context, run placement.Run, targets []placement.RunTarget) (map[placement.Home]int64, error) {
	versions := make(map[placement.Home]int64, len(targets))
	open := make(map[place][]placement.Home)
	for _, t := range targets {
		if t.State == placement.TargetVerified {
			versions[t.Home] = run.Newest
			continue
		}
		at := place{t.Home.Cluster, t.Home.Database}
		open[at] = append(open[at], t.Home)
	}
	if len(open) == 0 {
		return versions, nil
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(2 * f.cfg.Workers)
	var mu sync.Mutex // guards versions
	for at, homes := range open {
		g.Go(func() error {
			have, err := reach.look(ctx, at)
			if err != nil {
				return nil // left out
			}
			mu.Lock()
			defer mu.Unlock()
			for _, h := range homes {
				versions[h] = have.newest(h.Schema)
			}
			return nil
		})
	}
	return versions, g.Wait()
}

// newest is the last version that a place has, 0 for none.
func (h histories) newest(place string) int64 {
	has := h[place]
	if has == nil {
		return 0
	}
	return has.applied[len(has.applied)-1].Version
}
