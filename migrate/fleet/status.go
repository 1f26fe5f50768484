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

// Reconcile makes the ledger agree with the homes: targets of the last run that have all are verified, those that have not
// are pending again, and what is missing is added. Where there is no run of these files, and homes are behind, one is made,
// paused. It returns how many targets it changed.
//
// The gate is raised to the last contract file that a home has.
func (f *Fleet) Reconcile(ctx context.Context) (changed int, _ Status, err error) {
	part, raised, err := f.raise(ctx)
	if err != nil {
		return 0, Status{}, err
	}
	changed, s, err := part.reconcile(ctx, raised)
	s, err = f.tell(ctx, s, err)
	return changed, s, err
}

// reconcile reconciles with the files that are allowed. That the last run was of others is no error when the gate was raised.
func (f *Fleet) reconcile(ctx context.Context, raised bool) (changed int, _ Status, err error) {
	run, err := f.last(ctx)
	if err != nil && !errors.Is(err, placement.ErrNoRun) && !(raised && errors.Is(err, placement.ErrRunState)) {
		return 0, Status{}, err
	}
	known := run.ID != "" && run.Files == f.files && run.State != placement.RunAbandoned
	var to aim
	if known {
		to = aimOf(run)
	}
	plan, err := f.plan(ctx, to, Options{})
	if err != nil {
		return 0, Status{}, err
	}
	if !known {
		if len(plan.Targets) == 0 {
			return 0, Status{UpToDate: plan.UpToDate}, nil
		}
		run, _, err = f.begin(ctx, to, plan, placement.RunPaused, Options{})
		s, err := f.status(ctx, run, err)
		return len(plan.Targets), s, err
	}
	changed, err = f.settle(ctx, run, plan)
	s, err := f.status(ctx, run, err)
	return changed, s, err
}

func (f *Fleet) settle(ctx context.Context, run placement.Run, plan Plan) (changed int, err error) {
	known, err := f.cfg.Catalog.RunTargets(ctx, run.ID)
	if err != nil {
		return 0, err
	}
	has, behind := make(map[placement.Home]bool), make(map[placement.Home]bool)
	for _, t := range known {
		has[t.Home] = true
	}
	var missing []target
	for _, t := range plan.Targets {
		behind[t.Home] = true
		if !has[t.Home] {
			t.Wave = run.Waves
			missing = append(missing, t)
		}
	}
	var verified, pending []target
	for _, t := range known {
		if behind[t.Home] {
			pending = append(pending, t)
		} else {
			verified = append(verified, t)
		}
	}
	if err := f.barTargets(ctx, missing); err != nil {
		return 0, err
	}
	changed, err = f.cfg.Catalog.SettleTargets(ctx, run.ID, verified, pending)
	if err == nil && len(missing) > 0 {
		err = f.cfg.Catalog.AddRunTargets(ctx, run.ID, missing)
	}
	changed += len(missing)
	if err == nil && len(plan.Targets) > 0 && run.Over() && changed > 0 {
		_, err = f.cfg.Catalog.SetRunState(ctx, run.ID, placement.RunPaused, "reconciled: targets are behind", 0, placement.RunDone, placement.RunFailed)
	}
	return changed, err
}
