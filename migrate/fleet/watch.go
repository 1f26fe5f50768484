package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/landlord-go/landlord/placement"
)

// StatusOf tells how far the run of that number is or was, or [placement.ErrNoRun].
func (f *Fleet) StatusOf(ctx context.Context, number int64) (Status, error) {
	run, err := f.cfg.Catalog.RunByNumber(ctx, number)
	return f.status(ctx, run, err)
}

// History returns the runs that began last, the newest first.
func (f *Fleet) History(ctx context.Context, limit int) ([]placement.PastRun, error) {
	return f.cfg.Catalog.Runs(ctx, limit)
}

// watchTimeout bounds one look at the catalog.
const watchTimeout = 5 * time.Second

// Watch follows the last run, in whatever processes it is at work, until it is over, paused or halted. About once a second
// it calls Config.Progress with what it sees, and lost, with the error, where the catalog cannot be reached: that is waited for
// without end. It returns the run's end, [placement.ErrNoRun], or an error of the first look.
func (f *Fleet) Watch(ctx context.Context, lost func(error)) (Status, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	if err != nil {
		return Status{}, err
	}
	for {
		s, err := f.lookAt(ctx, run)
		switch {
		case err == nil && s.Run.State != placement.RunRunning:
			f.cfg.Progress(s)
			return s, nil
		case err == nil:
			f.cfg.Progress(s)
		case ctx.Err() == nil && errors.Is(err, placement.ErrUnavailable):
			lost(err)
		default:
			return Status{}, err
		}
		if !pause(ctx, progressTick) {
			return Status{}, ctx.Err()
		}
	}
}

// lookAt is the progress of a run, and its whole status when it is not at work.
func (f *Fleet) lookAt(ctx context.Context, run placement.Run) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	s, err := f.progressOf(ctx, run.ID)
	if err == nil && s.Run.State != placement.RunRunning {
		s, err = f.statusOf(ctx, run.ID)
	}
	return s, err
}
