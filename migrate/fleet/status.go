package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/landlord-go/landlord/placement"
)

// Status is what has become of a run.
type Status struct {
	Run      placement.Run // zero: there is none
	UpToDate int           // homes that needed none, where there is no run
	Counts   map[placement.TargetState]int
	Waves    []Wave
	Failures []Failure             // nil while the run is at work
	Skipped  []placement.RunTarget // nil while the run is at work
	// Waiting is how many targets have been put off after an error, and LastErr what one of them said.
	Waiting int
	LastErr string
	// Gate is the contract files that come next, and what they wait for; nil: none do, or it was not asked.
	Gate *Gate
}

// Wave is how far a wave is.
type Wave struct {
	Wave int
	Tally
	Clusters []ClusterTally // by name
}

// ClusterTally is how far a wave is on one cluster.
type ClusterTally struct {
	Cluster string
	Tally
}

// Tally counts targets.
type Tally struct {
	Targets, Verified, Failed, Skipped int
	PutOff                             int // they are to be tried again after an error
}

// Done is how many are not waited for any more.
func (t Tally) Done() int { return t.Verified + t.Failed + t.Skipped }

func (t *Tally) add(c placement.RunCount) {
	t.Targets += c.Count
	t.PutOff += c.PutOff
	switch c.State {
	case placement.TargetVerified:
		t.Verified += c.Count
	case placement.TargetFailed:
		t.Failed += c.Count
	case placement.TargetSkipped:
		t.Skipped += c.Count
	case placement.TargetPending, placement.TargetLeased:
	}
}

// Failure is what failed targets have in common.
type Failure struct {
	SQLState string // empty: the error was not PostgreSQL's
	Error    string // of one of them
	Count    int
	Homes    []placement.Home // of all of them
	Tenants  []string         // whose homes these are, by slug; empty: nobody's alone
}

// Whole reports that every home has all, but those that somebody took out.
func (s Status) Whole() bool { return s.Run.ID == "" || s.Run.State == placement.RunDone }

// Status tells how far the last run is, or [placement.ErrNoRun].
func (f *Fleet) Status(ctx context.Context) (Status, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	s, err := f.status(ctx, run, err)
	return f.tell(ctx, s, err)
}

// status is the status of run beside err, if there is a run.
func (f *Fleet) status(ctx context.Context, run placement.Run, err error) (Status, error) {
	if run.ID == "" {
		return Status{}, err
	}
	s, statusErr := f.statusOf(ctx, run.ID)
	return s, errors.Join(err, statusErr)
}

// progressOf is the status of a run without what failed and what is skipped, which can be long.
func (f *Fleet) progressOf(ctx context.Context, id string) (Status, error) {
	run, err := f.cfg.Catalog.RunByID(ctx, id)
	if err != nil {
		return Status{}, err
	}
	s := Status{Run: run, Counts: make(map[placement.TargetState]int), Waves: make([]Wave, run.Waves)}
	for i := range s.Waves {
		s.Waves[i].Wave = i + 1
	}
	counts, err := f.cfg.Catalog.RunCounts(ctx, id)
	for _, c := range counts { // those of a wave and cluster follow each other
		s.Counts[c.State] += c.Count
		s.Waiting += c.PutOff
		s.LastErr = cmp.Or(c.Error, s.LastErr)
		w := &s.Waves[min(c.Wave, run.Waves)-1]
		w.add(c)
		if n := len(w.Clusters); n == 0 || w.Clusters[n-1].Cluster != c.Cluster {
			w.Clusters = append(w.Clusters, ClusterTally{Cluster: c.Cluster})
		}
		w.Clusters[len(w.Clusters)-1].add(c)
	}
	return s, err
}

func (f *Fleet) statusOf(ctx context.Context, id string) (Status, error) {
	s, err := f.progressOf(ctx, id)
	if err != nil {
		return s, err
	}
	troubled, err := f.cfg.Catalog.TroubledTargets(ctx, id)
	if err != nil {
		return s, err
	}
	groups := make(map[string]*Failure)
	for _, t := range troubled {
		switch t.State {
		case placement.TargetSkipped:
			s.Skipped = append(s.Skipped, t)
		case placement.TargetFailed:
			key := t.SQLState
			if key == "" {
				key = "\x00" + t.Error
			}
			if groups[key] == nil {
				groups[key] = &Failure{SQLState: t.SQLState, Error: t.Error}
			}
			groups[key].Count++
			groups[key].Homes = append(groups[key].Homes, t.Home)
			groups[key].Tenants = append(groups[key].Tenants, t.Slug)
		case placement.TargetPending, placement.TargetLeased, placement.TargetVerified:
		}
	}
	for _, g := range groups {
		s.Failures = append(s.Failures, *g)
	}
	slices.SortFunc(s.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.SQLState, b.SQLState), cmp.Compare(a.Error, b.Error))
	})
	return s, nil
}

// Pause keeps the workers of the running run, in whatever process, from taking up more targets. What they hold they finish.
func (f *Fleet) Pause(ctx context.Context, why string) (Status, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	if err != nil {
		return Status{}, err
	}
	run, err = f.cfg.Catalog.SetRunState(ctx, run.ID, placement.RunPaused, why, 0, placement.RunRunning, placement.RunPaused)
	return f.status(ctx, run, err)
}

// Skip takes a target out of the last run, for a reason: it is neither tried nor waited for. The home stays behind.
func (f *Fleet) Skip(ctx context.Context, home placement.Home, reason string) (Status, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	if err != nil {
		return Status{}, err
	}
	found, err := f.cfg.Catalog.SkipTarget(ctx, run.ID, home, reason)
	if err == nil && !found {
		err = fmt.Errorf("skip %s: it is not among what run %d has still to do, or is being worked on", home, run.Number)
	}
	return f.status(ctx, run, err)
}
