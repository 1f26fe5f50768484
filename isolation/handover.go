package isolation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The steps of a move, on the fence rows of its two homes. Each is one statement that compares what stands there with what the
// caller believes, and either makes its change or leaves all as it is and returns a *FenceError that says what stands there.
// So of two movers one wins, and one that was stopped and woken loses.
//
// A fence is raised and passed on by one session, which holds the keys of LockFence from before the one to after the other. It
// is passed on only in time. Hence enter may take a fence that is overdue for open: whoever has a share of the tenant's key
// knows then that the session which could have passed the fence on has let go of it.

// FenceKey says whose fence, and at which home.
type FenceKey struct{ Tenant, Home string }

// held is true on the session that holds the tenant's key ($1, $2) alone.
const held = `
exists (select from pg_locks l
         where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.mode = 'ExclusiveLock' and l.granted and l.objsubid = 1
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and (l.classid::bigint << 32 | l.objid::bigint) = landlord.lock_key($1, $2, false))`

// Attempt is one try at passing a home on.
type Attempt struct {
	ID       string        // uuid, made for this try
	Start    time.Time     // when the tenant's writers began to wait, by the server's clock
	MaxPause time.Duration // how long they may wait from then on, before the fence is overdue
}

// RaiseFence closes an open home to writers, or one whose fence is overdue, and writes message into the change stream in the same
// transaction: the position up to which the other home must be brought. conn must be the session that holds the tenant's key and
// the bypass key, or changes would come after the position. All is one statement, and so one packet.
func RaiseFence(ctx context.Context, conn *pgx.Conn, key FenceKey, epoch int64, a Attempt, message string) error {
	tag, err := conn.Exec(ctx, raiseSQL, key.Tenant, key.Home, epoch, a.ID, a.Start, a.MaxPause.Seconds(), message)
	return changed(ctx, conn, key, "raise the fence", tag.RowsAffected(), err)
}

const raiseSQL = `
with raised as (
  update landlord.fence set state = 'fenced', owner = $4, fenced_until = $5::timestamptz + make_interval(secs => $6),
         moved_to = null
   where tenant = $1 and home = $2 and epoch = $3
     and (state = 'open' or state = 'fenced' and fenced_until < clock_timestamp())
     and ` + held + `
  returning tenant)
select pg_logical_emit_message(true, '` + MessagePrefix + `', $7) from raised`

// MessagePrefix is the prefix of landlord's messages in the change stream.
const MessagePrefix = "landlord"

// LowerFence takes an attempt back: writers may enter again. A home that is open already at this epoch is no error.
func LowerFence(ctx context.Context, conn db, key FenceKey, epoch int64, attempt string) error {
	tag, err := conn.Exec(ctx, lowerSQL, key.Tenant, key.Home, epoch, attempt)
	return changed(ctx, conn, key, "lower the fence", tag.RowsAffected(), err)
}

const lowerSQL = `
update landlord.fence set state = 'open', owner = null, fenced_until = null
 where tenant = $1 and home = $2 and epoch = $3 and (state = 'open' or state = 'fenced' and owner = $4)`

// LowerOverdueFence takes back an attempt that somebody left behind, once its time is up. A home that is open already at this
// epoch is no error.
func LowerOverdueFence(ctx context.Context, conn db, key FenceKey, epoch int64) error {
	const q = `
update landlord.fence set state = 'open', owner = null, fenced_until = null
 where tenant = $1 and home = $2 and epoch = $3 and (state = 'open' or state = 'fenced' and fenced_until < clock_timestamp())`
	tag, err := conn.Exec(ctx, q, key.Tenant, key.Home, epoch)
	return changed(ctx, conn, key, "lower the overdue fence", tag.RowsAffected(), err)
}

// PassOn is the commit point of a move: from here on the tenant lives at to, and nobody can take that back. It must run on the
// session that raised the fence, and in time. owner is who may write here from now on: the stream that keeps this home in step.
// With a move, where that stream begins is put down in the same transaction.
func PassOn(ctx context.Context, conn db, key FenceKey, epoch int64, attempt string, to Address, owner string, back Back) error {
	var move, from *string
	if back != (Back{}) {
		move, from = &back.Move, &back.From
	}
	tag, err := conn.Exec(ctx, passOnSQL, key.Tenant, key.Home, epoch, attempt, owner, to, move, from)
	return changed(ctx, conn, key, "pass the tenant on", tag.RowsAffected(), err)
}

const passOnSQL = `
with passed as (
  update landlord.fence set state = 'moved', owner = $5, fenced_until = null, moved_to = $6
   where tenant = $1 and home = $2 and epoch = $3 and state = 'fenced' and owner = $4 and clock_timestamp() < fenced_until
     and ` + held + `
  returning tenant),
noted as (
  insert into landlord.move_progress (move, direction, lsn) select $7::uuid, 'reverse', $8::pg_lsn from passed where $7 is not null
      on conflict (move, direction) do update set lsn = excluded.lsn)
select from passed`

