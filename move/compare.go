package move

import (
	"context"
	"errors"

	"github.com/landlord-go/landlord/move/verify"
)

// verify compares both homes at one position of the stream, while the tenant goes on working. Homes that differ are a
// [*verify.MismatchError].
func (d *drive) verify(ctx context.Context, l leg) error {
	if d.mv.Offline { // done behind the fence
		return nil
	}
	c, err := d.cutover(ctx, l, d.mv.Epoch+1, d.stream)
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
	if source == nil || target == nil { // another process has cut over, and the snapshots died with it
		closeSnapshots(ctx, source, target)
		return nil
	}
	err := d.compare(ctx, source, target)
	if _, different := errors.AsType[*verify.MismatchError](err); different {
		d.log.ErrorContext(ctx, "source and target of a move differ", "tenant", d.mv.Slug, "move", d.mv.ID, "error", err)
		return err
	}
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "source and target could not be compared after the cutover", "move", d.mv.ID, "error", err)
	}
	return nil
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
