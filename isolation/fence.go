package isolation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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

// fenceNext is the whole state machine: a state leads only to those listed.
var fenceNext = map[FenceState][]FenceState{
	Importing: {Open},
	Open:      {Fenced, Suspended},
	Fenced:    {Open, Moved},
	Suspended: {Open},
}

// Fence is a tenant's fence row at one home.
type Fence struct {
	Tenant, Slug, Model string
	Home                string // cluster/database/schema
	Epoch               int64
	State               FenceState
	Owner               string // uuid of the attempt that made the row; empty: not told
}

// ErrFence reports a fence row that is not there, or not in a state that leads to the one asked for.
var ErrFence = errors.New("fence does not allow it")

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

// SetFence moves a fence to another state. A fence that has it already is no error. One that cannot go there, or another
// epoch, is ErrFence. Transactions that have entered before run to their end.
func SetFence(ctx context.Context, conn db, tenant, home string, epoch int64, to FenceState) error {
	from := []string{string(to)}
	for state, next := range fenceNext {
		for _, n := range next {
			if n == to {
				from = append(from, string(state))
			}
		}
	}
	const q = `update landlord.fence set state = $4 where tenant = $1 and home = $2 and epoch = $3 and state = any($5)`
	tag, err := conn.Exec(ctx, q, tenant, home, epoch, string(to), from)
	if err != nil {
		return fmt.Errorf("set the fence at %s to %s: %w", home, to, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("set the fence at %s to %s: %w: no row of epoch %d in a state that leads there", home, to, ErrFence, epoch)
	}
	return nil
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