// Back is where the stream begins that keeps a home in step after its tenant has left. The zero value: there is none.
type Back struct {
	Move string // uuid
	From string // pg_lsn of the new home's server, before anything that is written there once it is open
}

// Receive opens the home to which the tenant was passed on, at epoch. It stood in state from, which is Importing, or Moved where
// a move is rolled back; owner is who has filled it. It waits for transactions of the change stream that are under way. A home
// that is open already at epoch is no error. Only whoever has seen the other home in state moved may call it.
func Receive(ctx context.Context, conn db, key FenceKey, from FenceState, epoch int64, owner string) error {
	tag, err := conn.Exec(ctx, receiveSQL, key.Tenant, key.Home, string(from), epoch, owner)
	return changed(ctx, conn, key, "open the new home", tag.RowsAffected(), err)
}

const receiveSQL = `
update landlord.fence set state = 'open', epoch = $4, owner = null, moved_to = null
 where tenant = $1 and home = $2
   and (state = 'open' and epoch = $4
        or state = $3 and owner = $5 and (state = 'importing' and epoch = $4 or state = 'moved' and epoch < $4))`

// Import writes the row of a home that is to be filled, for owner. A row that an earlier stay of the tenant left in state moved, at
// an earlier epoch, gives way to it; one that is importing already at f's epoch gets the new owner, after the open transactions
// of the old one.
func Import(ctx context.Context, conn db, f Fence) error {
	const q = `
insert into landlord.fence (tenant, home, slug, model, epoch, state, owner) values ($1, $2, $3, $4, $5, 'importing', $6)
on conflict (tenant, home) do update
   set slug = excluded.slug, model = excluded.model, epoch = excluded.epoch, state = 'importing', owner = excluded.owner,
       fenced_until = null, moved_to = null
 where fence.state = 'importing' and fence.epoch = excluded.epoch or fence.state = 'moved' and fence.epoch < excluded.epoch`
	tag, err := conn.Exec(ctx, q, f.Tenant, f.Home, f.Slug, f.Model, f.Epoch, f.Owner)
	return changed(ctx, conn, FenceKey{f.Tenant, f.Home}, "begin to import", tag.RowsAffected(), err)
}

// TakeOver makes owner the one who may write to a home that is filled (Importing) or kept in step (Moved). It waits for the open
// transactions of the one before, whose later ones fail at HoldFence.
func TakeOver(ctx context.Context, conn db, key FenceKey, state FenceState, epoch int64, owner string) error {
	const q = `
update landlord.fence set owner = $5
 where tenant = $1 and home = $2 and state = $3 and state in ('importing', 'moved') and epoch = $4`
	tag, err := conn.Exec(ctx, q, key.Tenant, key.Home, string(state), epoch, owner)
	return changed(ctx, conn, key, "take the home over", tag.RowsAffected(), err)
}

// HoldFence is the first statement of every transaction that fills a home (Importing) or keeps it in step (Moved) for owner. It
// keeps the row as it is until the transaction ends. Where it is another's by now, or has been opened, it is a *FenceError:
// roll back, and write no more. The transaction must be READ COMMITTED.
func HoldFence(ctx context.Context, tx pgx.Tx, key FenceKey, state FenceState, owner string) error {
	tag, err := tx.Exec(ctx, HoldFenceSQL, key.Tenant, key.Home, string(state), owner)
	return changed(ctx, tx, key, "write to the home", tag.RowsAffected(), err)
}

// HoldFenceSQL is HoldFence's statement, to be sent together with others: without a row it has failed. Its parameters are the
// tenant, the home, the state and the owner.
const HoldFenceSQL = `
select from landlord.fence where tenant = $1 and home = $2 and state = $3 and owner = $4::uuid for share`

// PrepareHandover has conn prepare what a cutover sends while a tenant's writers wait, so that each step is one round trip.
func PrepareHandover(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{raiseSQL, lowerSQL, passOnSQL, receiveSQL} {
		if _, err := conn.Prepare(ctx, sql, sql); err != nil {
			return fmt.Errorf("prepare the steps of a cutover: %w", err)
		}
	}
	return nil
}

// changed is the error of an act that was to change one row.
func changed(ctx context.Context, conn db, key FenceKey, act string, rows int64, err error) error {
	if err != nil {
		return fmt.Errorf("%s at %s: %w", act, key.Home, err)
	}
	if rows == 1 {
		return nil
	}
	stands, err := readFence(ctx, conn, key)
	if err != nil { // a row that could not be read is not one that is gone
		return fmt.Errorf("%s at %s: nothing was changed, and why not could not be read: %w", act, key.Home, err)
	}
	return &FenceError{Act: act, Home: key.Home, Stands: stands}
}
