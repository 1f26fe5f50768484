package move

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// An offline move is for servers that write no logical log. It is one long cutover: the fence is raised first, then the rows are
// copied and compared, and then the tenant is passed on. Writers wait, or are turned away, for all that time; so does work across
// tenants in that database, which nothing would tell us of. There is no way back, and a driver that dies or hangs leaves the tenant closed
// to writers until somebody drives the move on, or --max-pause is over.

// noWayBack is why an offline move cannot be rolled back.
const noWayBack = "it was an offline move: what is written at the target is not kept anywhere else"

// cutOverOffline makes the whole of an offline move, or takes back what a driver that has died has left.
func (d *drive) cutOverOffline(ctx context.Context) (Phase, error) {
	if err := d.readPairs(ctx); err != nil {
		return "", err
	}
	d.mv.NoRollback = noWayBack // also where an earlier driver has passed the tenant on
	l := d.leg(forward)
	if to, err := d.resolve(ctx, l, d.mv.Epoch+1, Committed, Verified); err != nil || to == Committed || d.wants(placement.AskAbort) {
		return to, err
	}
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := offlineCopy{d: d, fail: cancel, ctx: run}
	defer work.running.Wait()
	defer cancel(nil)
	c, err := d.cutover(ctx, l, d.mv.Epoch+1, &work)
	if err != nil {
		return "", err
	}
	result, err := c.Run(run)
	if result.Committed {
		d.mv.Pause, d.frozen = result.Pause, result
		return Committed, nil
	}
	if cause := context.Cause(run); cause != nil && ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	if _, unsettled := errors.AsType[*cutover.UnsettledError](err); unsettled {
		return d.resolve(ctx, l, d.mv.Epoch+1, Committed, Verified)
	}
	if _, busy := errors.AsType[*cutover.BusyError](err); busy {
		return "", &enoughError{err} // the writers have waited often enough
	}
	return "", err
}

// offlineCopy stands where a cutover expects a follower: when the fence is up, it copies. What an attempt has begun that was undone
// ends before the next one.
type offlineCopy struct {
	d       *drive
	ctx     context.Context //nolint:containedctx // of all attempts
	fail    context.CancelCauseFunc
	running sync.WaitGroup // of one copy at most
}

// At copies everything before it calls fn, where the message is that of the fence, and stops copying when it is taken back. Others
// only ask whether somebody listens.
func (o *offlineCopy) At(token string, fn func(ctx context.Context, at repl.LSN) error) func() bool {
	if !strings.HasPrefix(token, "fence ") {
		o.running.Wait() // nobody waits for us yet
		go func() { _ = fn(o.ctx, 0) }()
		return func() bool { return false }
	}
	ctx, stop := context.WithCancel(o.ctx)
	o.running.Go(func() {
		err := o.copy(ctx)
		if err == nil {
			err = fn(ctx, 0)
		}
		if err != nil && ctx.Err() == nil {
			o.fail(err)
		}
	})
	return func() bool {
		stop()
		return false
	}
}

// copy begins anew: since an earlier attempt the tenant may have been open.
func (o *offlineCopy) copy(ctx context.Context) error {
	if err := o.d.forgetCopy(ctx); err != nil {
		return err
	}
	if err := o.d.copyRows(ctx); err != nil {
		return err
	}
	return o.d.compareNow(ctx)
}
