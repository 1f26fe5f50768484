package placement

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// PastRun is a run and what became of its targets.
type PastRun struct {
	Run
	Targets, Verified, Failed, Skipped int
	Took                               time.Duration // from beginning to end, or so far
}

// Runs returns the runs that began last, the newest first.
func (c *Catalog) Runs(ctx context.Context, limit int) (runs []PastRun, err error) {
	const query = `
select ` + runColumns + `, n.*, coalesce(ended_at, now()) - started_at
  from (select * from landlord.runs order by number desc limit $1) r,
       lateral (select count(*), count(*) filter (where t.state = 'verified'), count(*) filter (where t.state = 'failed'),
                       count(*) filter (where t.state = 'skipped')
                  from landlord.run_targets t where t.run = r.id) n (targets, verified, failed, skipped)
 order by number desc`
	err = c.read(ctx, "list the runs", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, limit)
		if err != nil {
			return err
		}
		runs, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PastRun])
		return err
	})
	return runs, err
}

// RunByNumber returns the run that people call so, or an error that is [ErrNoRun].
func (c *Catalog) RunByNumber(ctx context.Context, number int64) (r Run, err error) {
	const query = `select ` + runColumns + ` from landlord.runs where number = $1`
	err = c.read(ctx, fmt.Sprintf("read run %d", number), func(ctx context.Context, q querier) error {
		r, err = oneRun(ctx, q, query, number)
		return err
	})
	return r, err
}

// LiftRuns sees to it that the next run is numbered above a number, and numbers the one with this id so at once, if there is one: by its
// number, homes tell whoever comes late from whoever comes next. That is needed after the catalog was restored from an older backup.
func (c *Catalog) LiftRuns(ctx context.Context, above int64, run string) error {
	const lift = `select setval('landlord.runs_number_seq', $1) from landlord.runs_number_seq where last_value < $1`
	const renumber = `update landlord.runs set number = default where id = $1`
	return c.ledger(ctx, "lift the number of runs", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRuns); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lift, above); err != nil || run == "" {
			return err
		}
		_, err := tx.Exec(ctx, renumber, run)
		return err
	})
}
