package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
)

// drive is one process's work at a move. Its steps are called one at a time; each may have been done before, by another process that
// died anywhere in it.
type drive struct {
	*Mover
	goal  Goal
	owner string // of the claim in the catalog, and of the fence rows through which this process writes

	mv             placement.Move
	source, target side
	pairs          []table.Pair        // nil: not read yet
	references     []table.Pair        // tables that must be alike at both homes
	sequences      [2][]table.Sequence // of the source's schema, and of the target's; read with the pairs
	life           context.Context     //nolint:containedctx // Drive's: a stream goes on from step to step
	stream         *stream             // nil: none runs; written under mu
	stalls         cutover.Stalls      // of all that this process has tried
	frozen         cutover.Result      // of the cutover that this process has committed
	compared       bool                // frozen was, as far as it could be
	different      error               // what that has found
	compareAt      time.Time           // when to try again what an earlier driver did not come to compare
	made           bool                // something was made on servers, or begun to be

	mu      sync.Mutex // guards what follows
	status  Status     // its move's Asked is what is asked for now
	renewed time.Time  // when the claim was last asked for and got
	endStep context.CancelCauseFunc

	telling sync.Mutex // held while Progress is called
}

// What ends a step from outside.
var (
	errAbortAsked = errors.New("it was asked to abort")
	errTooMuchWAL = errors.New("the move's slot holds back more of the log than it may (--max-wal)")
)

// AbortedError reports a move that was undone because it could not go on. The tenant has not left its home.
type AbortedError struct{ Why string }

func (e *AbortedError) Error() string {
	return "the move was aborted, and the tenant is where it was: " + e.Why
}

// Drive works at a move until goal is reached, and returns the move as it is then. A move that another process drives is a
// [*placement.MoveClaimedError], one that ends elsewhere than at its goal is an error. When ctx ends, the move stays as it is and can be
// driven on; but once the source has given the tenant away, Drive opens the target first.
//
// What cannot be reached for a time is waited for. What keeps a move from ever being finished before its cutover aborts it, with an
// [*AbortedError]; after the cutover it ends the way back, which the move's record says.
func (m *Mover) Drive(ctx context.Context, id string, goal Goal) (placement.Move, error) {
	return m.claim(ctx, id, goal, (*drive).run)
}

// claim does work as the one who drives the move.
func (m *Mover) claim(ctx context.Context, id string, goal Goal, work func(*drive, context.Context) error) (placement.Move, error) {
	d := &drive{Mover: m, goal: goal, owner: uuid.NewString()}
	asked := time.Now()
	var err error
	if d.mv, err = m.cfg.Catalog.ClaimMove(ctx, id, d.owner, lease); err != nil {
		return d.mv, err
	}
	d.status.Move, d.renewed = d.mv, asked
	ctx, cancel := context.WithCancelCause(ctx)
	d.life = ctx
	var keeper sync.WaitGroup
	keeper.Go(func() { d.keep(ctx, id, cancel) })
	err = work(d, ctx)
	d.stopStream()
	cancel(context.Canceled)
	keeper.Wait()
	if err != nil && d.made {
		d.tidy(ctx)
	}
	return d.mv, errors.Join(d.release(ctx), d.tell(ctx, err))
}

// release gives the claim back, unless the catalog is down: then it runs out by itself.
func (d *drive) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := d.cfg.Catalog.ReleaseMove(ctx, d.mv.ID, d.owner)
	if errors.Is(err, placement.ErrUnavailable) || ctx.Err() != nil {
		return nil
	}
	return err
}

// tell makes err one that a person can use.
func (d *drive) tell(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, placement.ErrMoveLost):
		return fmt.Errorf("move tenant %s: %w", d.mv.Slug, err)
	case d.mv.Over():
		return err
	case errors.Is(context.Cause(ctx), placement.ErrMoveLost):
		return fmt.Errorf("move tenant %s: %w", d.mv.Slug, placement.ErrMoveLost)
	}
	return fmt.Errorf("move tenant %s, %s: %w; 'landlord move resume %[1]s' goes on", d.mv.Slug, d.mv.Phase, err)
}

