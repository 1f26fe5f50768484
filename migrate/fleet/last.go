package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// IsOf reports whether a run is one of these files, wherever they lie.
func IsOf(run placement.Run, set *migrate.Set) bool { return run.Files == digest(set) }

// origin says where the files of a run were when it began, as far as that is known.
func origin(run placement.Run) string {
	if run.Folder == "" {
		return ""
	}
	return fmt.Sprintf(" (by %s, in %s)", run.Actor, run.Folder)
}

// close ends where all homes have all: there is no run to begin. One of these files that was killed before it could say that it
// is over is gone on with, which ends it. One of other files, on which nobody is at work, has nothing to go on with.
func (f *Fleet) close(ctx context.Context, to aim, plan Plan, health Health) (Status, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	switch {
	case errors.Is(err, placement.ErrNoRun):
	case err != nil:
		return Status{}, err
	case run.Files == f.files && aimOf(run) == to && run.State == placement.RunRunning:
		return f.work(ctx, run, health)
	case !run.Over() && (run.Files != f.files || aimOf(run) != to):
		err := f.cfg.Catalog.AbandonRun(ctx, run.ID, "all homes have what other files make of them")
		if err != nil && !errors.Is(err, placement.ErrRunState) {
			return Status{}, err
		}
	}
	return Status{UpToDate: plan.UpToDate}, nil
}
