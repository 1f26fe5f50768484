package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

// Look asks the servers how far a move is that this process does not drive. It changes nothing, and does not know what its driver waits
// for, nor, where a copy was gone on with, how long that will yet take.
func (m *Mover) Look(ctx context.Context, mv placement.Move) (Status, error) {
	s := Status{Move: mv}
	source, target, err := m.sides(ctx, mv)
	if err != nil {
		return s, err
	}
	if mv.Phase == Copying {
		if err := target.with(ctx, func(conn *pgx.Conn) error { return copied(ctx, conn, &s) }); err != nil {
			return s, fmt.Errorf("look how much is copied: %w", err)
		}
		if !mv.OwnedSince.After(mv.PhaseAt) {
			s.expect(s.Move.Rows, time.Since(mv.PhaseAt))
		}
	}
	for _, end := range []side{source, target} {
		err := end.with(ctx, func(conn *pgx.Conn) error { return slotsOf(ctx, conn, &s) })
		if err != nil && !pgerr.Is(err, pgerr.UndefinedDatabase) { // not made yet, or gone already
			return s, errors.Join(fmt.Errorf("look at the move's slots: %w", err), ctx.Err())
		}
	}
	return s, nil
}

// copied reads what the ledger of the copy has.
func copied(ctx context.Context, conn *pgx.Conn, s *Status) error {
	const q = `select coalesce(sum(rows), 0)::int8, coalesce(sum(bytes), 0)::int8 from landlord.move_chunk where move = $1`
	return conn.QueryRow(ctx, q, s.Move.ID).Scan(&s.Move.Rows, &s.Move.Bytes)
}

// slotsOf reads how much log the move's slots on one server hold back, and how far behind their readers are.
func slotsOf(ctx context.Context, conn *pgx.Conn, s *Status) error {
	const q = `
select coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), l.restart_lsn), 0)::int8,
       coalesce(extract(epoch from r.replay_lag), 0)::float8
  from pg_replication_slots l left join pg_stat_replication r on r.pid = l.active_pid
 where l.slot_name = any($1)`
	rows, err := conn.Query(ctx, q, []string{slotName(s.Move, forward), slotName(s.Move, reverse)})
	if err != nil {
		return err
	}
	var held int64
	var lag float64
	_, err = pgx.ForEachRow(rows, []any{&held, &lag}, func() error {
		s.WAL, s.Lag = max(s.WAL, held), max(s.Lag, time.Duration(lag*float64(time.Second)))
		return nil
	})
	return err
}
