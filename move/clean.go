package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// What a move has made is taken away in this order: streams first, so that nothing is streamed of what the rest does; the hold and
// the ledger last, because a home that is half gone is still the move's.
var cleaningOrder = []placement.CleanupKind{
	placement.CleanSlot, placement.CleanPublication, placement.CleanHome, placement.CleanLedger, placement.CleanHold,
}

// stays sees to it that the tenant stays in the one home when the other is about to be taken away: it is open there, and no attempt to
// pass it on is under way any more. This process has taken the other home over before, so that none that begins now can succeed.
func (d *drive) stays(ctx context.Context, to Phase) error {
	l, ok := map[Phase]leg{Aborting: d.leg(forward), Completing: d.leg(reverse)}[to]
	if !ok || to == d.mv.Phase {
		return nil
	}
	err := d.retrying(ctx, func(ctx context.Context) error {
		return l.from.with(ctx, func(conn *pgx.Conn) error { return d.lowered(ctx, conn, l.from) })
	})
	if err != nil {
		return fmt.Errorf("see whether the tenant is at home at %s: %w", l.from.Home, err)
	}
	return nil
}

// lowered returns once a home is open, or suspended. A fence that is up there is waited for until it is overdue, and then lowered. It
// reads the row under its lock: behind whoever changes it now.
func (d *drive) lowered(ctx context.Context, conn *pgx.Conn, s side) error {
	for {
		err := isolation.LowerOverdueFence(ctx, conn, s.key(), s.Epoch)
		lost, is := errors.AsType[*isolation.FenceError](err)
		if !is || lost.Stands == nil || lost.Stands.Epoch != s.Epoch {
			return err
		}
		switch lost.Stands.State {
		case isolation.Suspended:
			return nil
		case isolation.Fenced:
		default:
			return err
		}
		d.note("an attempt to pass the tenant on is under way at " + s.Home.String())
		if err := sleep(ctx, lookAround); err != nil {
			return err
		}
	}
}

// cleanups lists what a move has made and not taken away yet.
func (d *drive) cleanups(ctx context.Context) (all []placement.Cleanup, err error) {
	err = d.reaching(ctx, func() (err error) {
		all, err = d.cfg.Catalog.Cleanups(ctx, d.mv.ID)
		return err
	})
	return all, err
}

// cleanAll takes away all that a move has made, in order.
func (d *drive) cleanAll(ctx context.Context) error { return d.cleanAt(ctx, d.source, d.target) }

