package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// ClaimMove makes owner, a uuid, the one who drives a move, for as long as lease says unless it is renewed. A move that another one
// drives is a [*MoveClaimedError]; the same owner again renews.
func (c *Catalog) ClaimMove(ctx context.Context, id, owner string, lease time.Duration) (m Move, err error) {
	const claim = `
update landlord.moves
set owner = $2, owned_since = case when owner = $2 then owned_since else clock_timestamp() end, owned_until = clock_timestamp() + $3::interval
where id = $1 and (owner = $2 or coalesce(owned_until, '-infinity') <= clock_timestamp()) returning ` + moveColumns
	const left = `select owned_until - clock_timestamp() from landlord.moves where id = $1`
	err = c.moving(ctx, "claim the move", func(ctx context.Context, tx pgx.Tx) error {
		m, err = c.oneMove(ctx, tx, claim, id, owner, lease)
		if !errors.Is(err, ErrNoMove) {
			return err
		}
		if m, err = c.oneMove(ctx, tx, moveByID, id); err != nil {
			return err
		}
		claimed := &MoveClaimedError{Slug: m.Slug, Since: m.OwnedSince}
		if err := tx.QueryRow(ctx, left, id).Scan(&claimed.Left); err != nil {
			return err
		}
		return claimed
	})
	return m, err
}

// RenewMove renews the lease of who drives a move, and returns the move with what is asked of it. [ErrMoveLost] says that another
// one drives it now.
func (c *Catalog) RenewMove(ctx context.Context, id, owner string, lease time.Duration) (m Move, err error) {
	const renew = `
update landlord.moves set owned_until = clock_timestamp() + $3::interval where id = $1 and owner = $2 returning ` + moveColumns
	err = c.moving(ctx, "renew the claim of the move", func(ctx context.Context, tx pgx.Tx) error {
		m, err = c.oneMove(ctx, tx, renew, id, owner, lease)
		return lost(err)
	})
	return m, err
}

// ReleaseMove gives a move back before the lease ends. One that another drives stays as it is.
func (c *Catalog) ReleaseMove(ctx context.Context, id, owner string) error {
	const release = `update landlord.moves set owned_until = clock_timestamp() where id = $1 and owner = $2`
	return c.moving(ctx, "give the move back", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, release, id, owner)
		return err
	})
}

func lost(err error) error {
	if errors.Is(err, ErrNoMove) {
		return ErrMoveLost
	}
	return err
}

// endings lists the phases in which a move is over.
var endings = []MovePhase{MoveDone, MoveAborted, MoveReverted}

// AdvanceMove brings a move from one phase to another, or leaves it there, and records what owner has learned: facts replace those
// on record. A move that is in another phase, or that another one drives, is [ErrMoveLost]. At its end the tenant is active again;
// what is asked for is forgotten when it has been done.
func (c *Catalog) AdvanceMove(ctx context.Context, m Move, owner string, to MovePhase) (after Move, err error) {
	const update = `
update landlord.moves
set phase = $4, phase_at = case when phase = $4 then phase_at else clock_timestamp() end,
    start_lsn = nullif($5, '')::pg_lsn, start_xid = nullif($6::int8, 0)::text::xid8, reverse_lsn = nullif($7, '')::pg_lsn, no_rollback = $8,
    pause = nullif($9, interval '0'), rows = $10, bytes = $11, changes = $12, error = $13, forward_slot = $15, reverse_slot = $16,
    attempts = attempts + case when $4 in ('fencing', 'rolling-back') and phase <> $4 then 1 else 0 end,
    committed_at = case when $4 = 'committed' and phase <> $4 then clock_timestamp() else committed_at end,
    ended_at = case when $4 = any($14) then clock_timestamp() end,
    asked = case when $4 in ('committed', 'completing', 'aborting', 'reverting') and phase <> $4 then null else asked end,
    owned_until = case when $4 = any($14) then clock_timestamp() else owned_until end
where id = $1 and owner = $2 and phase = $3 returning ` + moveColumns
	change := c.moving
	if slices.Contains(endings, to) { // the tenant's state is the placements' business
		change = c.change
	}
	err = change(ctx, fmt.Sprintf("bring the move to %s", to), func(ctx context.Context, tx pgx.Tx) error {
		after, err = c.oneMove(ctx, tx, update, m.ID, owner, m.Phase, to, m.StartLSN, int64(m.StartXID), m.ReverseLSN, m.NoRollback,
			m.Pause, m.Rows, m.Bytes, m.Changes, m.Error, endings, m.ForwardSlot, m.ReverseSlot)
		if err != nil {
			return lost(err)
		}
		if !after.Over() {
			return nil
		}
		t, err := c.oneTenant(ctx, tx, Filter{ID: m.Tenant})
		if err != nil || t.State != StateMoving {
			return err
		}
		if _, err := tx.Exec(ctx, `update landlord.tenants set state = 'active' where id = $1`, m.Tenant.String()); err != nil {
			return err
		}
		return c.log(ctx, tx, LogEntry{
			Kind: KindState, Tenant: t.ID, Slug: t.Slug, Cluster: t.Home.Cluster, Epoch: t.Epoch,
			Before: string(t.State), After: string(StateActive),
		})
	})
	return after, err
}

