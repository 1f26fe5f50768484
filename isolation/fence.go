package isolation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// FenceState is what a home says of one tenant. The names are those of the fence table.
type FenceState string

// The states of a fence row.
const (
	Importing FenceState = "importing" // being filled; nobody reads or writes
	Open      FenceState = "open"      // the tenant lives here
	Fenced    FenceState = "fenced"    // writers wait, readers go on
	Moved     FenceState = "moved"     // lives elsewhere now
	Suspended FenceState = "suspended" // nobody reads or writes
)

// fenceNext is the whole state machine: a state leads only to those listed. SetFence opens and suspends; all else is a step of
// a move, see handover.go. A fence that is overdue, which enter takes for open, goes wherever an open one may.
var fenceNext = map[FenceState][]FenceState{
	Importing: {Open},                           // the tenant has arrived
	Open:      {Fenced, Suspended},              //
	Fenced:    {Open, Moved, Fenced, Suspended}, // the last two only when it is overdue
	Moved:     {Open, Importing},                // the move is rolled back; the tenant comes here again
	Suspended: {Open},                           //
}

// Next lists the states that s leads to.
func (s FenceState) Next() []FenceState { return fenceNext[s] }

// Fence is a tenant's fence row at one home.
type Fence struct {
	Tenant, Slug, Model string
	Home                string // cluster/database/schema
	Epoch               int64
	State               FenceState
	Owner               string    // uuid of the attempt that made the row, fenced it or imports; empty: not told
	Until               time.Time // of a fence, by the server's clock: when it is overdue
	Overdue             bool      // a fence whose time is up, which counts as open
	MovedTo             *Address  // in state moved
}

// Address is where a tenant has gone, as its old home tells whoever still comes there.
type Address struct {
	Home  string `json:"home"`
	Model string `json:"model"`
	Epoch int64  `json:"epoch"`
	Stamp string `json:"stamp,omitempty"` // of the new home's database
	Login string `json:"login,omitempty"` // of the application there
}

// ErrFence reports a fence row that is not there, or not in a state that leads to the one asked for. See FenceError.
var ErrFence = errors.New("fence does not allow it")

// FenceError says what stands where a fence was to be changed. It matches ErrFence.
type FenceError struct {
	Act    string // what was tried
	Home   string
	Stands *Fence // nil: no row
}

func (e *FenceError) Error() string {
	if e.Stands == nil {
		return fmt.Sprintf("%s at %s: %v: there is no row", e.Act, e.Home, ErrFence)
	}
	f := e.Stands
	what := string(f.State)
	if f.Overdue {
		what += " and overdue"
	}
	if f.Owner != "" {
		what += ", owner " + f.Owner
	}
	return fmt.Sprintf("%s at %s: %v: it is %s, at epoch %d", e.Act, e.Home, ErrFence, what, f.Epoch)
}

// Is matches ErrFence.
func (e *FenceError) Is(target error) bool { return target == ErrFence }

// db is what a fence statement runs on: a connection or a transaction.
type db interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

