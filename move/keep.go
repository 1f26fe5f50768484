package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/placement"
)

// lease is how long a move stays with a driver that is not heard of, by the catalog's clock.
const lease = 10 * time.Second

// keep holds the claim while a driver works, hears what is asked for, watches the log that the slots hold back, and reports how far
// the move is, about once a second until ctx ends. Without the claim the driver stops before it writes again; that it has written
// nothing in between is the fence rows' business.
func (d *drive) keep(ctx context.Context, move string, stop context.CancelCauseFunc) {
	for ctx.Err() == nil {
		switch err := d.tryToRenew(ctx, move); {
		case errors.Is(err, placement.ErrMoveLost):
			stop(placement.ErrMoveLost)
			return
		case err != nil && ctx.Err() == nil:
			d.log.WarnContext(ctx, "the move's claim could not be renewed", "move", move, "error", err)
		}
		d.publish(func(*Status) {})
		_ = sleep(ctx, time.Second)
	}
}

// tryToRenew renews the claim, unless another driver has it or the catalog cannot be reached.
func (d *drive) tryToRenew(ctx context.Context, move string) error {
	asked := time.Now()
	m, err := d.cfg.Catalog.RenewMove(ctx, move, d.owner, lease)
	if err == nil {
		d.hear(m, asked)
	}
	return err
}

// renew renews the claim, and waits for the catalog as long as it takes.
func (d *drive) renew(ctx context.Context) error {
	return d.reaching(ctx, func() error { return d.tryToRenew(ctx, d.mv.ID) })
}

// confirm renews the claim if it may have run out meanwhile. It stands in front of what a driver that has a successor should not begin.
func (d *drive) confirm(ctx context.Context) error {
	d.mu.Lock()
	ranOut := time.Since(d.renewed) >= lease
	d.mu.Unlock()
	if !ranOut {
		return nil
	}
	return d.renew(ctx)
}

// hear takes up what is asked for, and ends the present step when it is to abort.
func (d *drive) hear(m placement.Move, asked time.Time) {
	d.mu.Lock()
	d.status.Move.Asked, d.renewed = m.Asked, asked
	end := d.endStep
	d.mu.Unlock()
	if m.Asked == placement.AskAbort && end != nil {
		end(errAbortAsked)
	}
}

// stepEnds says what ends the present step from outside; nil: nothing does.
func (d *drive) stepEnds(end context.CancelCauseFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endStep = end
}

// publish reports how far the move is, after change.
func (d *drive) publish(change func(*Status)) {
	d.mu.Lock()
	change(&d.status)
	if s := d.stream; s != nil {
		stats := s.Stats()
		d.status.Lag = stats.Lag
		d.status.Move.Changes = s.before + stats.Changes
	}
	now := d.status
	d.mu.Unlock()
	d.telling.Lock()
	defer d.telling.Unlock()
	d.cfg.Progress(now)
}

// note says what the move waits for; empty: nothing.
func (d *drive) note(what string) {
	d.publish(func(s *Status) { s.Waiting = what })
}

// watchSlots looks every two seconds how much of the logs the move's slots hold back, until ctx ends, and ends the present step when it
// is too much, or a slot is lost.
func (d *drive) watchSlots(ctx context.Context, move string, limit int64, end context.CancelCauseFunc) {
	for sleep(ctx, 2*time.Second) == nil {
		held, err := d.heldBack(ctx, move)
		switch {
		case errors.Is(err, repl.ErrSlotLost):
			end(err)
			return
		case err != nil:
			continue // whoever needs the server will find out
		case held > limit:
			end(fmt.Errorf("%w: %d bytes of %d", errTooMuchWAL, held, limit))
			return
		}
		d.publish(func(s *Status) { s.WAL = held })
	}
}

// heldBack is the greatest number of bytes that a slot of the move holds back.
func (d *drive) heldBack(ctx context.Context, move string) (most int64, err error) {
	const q = `
select coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8, coalesce(wal_status = 'lost', false)
  from pg_replication_slots where starts_with(slot_name, $1)`
	for _, s := range []side{d.source, d.target} {
		err := s.with(ctx, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, q, objectName(move))
			if err != nil {
				return err
			}
			var held int64
			var lost bool
			_, err = pgx.ForEachRow(rows, []any{&held, &lost}, func() error {
				most = max(most, held)
				if lost {
					return repl.ErrSlotLost
				}
				return nil
			})
			return err
		})
		if err != nil {
			return most, err
		}
	}
	return most, nil
}
