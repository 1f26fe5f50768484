package move

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// cutOver passes the tenant on to the target, or finds out what has become of an attempt whose driver has died.
func (d *drive) cutOver(ctx context.Context) (Phase, error) {
	if d.mv.Offline {
		return d.cutOverOffline(ctx)
	}
	return d.cross(ctx, d.leg(forward), d.mv.Epoch+1, Committed, Verified)
}

// rollBack passes it back to the source.
func (d *drive) rollBack(ctx context.Context) (Phase, error) {
	return d.cross(ctx, d.leg(reverse), d.mv.Epoch+2, Reverting, Reversing)
}

// cross tries to pass the tenant along a leg, to the epoch.
func (d *drive) cross(ctx context.Context, l leg, epoch int64, committed, undone Phase) (Phase, error) {
	if d.stream == nil {
		return d.resolve(ctx, l, epoch, committed, undone)
	}
	c, err := d.cutover(ctx, l, epoch, d.stream)
	if err != nil {
		return "", err
	}
	result, err := c.Run(ctx)
	if result.Committed {
		d.mv.Pause, d.frozen = result.Pause, result
		if l.direction == forward {
			d.mv.ReverseLSN = result.Back.String()
		}
		return committed, nil // what is left of it is the next phase's
	}
	var busy *cutover.BusyError
	var unsettled *cutover.UnsettledError
	switch {
	case errors.As(err, &unsettled):
		return d.resolve(ctx, l, epoch, committed, undone)
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case d.stream.failed() != nil:
		return undone, nil //nolint:nilerr // whoever stands by will see why the stream has ended
	case errors.As(err, &busy):
		if d.mv.Error != notCompared { // which is still to be done when it lives on where it is
			d.mv.Error = err.Error()
		}
		d.note(err.Error())
		if d.goal == Stay || d.mv.Auto {
			return undone, nil
		}
		if err := d.advance(ctx, undone); err != nil {
			return "", err
		}
		return "", &enoughError{err}
	}
	return "", err
}

// cutover describes a leg to package cutover.
func (d *drive) cutover(ctx context.Context, l leg, epoch int64, follower cutover.Follower) (*cutover.Cutover, error) {
	address := isolation.Address{Home: l.to.Home.String(), Model: string(l.to.Model), Epoch: epoch}
	err := l.to.with(ctx, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		address.Stamp, address.Login = id.Stamp, id.AppLogin
		return err
	})
	if err != nil {
		return nil, err
	}
	cfg := cutover.Config{
		Move: d.mv.ID, Owner: d.owner,
		From:    cutover.Home{Key: l.from.key(), Model: string(l.from.Model), Epoch: l.from.Epoch, Connect: l.from.connect},
		To:      cutover.Home{Key: l.to.key(), Model: string(l.to.Model), Epoch: epoch, Connect: l.to.connect},
		ToState: l.state, Address: address, Follower: follower,
		Sequences: cutover.Sequences(l.pairs, l.fromSequences, l.toSequences, l.to.Model == placement.ModelShared),
		Same:      d.sameDatabase(), Back: l.direction == forward,
		MaxPause: d.mv.MaxPause, Stalls: &d.stalls, Logger: d.log,
		Step: func(ctx context.Context, name string) error {
			if name == "cutover-gate" { // nobody waits yet
				if err := d.confirm(ctx); err != nil {
					return err
				}
			}
			return fault(ctx, name)
		},
	}
	without(&cfg)
	return cutover.New(cfg)
}

// resolve finds out whether an attempt that somebody has left behind was committed, and waits until that cannot happen any more. This
// process has taken the other home over before: nothing that the attempt still needs can be applied there.
func (d *drive) resolve(ctx context.Context, l leg, epoch int64, committed, undone Phase) (Phase, error) {
	if d.mv.Offline {
		if err := d.reopen(ctx, l); err != nil {
			return "", err
		}
	}
	c, err := d.cutover(ctx, l, epoch, nil)
	if err != nil {
		return "", err
	}
	passedOn, err := c.Settle(ctx)
	switch {
	case err != nil:
		return "", err
	case passedOn:
		return committed, nil
	}
	return undone, nil
}

// reopen takes back the attempt of an offline move whose driver has died, or hangs, long before its time is up: until then a session
// that hangs would keep the writers out.
func (d *drive) reopen(ctx context.Context, l leg) error {
	const end = `
select count(pg_terminate_backend(a.pid, 5000)) from pg_locks l join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.mode = 'ExclusiveLock'
   and l.database = (select d.oid from pg_database d where d.datname = current_database())
   and (l.classid::bigint << 32 | l.objid::bigint) = landlord.lock_key($1, $2, false)
   and a.application_name = $3 and a.usename = current_user`
	return l.from.with(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, end, d.mv.Tenant.String(), l.from.Home.String(), settings["application_name"]); err != nil {
			return err
		}
		f, err := isolation.ReadFence(ctx, conn, l.from.key())
		if err != nil || f.State != isolation.Fenced {
			return err
		}
		err = isolation.LowerFence(ctx, conn, l.from.key(), l.from.Epoch, f.Owner)
		if errors.Is(err, isolation.ErrFence) { // it was committed in this moment
			return nil
		}
		return err
	})
}