// PutFence writes the fence row of a home that is being made. A row that stands there already with the same epoch is left
// alone, so that the making can be resumed; another epoch is ErrFence.
func PutFence(ctx context.Context, conn db, f Fence) error {
	const q = `
insert into landlord.fence (tenant, home, slug, model, epoch, state, owner) values ($1, $2, $3, $4, $5, $6, nullif($7, '')::uuid)
on conflict (tenant, home) do update set slug = excluded.slug where fence.epoch = excluded.epoch`
	tag, err := conn.Exec(ctx, q, f.Tenant, f.Home, f.Slug, f.Model, f.Epoch, string(f.State), f.Owner)
	if err != nil {
		return fmt.Errorf("write the fence of %s at %s: %w", f.Slug, f.Home, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("write the fence of %s at %s: %w: a row of another epoch is there", f.Slug, f.Home, ErrFence)
	}
	return nil
}

// SetFence opens or suspends a home, as people do: a suspended one is opened, an open one is suspended. One that is so already is
// no error. A home that takes part in a move is a *FenceError, and so is another epoch; when an attempt to fence it was left
// behind, and is overdue, it counts as open. Transactions that have entered before run to their end.
func SetFence(ctx context.Context, conn db, tenant, home string, epoch int64, to FenceState) error {
	const q = `
update landlord.fence set state = $4, fenced_until = null
 where tenant = $1 and home = $2 and epoch = $3
   and (state = $4 or state = $5 or $4 = 'suspended' and state = 'fenced' and fenced_until < clock_timestamp())`
	from, ok := map[FenceState]FenceState{Open: Suspended, Suspended: Open}[to]
	if !ok {
		return fmt.Errorf("set the fence at %s to %s: %w: only a move does that", home, to, ErrFence)
	}
	tag, err := conn.Exec(ctx, q, tenant, home, epoch, string(to), string(from))
	return changed(ctx, conn, FenceKey{tenant, home}, "set the fence to "+string(to), tag.RowsAffected(), err)
}

// Drain waits until no transaction is open that has entered the tenant at home, so that what comes next sees all that the
// tenant wrote. The fence must have been closed before, or others enter meanwhile. It gives up after half a minute.
func Drain(ctx context.Context, conn *pgx.Conn, tenant, home string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '30s'`); err != nil {
			return err
		}
		const q = `select pg_advisory_xact_lock(landlord.lock_key($1, $2, readers)) from (values (false), (true)) as k (readers)`
		_, err := tx.Exec(ctx, q, tenant, home)
		return err
	})
	if pgerr.Is(err, pgerr.LockNotAvailable) {
		return fmt.Errorf("wait for the open transactions at %s: they take too long; try again when they have ended: %w", home, err)
	}
	if err != nil {
		return fmt.Errorf("wait for the open transactions at %s: %w", home, err)
	}
	return nil
}

// DropFence removes a tenant's fence row at a home whose rows are gone.
func DropFence(ctx context.Context, conn db, tenant, home string) error {
	if _, err := conn.Exec(ctx, `delete from landlord.fence where tenant = $1 and home = $2`, tenant, home); err != nil {
		return fmt.Errorf("drop the fence at %s: %w", home, err)
	}
	return nil
}

// ReadFence returns a tenant's row at one home with all it holds. None is a *FenceError.
func ReadFence(ctx context.Context, conn db, key FenceKey) (Fence, error) {
	const act = "read the fence"
	f, err := readFence(ctx, conn, key)
	switch {
	case err != nil:
		return Fence{}, fmt.Errorf("%s at %s: %w", act, key.Home, err)
	case f == nil:
		return Fence{}, &FenceError{Act: act, Home: key.Home}
	}
	return *f, nil
}

// readFence returns nil where there is no row.
func readFence(ctx context.Context, conn db, key FenceKey) (*Fence, error) {
	const q = `
select slug, model, epoch, state, coalesce(owner::text, ''), coalesce(fenced_until, '-infinity'),
       state = 'fenced' and coalesce(fenced_until < clock_timestamp(), false), moved_to
  from landlord.fence where tenant = $1 and home = $2`
	f := Fence{Tenant: key.Tenant, Home: key.Home}
	var until pgtype.Timestamptz
	err := conn.QueryRow(ctx, q, key.Tenant, key.Home).Scan(
		&f.Slug, &f.Model, &f.Epoch, &f.State, &f.Owner, &until, &f.Overdue, &f.MovedTo)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	f.Until = until.Time
	return &f, err
}

// Fences lists every fence row of conn's database, by home and tenant.
func Fences(ctx context.Context, conn db) ([]Fence, error) {
	const q = `select tenant, slug, model, home, epoch, state from landlord.fence order by home, tenant`
	rows, err := conn.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list fences: %w", err)
	}
	fences, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Fence, error) {
		var f Fence
		err := row.Scan(&f.Tenant, &f.Slug, &f.Model, &f.Home, &f.Epoch, &f.State)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list fences: %w", err)
	}
	return fences, nil
}
