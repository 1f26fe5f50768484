package placement

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// AskedRun is a run that somebody has asked for, and that has not begun: its files are still being looked at. It lets whoever goes
// on know of it when that process is gone. The catalog keeps the last one; it ends when a run begins.
type AskedRun struct {
	Files  string // digest of the migrations, as that of a [Run]
	Folder string
	Flags  string // what else was asked for; the catalog does not read it
	At     time.Time
}

// AskRun records that a run is asked for, in the place of an earlier one. At is the catalog's time.
func (c *Catalog) AskRun(ctx context.Context, r AskedRun) error {
	const upsert = `
insert into landlord.asked_run (files, folder, flags) values ($1, $2, $3)
on conflict (one) do update set files = excluded.files, folder = excluded.folder, flags = excluded.flags, at = now()`
	return c.ledgerAtOnce(ctx, "ask for a run", upsert, []any{r.Files, r.Folder, r.Flags}, nil)
}

// AskedRun returns the run that was asked for, or [ErrNoRun].
func (c *Catalog) AskedRun(ctx context.Context) (r AskedRun, err error) {
	const query = `select files, folder, flags, at from landlord.asked_run`
	err = c.read(ctx, "read which run is asked for", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query)
		if err != nil {
			return err
		}
		r, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[AskedRun])
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoRun
		}
		return err
	})
	return r, err
}

const forgetAsked = `delete from landlord.asked_run`

// ForgetAskedRun forgets it: it has been refused, or there was nothing to do.
func (c *Catalog) ForgetAskedRun(ctx context.Context) error {
	return c.ledgerAtOnce(ctx, "forget the run that was asked for", forgetAsked, nil, nil)
}