// run goes from phase to phase.
func (d *drive) run(ctx context.Context) error {
	if err := d.reaching(ctx, func() error { return d.readSides(ctx) }); err != nil {
		return err
	}
	if err := d.retrying(ctx, d.reconcile); err != nil {
		return err
	}
	if err := d.retrying(ctx, d.takeOver); err != nil {
		return err
	}
	// Between the claim and the taking over this process may have slept, and then it has taken the home from its successor.
	if err := d.renew(ctx); err != nil {
		return err
	}
	for !d.mv.Over() {
		// The homes may differ by now, if nobody has kept them in step, or an earlier driver has not come to compare them.
		if slices.Contains(reached[d.goal], d.mv.Phase) && (d.mv.Phase != Verified || d.stream != nil) && !Uncompared(d.mv) {
			return nil
		}
		if slices.Contains(missed[d.goal], d.mv.Phase) {
			return fmt.Errorf("it has come too far, or not far enough, for that: %w", placement.ErrMovePhase)
		}
		if !slices.Contains(keepsError, d.mv.Phase) && d.mv.Error != notCompared {
			d.mv.Error = "" // on record it stays until the step has succeeded
		}
		to, err := d.step(ctx)
		if err != nil {
			return err
		}
		if err := d.stays(ctx, to); err != nil {
			return err
		}
		if err := d.advance(ctx, to); err != nil {
			return err
		}
	}
	switch {
	case d.goal == Stay || slices.Contains(reached[d.goal], d.mv.Phase):
		return nil
	case d.mv.Phase == Aborted:
		return &AbortedError{Why: d.mv.Error}
	}
	return fmt.Errorf("the move of tenant %s has ended: it is %s", d.mv.Slug, d.mv.Phase)
}

// keepsError lists the phases whose work says nothing about what went wrong before: why an attempt was undone, in what the homes
// differed after the cutover, why the move is aborted.
var keepsError = []Phase{Verified, Reversing, Completing, Aborting}

// missed lists the phases from which a goal cannot be reached any more, or not by itself.
var missed = map[Goal][]Phase{
	ToAborted:  {Committed, Reversing, RollingBack, Reverting, Completing},
	ToReverted: {Completing, Planned, Preparing, Copying, Following, Verified, Aborting},
	ToDone:     {Reverting, Aborting},
}

func (d *drive) readSides(ctx context.Context) (err error) {
	d.source, d.target, err = d.sides(ctx, d.mv)
	return err
}

// beforeCommit lists the phases in which a move can be aborted. Fencing first has to find out what has become of its attempt.
var beforeCommit = []Phase{Planned, Preparing, Copying, Following, Verified}

// step does the work of the present phase and returns the one that follows. It tries again what has failed for reasons that pass.
func (d *drive) step(ctx context.Context) (to Phase, err error) {
	abortable := slices.Contains(beforeCommit, d.mv.Phase)
	if abortable && d.wants(placement.AskAbort) {
		return Aborting, nil
	}
	if err := fault(ctx, "begin-"+string(d.mv.Phase)); err != nil {
		return "", err
	}
	work, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	if abortable {
		d.stepEnds(cancel)
		defer d.stepEnds(nil)
	}
	if abortable && !d.mv.Offline || d.mv.Phase == Reversing {
		move, limit := d.mv.ID, d.mv.MaxWAL
		watch.Go(func() { d.watchSlots(work, move, limit, cancel) })
	}
	err = d.retrying(work, func(ctx context.Context) error {
		to, err = steps[d.mv.Phase](d, ctx)
		return err
	})
	if cause := context.Cause(work); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	if err == nil {
		return to, nil
	}
	return d.recover(ctx, err)
}