// cleanAt takes away all that a move has made on the servers of some sides.
func (d *drive) cleanAt(ctx context.Context, sides ...side) error {
	all, err := d.cleanups(ctx)
	if err != nil {
		return err
	}
	for _, kind := range cleaningOrder {
		for _, x := range all {
			if x.Kind != kind || !slices.ContainsFunc(sides, func(s side) bool { return s.Home.Cluster == x.Cluster }) {
				continue
			}
			if err := fault(ctx, "clean-"+string(kind)); err != nil {
				return err
			}
			if err := d.clean(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// clean takes one thing away, waiting for locks for as long as it takes, and then forgets it.
func (d *drive) clean(ctx context.Context, x placement.Cleanup) error {
	err := d.patiently(ctx, x.String(), func() error { return d.remove(ctx, x) })
	if pgerr.Is(err, pgerr.UndefinedDatabase) && x.Kind != placement.CleanHome { // with all that was in it
		err = nil
	}
	if err != nil {
		return fmt.Errorf("take away %s: %w", x, err)
	}
	return d.reaching(ctx, func() error { return d.cfg.Catalog.Cleaned(ctx, d.mv.ID, x) })
}

// remove takes one thing away. What is gone is no error.
func (d *drive) remove(ctx context.Context, x placement.Cleanup) error {
	if x.Kind == placement.CleanHome {
		if err := d.renew(ctx); err != nil {
			return err
		}
		for _, s := range []side{d.source, d.target} {
			if s.Home.String() == x.Name {
				return d.cfg.Homes.Unmake(ctx, s.Placement)
			}
		}
		return fmt.Errorf("home %s is none of the move's", x.Name)
	}
	s, err := d.at(x)
	if err != nil {
		return err
	}
	if x.Kind == placement.CleanSlot {
		return dropSlot(ctx, s, x.Name)
	}
	return s.with(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "set lock_timeout = '"+waitForLock+"'"); err != nil {
			return err
		}
		var err error
		switch x.Kind {
		case placement.CleanPublication:
			_, err = conn.Exec(ctx, "drop publication if exists "+pgx.Identifier{x.Name}.Sanitize())
		case placement.CleanHold:
			_, err = conn.Exec(ctx, `delete from landlord.move_hold where schema = $1 and move = $2`, x.Name, d.mv.ID)
		case placement.CleanLedger:
			err = forgetProgress(ctx, conn, d.mv.ID)
		case placement.CleanSlot, placement.CleanHome: // see above
		}
		if pgerr.Is(err, pgerr.UndefinedTable, pgerr.UndefinedSchema) { // landlord's objects were not made yet
			err = nil
		}
		return err
	})
}

// forgetProgress empties the ledger of a move at one side.
func forgetProgress(ctx context.Context, conn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, move string,
) error {
	const q = `with c as (delete from landlord.move_chunk where move = $1) delete from landlord.move_progress where move = $1`
	_, err := conn.Exec(ctx, q, move)
	return err
}

// at is the side in whose database something lies.
func (d *drive) at(x placement.Cleanup) (side, error) {
	for _, s := range []side{d.source, d.target} {
		if s.Home.Cluster == x.Cluster && s.Home.Database == x.Database {
			return s, nil
		}
	}
	return side{}, errors.New("it is at neither end of the move")
}

// dropSlot drops a slot, whoever reads it: whoever does is a driver that this one has taken over from. It connects as for any
// other work, through which a slot of another database of the server can be dropped as well.
func dropSlot(ctx context.Context, s side, name string) error {
	cfg, err := s.config()
	if err != nil {
		return err
	}
	conn, err := repl.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	err = conn.Evict(ctx, name)
	_ = conn.Close(ctx)
	if err != nil {
		return err
	}
	return s.with(ctx, func(conn *pgx.Conn) error {
		const q = `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1`
		_, err := conn.Exec(ctx, q, name)
		return err
	})
}

// tidyTimeout bounds the tidying up of a driver that has a successor.
const tidyTimeout = 30 * time.Second

// tidy takes away what this process may have made after its successor had taken everything away: it stood still between putting
// down what it was about to make, and making it. Its streams have names of their own; what all drivers of the move share is left to the
// successor, unless the move is over.
func (d *drive) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTimeout)
	defer cancel()
	_, err := d.cfg.Catalog.RenewMove(ctx, d.mv.ID, d.owner, lease)
	if !errors.Is(err, placement.ErrMoveLost) {
		return // what is on record is still this one's, or will be met by whoever comes next
	}
	now, err := d.cfg.Catalog.Move(ctx, d.mv.ID)
	over := err == nil && now.Over()
	for _, s := range []side{d.source, d.target} {
		found, err := d.standing(ctx, s)
		for _, x := range found.things {
			own := strings.HasSuffix(x.Name, "_"+d.owner[:8])
			if err == nil && (own && (x.Kind == placement.CleanSlot || x.Kind == placement.CleanPublication) || over && x.Kind == placement.CleanHold) {
				err = d.patiently(ctx, x.String(), func() error { return d.remove(ctx, x) })
			}
		}
		if err != nil {
			d.log.WarnContext(ctx, "what was made too late could not be taken away: landlord doctor finds it", "move", d.mv.ID, "home", s.Home, "error", err)
		}
	}
}
