package placement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// ErrOutdated reports an application that was written for tables which the fleet has left behind. Deploy a newer one.
var ErrOutdated = errors.New("the application is older than the fleet's tables: deploy a newer release of it")

// Instance is one process of the application that uses homes.
type Instance struct {
	ID            string // a uuid
	Name          string // what people call it; 1 to 200 characters
	SchemaVersion int64  // of the newest migration, of scope tenant, that it was written for; 0: it does not say
	StartedAt     time.Time
	SeenAt        time.Time     // its last sign of life
	Silence       time.Duration // since SeenAt, on the catalog's clock
}

// Beat takes an instance's sign of life; the first one puts it on record. Times are the catalog's, those of in are ignored, and
// name and version stay as the first beat said. One that was written for tables which the fleet has left behind is [ErrOutdated]
// and, unless it is there already, not put on record.
//
// Like Shares it is one round trip, bounded by ctx and Config.Timeout, and does not retry.
func (c *Catalog) Beat(ctx context.Context, in Instance) error {
	err := c.exchange(ctx, func(pgx.Rows) error { return nil }, `select landlord.beat($1, $2, $3)`, in.ID, in.Name, in.SchemaVersion)
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == pgerr.Outdated {
		err = fmt.Errorf("%w: %w: %s", ErrOutdated, err, answer.Hint)
	}
	if err != nil {
		return fmt.Errorf("put the application on record: %w", err)
	}
	return nil
}

// Leave takes an instance off the record; it must not use a home any more. Nothing happens when it is not there.
func (c *Catalog) Leave(ctx context.Context, id string) error {
	if err := c.exchange(ctx, func(pgx.Rows) error { return nil }, `select landlord.leave($1)`, id); err != nil {
		return fmt.Errorf("take the application off the record: %w", err)
	}
	return nil
}

// Instances returns all that are on record, the oldest first. One that has fallen silent stays until somebody forgets it: it may
// be alive, and cut off from the catalog only.
func (c *Catalog) Instances(ctx context.Context) (all []Instance, err error) {
	const query = `
select id::text, name, schema_version, started_at, seen_at, greatest(clock_timestamp() - seen_at, interval '0')
  from landlord.instances order by started_at, id`
	err = c.read(ctx, "list the application's instances", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Instance])
		return err
	})
	return all, err
}

// ForgetInstance takes an instance off the record in its place, and tells whether it was there. What the fleet does next relies on
// its being gone; if it is alive all the same, its next beat puts it on record again, or is refused.
func (c *Catalog) ForgetInstance(ctx context.Context, id string) (found bool, err error) {
	err = c.ledger(ctx, "forget an instance of the application", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from landlord.instances where id = $1`, id)
		found = tag.RowsAffected() > 0
		return err
	})
	return found, err
}
