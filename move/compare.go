package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
)

// verify compares both homes at one position of the stream, while the tenant goes on working. Homes that differ are a
// [*verify.MismatchError].
func (d *drive) verify(ctx context.Context, l leg) error {
	if d.mv.Offline { // done behind the fence
		return nil
	}
	c, err := d.cutover(ctx, l, l.from.Epoch+1, d.stream)
	if err != nil {
		return err
	}
	source, target, err := c.Snapshots(ctx)
	if err != nil {
		if failed := d.stream.failed(); failed != nil {
			err = failed
		}
		return err
	}
	if l.direction == reverse {
		source, target = target, source
	}
	return d.compare(ctx, source, target)
}

// compareNow compares two homes to which nobody writes.
func (d *drive) compareNow(ctx context.Context) error {
	var snapshots [2]*verify.Snapshot
	for i, s := range []side{d.source, d.target} {
		conn, err := s.connect(ctx)
		if err == nil {
			snapshots[i], err = verify.Take(ctx, conn, s.connect)
		}
		if err != nil {
			closeSnapshots(ctx, snapshots[0])
			return err
		}
	}
	return d.compare(ctx, snapshots[0], snapshots[1])
}

// compareFrozen compares both homes as they were when neither was open. Homes that differ are a [*verify.MismatchError]; that they could
// not be compared is no error.
func (d *drive) compareFrozen(ctx context.Context, direction string) error {
	source, target := d.frozen.Before, d.frozen.After
	if direction == reverse {
		source, target = target, source
	}
	d.frozen.Before, d.frozen.After = nil, nil
	switch {
	case source != nil && target != nil:
	case d.compared || d.mv.Offline: // an offline move has compared them before it passed the tenant on
		return nil
	default: // another process has cut over, and the snapshots died with it
		closeSnapshots(ctx, source, target)
		d.mv.Error = map[string]string{forward: notCompared, reverse: notComparedBack}[direction]
		return nil
	}
	d.compared = true
	err := d.compare(ctx, source, target)
	if _, different := errors.AsType[*verify.MismatchError](err); different {
		d.log.ErrorContext(ctx, "source and target of a move differ", "tenant", d.mv.Slug, "move", d.mv.ID, "error", err)
		return err
	}
	if err != nil {
		d.mv.Error = map[string]string{forward: notCompared, reverse: notComparedBack}[direction]
		d.log.WarnContext(ctx, "source and target could not be compared after the cutover", "move", d.mv.ID, "error", err)
	}
	return nil
}

// What the record of a move says for want of a comparison.
const (
	notCompared     = "after the cutover: the two homes have not been compared yet"
	neverCompared   = "after the cutover: the two homes were not compared, and cannot be any more: "
	notComparedBack = "after the rollback: the two homes were not compared, because the process that was to do it had gone"
)

// Uncompared tells whether a move that was cut over still has to compare its homes, which its next driver does.
func Uncompared(m placement.Move) bool { return m.Phase == Reversing && m.Error == notCompared }

// compareLate makes the comparison that an earlier driver owes, of the new home and the old one that is kept in step with it, and
// records what it has found. It can be made only while there is a way back. A tenant that is too busy for it is asked again later,
// unless this process is to end.
func (d *drive) compareLate(ctx context.Context) error {
	if time.Now().Before(d.compareAt) {
		return nil
	}
	found := ""
	if d.mv.NoRollback != "" {
		found = neverCompared + d.mv.NoRollback
		d.different = errors.New(found)
	} else {
		err := d.verify(ctx, d.leg(reverse))
		busy, tooBusy := errors.AsType[*cutover.BusyError](err)
		different, differ := errors.AsType[*verify.MismatchError](err)
		switch {
		case tooBusy && d.goal != Stay:
			return &enoughError{fmt.Errorf("%s: %w", notCompared, busy)}
		case tooBusy:
			d.compareAt = time.Now().Add(time.Minute)
			d.note(busy.Error())
			return nil
		case differ:
			d.differ(different)
			found = d.mv.Error
		case err != nil:
			return err
		}
	}
	d.mv.Error = found
	return d.advance(ctx, Reversing)
}

// differ takes down what the comparison after the cutover has found.
func (d *drive) differ(err error) {
	d.different = fmt.Errorf("after the cutover: %w; look at these rows, and roll back or complete the move", err)
	d.mv.Error = d.different.Error()
}

// compare owns both snapshots.
func (d *drive) compare(ctx context.Context, source, target *verify.Snapshot) error {
	defer closeSnapshots(ctx, source, target)
	workers := d.cfg.Workers
	if d.mv.MaxRate > 0 { // a longer comparison would hold its snapshots for longer, which costs others more than it spares them
		workers = 1
	}
	report, err := verify.Compare(ctx, source, target, append(d.references, d.pairs...), verify.Options{Workers: workers})
	if err != nil {
		return err
	}
	return report.Err()
}

func closeSnapshots(ctx context.Context, all ...*verify.Snapshot) {
	for _, s := range all {
		if s != nil {
			_ = s.Close(ctx)
		}
	}
}