// recover decides how a move goes on whose step has failed for good.
func (d *drive) recover(ctx context.Context, err error) (Phase, error) {
	abortable := slices.Contains(beforeCommit, d.mv.Phase)
	var problems *ProblemsError
	var different *verify.MismatchError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, follow.ErrFencedOff), errors.Is(err, chunk.ErrFencedOff):
		return "", fmt.Errorf("%w: %w", placement.ErrMoveLost, err)
	case abortable && errors.Is(err, errAbortAsked):
		return Aborting, nil
	case abortable && errors.Is(err, repl.ErrSlotLost):
		d.log.WarnContext(ctx, "the copy starts again", "move", d.mv.ID, "error", err)
		return Preparing, nil
	case abortable && (errors.Is(err, errTooMuchWAL) || isStreamEnd(err) || errors.As(err, &problems) || errors.As(err, &different)):
		d.mv.Error = err.Error()
		return Aborting, nil
	case d.mv.Phase == Reversing:
		if err := d.loseWayBack(ctx, err); err != nil {
			return "", err
		}
		return Reversing, nil
	}
	d.mv.Error = err.Error()
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, recordErr := d.cfg.Catalog.AdvanceMove(detached, d.mv, d.owner, d.mv.Phase); recordErr != nil {
		d.log.WarnContext(ctx, "the error could not be recorded", "move", d.mv.ID, "error", recordErr)
	}
	return "", err
}

// steps is what is done in each phase.
var steps = map[Phase]func(*drive, context.Context) (Phase, error){
	Planned:     func(*drive, context.Context) (Phase, error) { return Preparing, nil },
	Preparing:   (*drive).prepare,
	Copying:     (*drive).copy,
	Following:   (*drive).catchUp,
	Verified:    (*drive).stand,
	Fencing:     (*drive).cutOver,
	Committed:   (*drive).settle,
	Reversing:   (*drive).standBack,
	RollingBack: (*drive).rollBack,
	Completing:  (*drive).complete,
	Aborting:    (*drive).abort,
	Reverting:   (*drive).revert,
}

// advance records the step from one phase to the next, and waits for the catalog as long as it takes. A Ctrl-C does not keep a commit
// point from being recorded.
func (d *drive) advance(ctx context.Context, to Phase) error {
	if err := checkStep(d.mv.Phase, to); err != nil {
		return err
	}
	return d.record(ctx, to)
}

func (d *drive) record(ctx context.Context, to Phase) error {
	if to == Committed || to == Reverting {
		var done func()
		ctx, done = outlive(ctx)
		defer done()
	}
	err := d.reaching(ctx, func() error {
		after, err := d.cfg.Catalog.AdvanceMove(ctx, d.mv, d.owner, to)
		if errors.Is(err, placement.ErrMoveLost) { // or the answer to an earlier try was lost
			if mine, renewErr := d.cfg.Catalog.RenewMove(ctx, d.mv.ID, d.owner, lease); renewErr == nil && mine.Phase == to {
				after, err = mine, nil
			}
		}
		if err == nil {
			d.mv = after
		}
		return err
	})
	if err != nil {
		return err
	}
	d.log.InfoContext(ctx, "the move has come to its next phase", "tenant", d.mv.Slug, "move", d.mv.ID, "phase", string(to))
	d.publish(func(s *Status) { s.Move = d.mv })
	return fault(ctx, "end-"+string(to))
}

// afterCommit is how long a driver that was told to stop goes on when the tenant has no open home yet, or the catalog does not know it.
const afterCommit = time.Minute

// outlive returns a context that ends afterCommit after ctx does.
func outlive(ctx context.Context) (longer context.Context, done func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	end := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		select {
		case <-end:
			return
		case <-ctx.Done():
		}
		select {
		case <-end:
		case <-time.After(afterCommit):
			cancel(context.Cause(ctx))
		}
	})
	return longer, func() {
		close(end)
		waiter.Wait()
		cancel(nil)
	}
}

// wants tells whether something is wished for, by the goal or by somebody's asking.
func (d *drive) wants(what placement.MoveAsk) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if wish[d.goal] == what || d.status.Move.Asked == what {
		return true
	}
	return what == placement.AskCutover && (d.mv.Auto || d.goal == ToDone)
}