// AskMove asks for something of whoever drives a move, now or later. What its phase does not allow is [ErrMovePhase].
func (c *Catalog) AskMove(ctx context.Context, id string, ask MoveAsk) (m Move, err error) {
	const update = `
update landlord.moves set asked = $2 where id = $1 and phase = any($3) and not ($2 = 'rollback' and no_rollback <> '') returning ` + moveColumns
	err = c.moving(ctx, "ask for "+string(ask), func(ctx context.Context, tx pgx.Tx) error {
		m, err = c.oneMove(ctx, tx, update, id, ask, askedIn[ask])
		if !errors.Is(err, ErrNoMove) {
			return err
		}
		if m, err = c.oneMove(ctx, tx, moveByID, id); err != nil {
			return err
		}
		if ask == AskRollback && m.NoRollback != "" {
			return fmt.Errorf("%w: there is no way back for tenant %s: %s", ErrMovePhase, m.Slug, m.NoRollback)
		}
		return fmt.Errorf("%w: the move of tenant %s is %s", ErrMovePhase, m.Slug, m.Phase)
	})
	return m, err
}

// SetMaxPause changes how long the next attempt to cut a move over, or to roll it back, may keep writers waiting, whoever drives it. A
// move that is over is [ErrMovePhase].
func (c *Catalog) SetMaxPause(ctx context.Context, id string, longest time.Duration) (m Move, err error) {
	const update = `update landlord.moves set max_pause = $2 where id = $1 and ended_at is null returning ` + moveColumns
	err = c.moving(ctx, "change the longest pause", func(ctx context.Context, tx pgx.Tx) error {
		m, err = c.oneMove(ctx, tx, update, id, longest)
		if errors.Is(err, ErrNoMove) {
			return fmt.Errorf("%w: it is over", ErrMovePhase)
		}
		return err
	})
	return m, err
}

// SetMaxRate changes how many bytes the move's copy may bring over in a second, for whoever claims the move next. A move that is over is
// [ErrMovePhase].
func (c *Catalog) SetMaxRate(ctx context.Context, id string, perSecond int64) (m Move, err error) {
	const update = `update landlord.moves set max_rate = $2 where id = $1 and ended_at is null returning ` + moveColumns
	if err := checkMaxRate(perSecond); err != nil {
		return m, fmt.Errorf("change the copy's rate: %w", err)
	}
	err = c.moving(ctx, "change the copy's rate", func(ctx context.Context, tx pgx.Tx) error {
		m, err = c.oneMove(ctx, tx, update, id, perSecond)
		if errors.Is(err, ErrNoMove) {
			return fmt.Errorf("%w: it is over", ErrMovePhase)
		}
		return err
	})
	return m, err
}

// moveIdle is how long a driver that stands still in the middle of a change here is in its successor's way: shorter than a lease,
// and than anybody waits for a lock.
const moveIdle = 5 * time.Second

// moving is like ledger, and loads the settings, without which ids cannot be read.
func (c *Catalog) moving(ctx context.Context, act string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return c.ledgerWithin(ctx, act, moveIdle, func(ctx context.Context, tx pgx.Tx) error {
		if err := c.loadSettings(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// CleanupKind says what a move has made.
type CleanupKind string

// The kinds, and what Name holds.
const (
	CleanPublication CleanupKind = "publication" // its name
	CleanSlot        CleanupKind = "slot"        // its name
	CleanHold        CleanupKind = "hold"        // the schema that is held
	CleanLedger      CleanupKind = "ledger"      // "move": chunks and progress
	CleanHome        CleanupKind = "home"        // the home
)

// Cleanup is something that a move has made, or was about to make, and that has to be taken away.
type Cleanup struct {
	Cluster, Database string
	Kind              CleanupKind
	Name              string
}

func (x Cleanup) String() string {
	return fmt.Sprintf("%s %s at %s/%s", x.Kind, x.Name, x.Cluster, x.Database)
}

// Intend records what a move is about to make. Only what is recorded may be made.
func (c *Catalog) Intend(ctx context.Context, move, owner string, all ...Cleanup) error {
	const mine = `select true from landlord.moves where id = $1 and owner = $2 and ended_at is null for share`
	const insert = `
insert into landlord.move_cleanups (move, cluster, database, kind, name)
select $1, cluster, database, kind, name from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as d (cluster, database, kind, name)
    on conflict do nothing`
	n := len(all)
	clusters, databases, kinds, names := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, x := range all {
		clusters[i], databases[i], kinds[i], names[i] = x.Cluster, x.Database, string(x.Kind), x.Name
	}
	return c.ledgerWithin(ctx, "record what the move is about to make", moveIdle, func(ctx context.Context, tx pgx.Tx) error {
		var ok bool
		if err := tx.QueryRow(ctx, mine, move, owner).Scan(&ok); errors.Is(err, pgx.ErrNoRows) {
			return ErrMoveLost
		} else if err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insert, move, clusters, databases, kinds, names)
		return err
	})
}

// Cleanups returns what a move has made and has to be taken away, in the order in which it was recorded.
func (c *Catalog) Cleanups(ctx context.Context, move string) (all []Cleanup, err error) {
	const query = `select cluster, database, kind, name from landlord.move_cleanups where move = $1 order by at, cluster, database, kind, name`
	err = c.read(ctx, "list what the move has made", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, move)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Cleanup])
		return err
	})
	return all, err
}

// Cleaned forgets something that a move had made and that is gone.
func (c *Catalog) Cleaned(ctx context.Context, move string, x Cleanup) error {
	const remove = `
delete from landlord.move_cleanups where move = $1 and cluster = $2 and database = $3 and kind = $4 and name = $5`
	return c.ledgerWithin(ctx, "record what is taken away", moveIdle, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, remove, move, x.Cluster, x.Database, string(x.Kind), x.Name)
		return err
	})
}

// noMoves is [ErrInUse] when a move that is not over begins or ends at the cluster.
func noMoves(ctx context.Context, tx pgx.Tx, cluster string) error {
	const query = `select slug from landlord.moves where ended_at is null and $1 in (source_cluster, target_cluster) limit 1`
	var slug string
	switch err := tx.QueryRow(ctx, query, cluster).Scan(&slug); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: tenant %s is being moved from or to there: complete or abort the move first", ErrInUse, slug)
}
