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
	Failures []Failure
	Skipped  []placement.RunTarget
	// Waiting is how many targets have been put off after an error, and the last one's words.
	Waiting int
	LastErr string
	// Gate is the contract files that come next, and what they wait for; nil: none do, or it was not asked.
	Gate *Gate
}

// Wave is how far a wave is.
type Wave struct {
	Wave, Targets, Verified, Failed, Skipped int
}

// Failure is what failed targets have in common.
type Failure struct {
	SQLState string // empty: the error was not PostgreSQL's
	Error    string // of one of them
	Count    int
	Homes    []placement.Home // of all of them
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

func (f *Fleet) statusOf(ctx context.Context, id string) (Status, error) {
	run, err := f.cfg.Catalog.RunByID(ctx, id)
	if err != nil {
		return Status{}, err
	}
	s := Status{Run: run, Counts: make(map[placement.TargetState]int), Waves: make([]Wave, run.Waves)}
	counts, err := f.cfg.Catalog.RunCounts(ctx, id)
	if err != nil {
		return s, err
	}
	for i := range s.Waves {
		s.Waves[i].Wave = i + 1
	}
	for _, c := range counts {
		s.Counts[c.State] += c.Count
		w := &s.Waves[min(c.Wave, run.Waves)-1]
		w.Targets += c.Count
		switch c.State {
		case placement.TargetVerified:
			w.Verified += c.Count
		case placement.TargetFailed:
			w.Failed += c.Count
		case placement.TargetSkipped:
			w.Skipped += c.Count
		case placement.TargetPending, placement.TargetLeased:
		}
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
		case placement.TargetPending, placement.TargetLeased:
			s.Waiting++
			s.LastErr = t.Error
		case placement.TargetVerified:
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
	plan, err := f.plan(ctx, Options{})
	if err != nil {
		return 0, Status{}, err
	}
	if run.ID == "" || run.Files != f.files || run.State == placement.RunAbandoned {
		if len(plan.Targets) == 0 {
			return 0, Status{UpToDate: plan.UpToDate}, nil
		}
		run, _, err = f.begin(ctx, plan, placement.RunPaused, 0)
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
