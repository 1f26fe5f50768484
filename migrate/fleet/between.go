package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/landlord-go/landlord/placement"
)

// Health finds out whether all is well after a wave: that of the run, which is done. It gets [placement.CheckLimit] for it. An
// error halts the run, and its text is kept as the reason.
type Health func(ctx context.Context, run placement.Run) error

// setBetween changes what stands between the waves of a run that is gone on with.
func (f *Fleet) setBetween(ctx context.Context, run placement.Run, o Options) error {
	b := run.Between
	if o.Soak != 0 {
		b.Soak = max(o.Soak, 0)
	}
	switch {
	case o.NoHealth:
		b.Checked = false
	case o.Health != nil:
		b.Checked = true
	case b.Checked && run.Wave < run.Waves:
		return fmt.Errorf("%w: run %d asks a health command before each wave, and that is stored nowhere: give it again with --health, "+
			"or go on without one with --health none", placement.ErrRunState, run.Number)
	}
	if b == run.Between {
		return nil
	}
	return f.cfg.Catalog.SetBetween(ctx, run.ID, b)
}

// between takes a run over what stands between its wave, which is done, and the next one, if it is time. passed reports that
// the run can go on; another process may have found so, too.
func (c *crew) between(ctx context.Context, run placement.Run) (passed bool, err error) {
	check, err := c.cfg.Catalog.PassWave(ctx, run.ID, run.Wave, c.process, c.health != nil)
	if err != nil || !check {
		return false, err
	}
	if err := c.tell(ctx); err != nil { // a check takes its time
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, placement.CheckLimit)
	defer cancel()
	result, why := placement.CheckPassed, ""
	failed := c.health(limited, run)
	switch {
	case ctx.Err() != nil: // what it said may come from that
		result = placement.CheckGivenBack
	case failed != nil:
		result, why = placement.CheckFailed, "health check failed: "+failed.Error()
	}
	record, cancelRecord := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelRecord()
	return result == placement.CheckPassed, c.cfg.Catalog.EndCheck(record, run.ID, run.Wave, c.process, result, why)
}

// tell tells how far the run is.
func (c *crew) tell(ctx context.Context) error {
	status, err := c.progressOf(ctx, c.run.ID)
	if err == nil {
		c.cfg.Progress(status)
	}
	return err
}
