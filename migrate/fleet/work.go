package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/placement"
)

// How often an idle worker asks for work, and how often progress is told.
const (
	pollFirst    = 20 * time.Millisecond
	pollMost     = 500 * time.Millisecond
	pollSoak     = time.Second
	progressTick = time.Second
)

// work works on a run until it is over, paused or halted, or ctx ends. health, if not nil, finds out between waves whether all
// is well.
func (f *Fleet) work(ctx context.Context, run placement.Run, health Health) (Status, error) {
	r, err := f.reach(ctx)
	if err != nil {
		return f.status(ctx, run, err)
	}
	c := &crew{Fleet: f, run: run, health: health, wake: make(chan struct{}), ready: make(chan struct{}, 1)}
	c.reach.Store(&r)
	c.beats.Store(&beats{})
	err = c.work(ctx)
	// What is known of the run is told also when ctx has ended.
	statusCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.cfg.Grace)
	defer cancel()
	status, statusErr := f.statusOf(statusCtx, run.ID)
	if err == nil && statusErr == nil && (ctx.Err() == nil || status.Run.State != placement.RunRunning) {
		f.cfg.Progress(status)
		return status, nil
	}
	err = errors.Join(ctx.Err(), err, statusErr)
	return status, fmt.Errorf("run %d: what is applied stays applied, and landlord migrate resume goes on: %w", run.Number, err)
}

// crew is this process's workers on one run.
type crew struct {
	*Fleet
	run    placement.Run // as it was when work began
	health Health
	reach  atomic.Pointer[reach]
	idle   atomic.Int32 // workers that found nothing to do
	beats  atomic.Pointer[beats]
	ready  chan struct{} // one has come to the end of what there was to do

	mu   sync.Mutex    // guards wake
	wake chan struct{} // closed when there may be work again
}

func (c *crew) work(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Statements that run when ctx ends are waited for.
	steps, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	over := context.AfterFunc(ctx, func() { time.AfterFunc(c.cfg.Grace, cut) })
	defer over()

	if err := c.cfg.Catalog.Attend(ctx, c.run.ID, c.cfg.Lease); err != nil {
		return err
	}
	// The lease is renewed until the last worker has given back what it had.
	beats, still := context.WithCancel(context.WithoutCancel(ctx))
	var beat sync.WaitGroup
	beat.Go(func() { c.heartbeat(beats) })
	defer beat.Wait()
	defer still()

	workers, wctx := errgroup.WithContext(ctx)
	hired := make(map[string]bool)
	hire := func() (crowd int) {
		for name := range c.reach.Load().clusters {
			for range c.cfg.Workers {
				crowd++
				if hired[name] {
					continue
				}
				workers.Go(func() error {
					w := &worker{crew: c, cluster: name, steps: steps}
					defer w.close()
					return w.loop(wctx)
				})
			}
			hired[name] = true
		}
		return crowd
	}
	workers.Go(func() error { return c.drive(wctx, hire, stop) })
	err := workers.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // the caller's end, or the run's
	}
	return err
}

// beats are renewals that followed each other before what they renewed could lapse: when the first and the last of them began.
type beats struct{ first, last time.Time }

// heartbeat says that this process is there, and renews what it holds. That it fails for a while is no harm: who is overtaken is refused by the home.
func (c *crew) heartbeat(ctx context.Context) {
	told := false
	for pause(ctx, c.cfg.Lease/3) {
		begun := time.Now()
		err := errors.Join(c.cfg.Catalog.RenewTargets(ctx, c.run.ID, c.process, c.cfg.Lease), c.cfg.Catalog.Attend(ctx, c.run.ID, c.cfg.Lease))
		switch {
		case err == nil:
			told = false
			b := *c.beats.Load()
			if begun.Sub(b.last) >= c.cfg.Lease {
				b.first = begun
			}
			b.last = begun
			c.beats.Store(&b)
		case ctx.Err() == nil && !told:
			told = true
			c.log.WarnContext(ctx, "leases of migration targets not renewed", "run", c.run.Number, "error", err)
		}
	}
}

// drive hires workers for every cluster, takes the run from wave to wave while they find nothing to do, and stops them when it
// does not go on.
func (c *crew) drive(ctx context.Context, hire func() (crowd int), stop func()) error {
	wait, told, wave := pollFirst, time.Time{}, c.run.Wave
	crowd := hire()
	for c.rest(ctx, wait) {
		wait = min(2*wait, pollMost)
		if time.Since(told) > progressTick {
			told = time.Now()
			status, err := c.progressOf(ctx, c.run.ID)
			if err != nil {
				return err
			}
			c.cfg.Progress(status)
			if status.Run.State != placement.RunRunning {
				stop()
				return nil
			}
		}
		if int(c.idle.Load()) < crowd {
			continue
		}
		run, more, err := c.advance(ctx)
		more, wave = more || run.Wave > wave, run.Wave
		switch {
		case err != nil:
			return err
		case run.State != placement.RunRunning:
			stop()
			return nil
		case run.SoakLeft != nil && *run.SoakLeft > pollMost:
			wait = min(*run.SoakLeft, pollSoak)
		case more:
			wait = pollFirst
			crowd = hire() // a cluster may be new
			c.rouse()
		}
	}
	return ctx.Err()
}

// advance goes on with the run, if that can be. more reports that targets were added, or that the next wave may begin.
func (c *crew) advance(ctx context.Context) (run placement.Run, more bool, err error) {
	run, open, err := c.cfg.Catalog.AdvanceRun(ctx, c.run.ID, false)
	if err != nil {
		return run, false, err
	}
	if run.State != placement.RunRunning || open > 0 {
		return run, false, nil
	}
	if run.Wave < run.Waves {
		if run.Between != (placement.Between{}) {
			more, err = c.between(ctx, run)
		}
		return run, more, err
	}
	late, err := c.late(ctx, run)
	if err != nil {
		return run, false, err
	}
	if len(late) > 0 {
		r, err := c.Fleet.reach(ctx) // there may be databases that were not there before
		if err != nil {
			return run, false, err
		}
		c.reach.Store(&r)
		return run, true, c.cfg.Catalog.AddRunTargets(ctx, run.ID, late)
	}
	run, _, err = c.cfg.Catalog.AdvanceRun(ctx, run.ID, true)
	return run, false, err
}

// rouse wakes workers that wait for work.
func (c *crew) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.wake)
	c.wake = make(chan struct{})
}

func (c *crew) woken() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wake
}

// rest is pause, but ends when a worker has come to the end of what there was to do.
func (c *crew) rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-c.ready:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// pause waits for d and reports whether it could, or false as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
