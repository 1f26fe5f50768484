package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// bar enters the homes that have drifted as failed from the start: nobody knows what a migration would do there. They are nobody's
// fault, and keep no other from being migrated. A run that is there already is joined as it is.
func (f *Fleet) bar(ctx context.Context, to aim, plan Plan) (Plan, error) {
	if f.cfg.Drift == nil || plan.allowDrift || len(plan.Targets) == 0 {
		return plan, nil
	}
	if run, err := f.cfg.Catalog.LastRun(ctx); err == nil && run.Files == f.files && aimOf(run) == to && !run.Over() {
		return plan, nil
	}
	plan.Targets = slices.Clone(plan.Targets)
	return plan, f.barTargets(ctx, plan.Targets)
}

// barTargets marks those of targets that have drifted.
func (f *Fleet) barTargets(ctx context.Context, targets []target) error {
	drifted, err := f.drifted(ctx, targets)
	for i := range targets {
		if why := drifted[targets[i].Home]; why != "" {
			targets[i].State, targets[i].Error = placement.TargetFailed, why
		}
	}
	return err
}

// drifted asks which homes among targets have drifted. What stands for a whole database or server has not, nor what has failed
// for something else.
func (f *Fleet) drifted(ctx context.Context, targets []target) (map[placement.Home]string, error) {
	if f.cfg.Drift == nil {
		return nil, nil
	}
	var homes []placement.Home
	for _, t := range targets {
		if t.Scope == string(migrate.ScopeTenant) && t.State != placement.TargetFailed {
			homes = append(homes, t.Home)
		}
	}
	if len(homes) == 0 {
		return nil, nil
	}
	drifted, err := f.cfg.Drift(ctx, homes)
	if err != nil {
		return nil, fmt.Errorf("look for drift before a run: %w", err)
	}
	return drifted, nil
}

// stillDrifted returns the homes that a retry must leave as they are, and why one of them.
func (f *Fleet) stillDrifted(ctx context.Context, run string, only *placement.Home) (homes []placement.Home, why string, err error) {
	if f.cfg.Drift == nil {
		return nil, "", nil
	}
	troubled, err := f.cfg.Catalog.TroubledTargets(ctx, run)
	if err != nil {
		return nil, "", err
	}
	var failed []target
	for _, t := range troubled {
		if t.State == placement.TargetFailed && (only == nil || *only == t.Home) {
			t.State = placement.TargetPending
			failed = append(failed, t)
		}
	}
	drifted, err := f.drifted(ctx, failed)
	for home, reason := range drifted {
		homes, why = append(homes, home), reason
	}
	return homes, why, err
}
