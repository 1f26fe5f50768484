package fleet

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// Reconcile makes the ledger agree with the homes: targets of the last run that have all are verified, those that have not
// are pending again, and what is missing is added. Where there is no run of these files, and homes are behind, one is made,
// paused. It returns how many targets it changed.
//
// The gate is raised to the last contract file that a home has, and the number of the run above those that homes have met.
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
			return 0, Status{UpToDate: plan.UpToDate}, f.lift(ctx, placement.Run{})
		}
		if err := f.lift(ctx, placement.Run{}); err != nil {
			return 0, Status{}, err
		}
		run, _, err = f.begin(ctx, to, plan, placement.RunPaused, Options{})
		s, err := f.status(ctx, run, err)
		return len(plan.Targets), s, err
	}
	if !run.Over() || run.State == placement.RunFailed || len(plan.Targets) > 0 {
		err = f.lift(ctx, run)
	}
	if err == nil {
		changed, err = f.settle(ctx, run, plan)
	}
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
	if !f.allowsDrift(run) {
		if err := f.barTargets(ctx, missing); err != nil {
			return 0, err
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

// lift sees to it that no home takes the workers of a run, or of the next one where there is none, for some that come late: homes may
// have met runs of which a catalog that was restored from an older backup does not know. Databases that cannot be reached are left
// out: their homes refuse the run, and say why.
func (f *Fleet) lift(ctx context.Context, run placement.Run) error {
	targets, err := f.cfg.Catalog.RunTargets(ctx, cmp.Or(run.ID, uuid.Nil.String()))
	if err != nil {
		return err
	}
	var claims int64
	for _, t := range targets {
		claims = max(claims, t.Lease)
	}
	met, err := f.fences(ctx)
	if err != nil {
		return err
	}
	var above int64
	late := ""
	for id, fence := range met {
		number := fence >> 32
		above = max(above, number)
		if id != run.ID && number >= run.Number || id == run.ID && fence > run.Number<<32|claims {
			late = run.ID
		}
	}
	if err := f.cfg.Catalog.LiftRuns(ctx, above, late); err != nil {
		return err
	}
	if late != "" {
		f.log.InfoContext(ctx, "homes have met later runs: the run has a new number", "run", run.Number, "above", above)
	}
	return nil
}

// fences returns the highest that homes have met of each run.
func (f *Fleet) fences(ctx context.Context) (map[string]int64, error) {
	const query = `select run::text, max(lease) from landlord.schema_step group by run`
	reach, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	met := make(map[string]int64)
	var mu sync.Mutex // guards met
	var g errgroup.Group
	g.SetLimit(2 * f.cfg.Workers)
	for at := range reach.stamps {
		g.Go(func() error {
			conn, err := reach.connect(ctx, at, migrate.ScopeTenant)
			if err != nil {
				return ctx.Err()
			}
			defer func() { _ = closeConn(ctx, conn) }() // it has only read
			rows, err := conn.Query(ctx, query)
			if err != nil {
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			var id string
			var fence int64
			_, err = pgx.ForEachRow(rows, []any{&id, &fence}, func() error { met[id] = max(met[id], fence); return nil })
			return err
		})
	}
	return met, g.Wait()
}
