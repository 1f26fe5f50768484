package fleet

import (
	"context"
	"fmt"
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// aim is where a run brings homes: up to the newest version of the set, or down to a version.
type aim struct {
	down    bool
	version int64 // of a run down
}

func aimOf(run placement.Run) aim {
	if run.Down {
		return aim{down: true, version: run.Newest}
	}
	return aim{}
}

// pending is what is to be done where have is applied, in order.
func (a aim) pending(set *migrate.Set, scope migrate.Scope, have []migrate.Applied) ([]migrate.Migration, error) {
	if a.down {
		return set.Above(scope, have, a.version)
	}
	return set.Pending(scope, have)
}

// check reports what keeps migrations from being applied, or undone, anywhere.
func (a aim) check(pending []migrate.Migration) error {
	for _, m := range pending {
		err := m.Check()
		if a.down {
			err = m.CheckUndo()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// PlanDown is what [Fleet.Down] would do, or why it would not. It changes nothing.
func (f *Fleet) PlanDown(ctx context.Context, version int64, o Options) (Plan, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return Plan{}, err
	}
	if err := part.checkDown(ctx, version); err != nil {
		return Plan{}, err
	}
	return part.plan(ctx, aim{down: true, version: version}, o)
}

// Down brings all homes that are above a version down to it, by the Down sections of the files, in a run like that of [Fleet.Up]:
// the same waves, but that what stands for a database or server is undone after the homes there. Version 0 is that of an empty
// home.
//
// All of it is refused, and nothing is undone anywhere, where a home has a migration above version that cannot be undone (see
// [migrate.Migration.CheckUndo]), and while instances of the application need one ([placement.ErrInstances]). What the Down
// sections drop is gone with the rows in it. A tenant that is added afterwards is built from the set as ever: files that are
// not to come back are to be taken out first.
func (f *Fleet) Down(ctx context.Context, version int64, o Options) (Status, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return Status{}, err
	}
	if err := part.checkDown(ctx, version); err != nil {
		return Status{}, err
	}
	return part.bring(ctx, aim{down: true, version: version}, o)
}

func (f *Fleet) checkDown(ctx context.Context, version int64) error {
	if version != 0 && !slices.Contains(f.cfg.Set.Versions(), version) {
		return fmt.Errorf("undo migrations: there is no file of version %d to go down to", version)
	}
	if err := f.cfg.Catalog.CheckDown(ctx, version); err != nil {
		return fmt.Errorf("undo migrations: %w", err)
	}
	return nil
}

// mayGoOn refuses to go on with a run down that instances of the application stand in the way of since it began.
func (f *Fleet) mayGoOn(ctx context.Context, run placement.Run) error {
	if !run.Down {
		return nil
	}
	return f.cfg.Catalog.CheckDown(ctx, run.Newest)
}

// homesFirst puts what stands for databases, and then what stands for servers, into waves of their own after the homes, which
// need it as long as they have what was built on it. It returns how many waves there are then.
func homesFirst(targets []target, waves int) int {
	for _, scope := range []migrate.Scope{migrate.ScopeDatabase, migrate.ScopeServer} {
		found := false
		for i := range targets {
			if targets[i].Scope == string(scope) {
				targets[i].Wave, found = waves+1, true
			}
		}
		if found {
			waves++
		}
	}
	return waves
}
