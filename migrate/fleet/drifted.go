package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/placement"
)

// bar enters the homes that have drifted, or could not be looked at, as failed from the start: nobody knows what a migration would do
// there. They are nobody's fault, and keep no other from being migrated. A run that is there already is joined as it is.
func (f *Fleet) bar(ctx context.Context, to aim, plan Plan) (Plan, error) {
	if plan.allowDrift || len(plan.Targets) == 0 {
		return plan, nil
	}
	if run, err := f.cfg.Catalog.LastRun(ctx); err == nil && run.Files == f.files && aimOf(run) == to && !run.Over() {
		return plan, nil
	}
	plan.Targets = slices.Clone(plan.Targets)
	return plan, f.barTargets(ctx, plan.Targets)
}

// barTargets marks those of targets that have drifted, or could not be looked at.
func (f *Fleet) barTargets(ctx context.Context, targets []target) error {
	drifted, err := f.drifted(ctx, targets)
	for i := range targets {
		if why := drifted[targets[i].Home]; why != "" {
			targets[i].State, targets[i].Error = placement.TargetFailed, why
		}
	}
	return err
}

// barPending enters what is still to be done in a run, and has drifted since it was looked at or cannot be looked at now, as failed.
func (f *Fleet) barPending(ctx context.Context, run placement.Run) error {
	if f.allowsDrift(run) {
		return nil
	}
	targets, err := f.cfg.Catalog.RunTargets(ctx, run.ID)
	if err != nil {
		return err
	}
	drifted, err := f.drifted(ctx, slices.DeleteFunc(targets, func(t target) bool { return t.State != placement.TargetPending }))
	if err != nil || len(drifted) == 0 {
		return err
	}
	return f.cfg.Catalog.BarTargets(ctx, run.ID, drifted)
}

func (f *Fleet) allowsDrift(run placement.Run) bool { return f.cfg.AllowDrift || run.AllowDrift }

// drifted returns which homes among targets have drifted, each with what differs there in a few words, and those that could not be
// looked at, each with the reason: nobody knows what they are. What stands for a whole database or server has not drifted, nor what has
// failed for something else.
func (f *Fleet) drifted(ctx context.Context, targets []target) (map[placement.Home]string, error) {
	homes := make(map[placement.Home]bool)
	for _, t := range targets {
		if t.Scope == string(migrate.ScopeTenant) && t.State != placement.TargetFailed {
			homes[t.Home] = true
		}
	}
	drifted, unknown := make(map[placement.Home]string), make(map[placement.Home]string)
	for _, again := range []bool{false, true} {
		if len(homes) == 0 {
			break
		}
		// Somebody may have been at work there, or a server been away for a moment.
		if again && !pause(ctx, f.cfg.Retry/3) {
			return nil, ctx.Err()
		}
		results, err := f.compareFiles(ctx, f.whole, homes)
		if err != nil {
			return nil, fmt.Errorf("look for drift before a run: %w", err)
		}
		clear(homes)
		clear(unknown)
		for _, r := range results {
			switch r.State {
			case drift.Drifted:
				if d := slices.DeleteFunc(slices.Clone(r.Differences), f.leftBehind(r.Version)); len(d) > 0 {
					drifted[r.Home] = "drifted: " + drift.Brief(d) + " (landlord migrate drift shows all)"
				}
			case drift.Unknown:
				homes[r.Home] = true
				unknown[r.Home] = "could not be looked at for drift: " + r.Reason
			case drift.InSync, drift.Behind, drift.Ahead:
			}
		}
	}
	if err := f.exceptUnfinished(ctx, drifted); err != nil {
		return nil, err
	}
	maps.Copy(drifted, unknown)
	return drifted, nil
}

// compareFiles looks at homes, or at all, beside what the files of a set make of them.
func (f *Fleet) compareFiles(ctx context.Context, set *migrate.Set, homes map[placement.Home]bool) ([]drift.Result, error) {
	targets, err := drift.Targets(ctx, f.cfg.Catalog)
	if err != nil {
		return nil, err
	}
	if homes != nil {
		targets = slices.DeleteFunc(targets, func(t drift.Target) bool { return !homes[t.Home] })
	}
	return drift.Check(ctx, drift.Config{Catalog: f.cfg.Catalog, Set: set}, targets)
}

// leftBehind tells of differences in a home at a version what is no drift: an index that a file has failed to build concurrently. Its
// next attempt begins by taking it away.
func (f *Fleet) leftBehind(version int64) func(fingerprint.Difference) bool {
	return func(d fingerprint.Difference) bool {
		if d.Kind != "index" || d.Change != fingerprint.Extra || !strings.HasSuffix(d.Found, "\ninvalid") {
			return false
		}
		name := strings.ReplaceAll(strings.Trim(d.Object, `"`), `""`, `"`)
		return slices.ContainsFunc(f.whole.Migrations(), func(m migrate.Migration) bool { return m.Version > version && m.Rebuilds(name) })
	}
}

// exceptUnfinished takes those out of drifted in which a file without a transaction was cut off, or is at work: whoever goes on with it
// knows what to do.
func (f *Fleet) exceptUnfinished(ctx context.Context, drifted map[placement.Home]string) error {
	const query = `select schema::text from landlord.schema_step where schema = any($1::name[]) and unfinished is not null`
	if len(drifted) == 0 {
		return nil
	}
	schemas := make(map[place][]string)
	for h := range drifted {
		at := place{h.Cluster, h.Database}
		schemas[at] = append(schemas[at], h.Schema)
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return err
	}
	for at, here := range schemas {
		conn, err := reach.connect(ctx, at, migrate.ScopeTenant)
		if err != nil {
			return err
		}
		rows, err := conn.Query(ctx, query, here)
		if err == nil {
			var schema string
			_, err = pgx.ForEachRow(rows, []any{&schema}, func() error {
				delete(drifted, placement.Home{Cluster: at.cluster, Database: at.database, Schema: schema})
				return nil
			})
		}
		_ = closeConn(ctx, conn) // it has only read
		if err != nil {
			return fmt.Errorf("look for files that were cut off: %w", err)
		}
	}
	return nil
}

// stillDrifted returns the homes that a retry must leave as they are, and why one of them.
func (f *Fleet) stillDrifted(ctx context.Context, run placement.Run, only *placement.Home) (homes []placement.Home, why string, err error) {
	if f.allowsDrift(run) {
		return nil, "", nil
	}
	troubled, err := f.cfg.Catalog.TroubledTargets(ctx, run.ID)
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
