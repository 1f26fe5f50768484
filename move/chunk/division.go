package chunk

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/table"
)

// ConflictError reports a row of the tenant that the target does not take because a row that the source has not is in its way: under a
// unique key that leaves tenant_id out, another tenant's.
type ConflictError struct {
	Table, Constraint string
	err               error
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the target has a row in table %s that the source has not, and which is in the way under %s: "+
		"change or remove it, or make tenant_id part of that key, or abort the move: %v", e.Table, e.Constraint, e.err)
}

func (e *ConflictError) Unwrap() error { return e.err }

// inTheWay tells of an error that one row is in the way of another.
func inTheWay(err error) bool { return pgerr.Is(err, pgerr.UniqueViolation, pgerr.ExclusionViolation) }

// entangled tells of an error that rows of two chunks may be the reason for: each had a value in its own snapshot, at another time.
// Two workers that meet so wait for each other.
func entangled(err error) bool { return inTheWay(err) || pgerr.Is(err, pgerr.DeadlockDetected) }

// conflict is err, and if a row is in the way of another, where.
func conflict(p table.Pair, err error) error {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !inTheWay(err) {
		return err
	}
	return &ConflictError{Table: p.Target.Name, Constraint: pe.ConstraintName, err: err}
}

// division is a table that is copied in chunks, until that turns out not to be possible: a value of a unique key that has gone from
// one row to another between two snapshots is copied twice, and the target refuses it. Then the table is copied anew as one chunk, in
// one snapshot, as the source never had the value twice.
//
// What was copied of it goes in the transaction that brings all of it, so that whoever dies over this leaves the chunks as they were:
// the next copy meets what this one has met. Nobody else may be copying the table then, so it is done when all chunks are.
type division struct {
	pair  table.Pair
	width int64 // of a row, roughly
	whole bool  // no more chunks; guarded by the copier's mu
}

// divided tells whether the table is still copied in chunks.
func (c *copier) divided(d *division) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !d.whole
}

// unite leaves a table to be copied anew, once.
func (c *copier) unite(d *division) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !d.whole {
		d.whole = true
		c.anew = append(c.anew, job{division: d, anew: true})
	}
}

// forget removes what is copied of a table, with its entries in the ledger, and returns how much that was.
func (c *copier) forget(ctx context.Context, tx pgx.Tx, p table.Pair) (gone Progress, err error) {
	const q = `
with gone as (delete from landlord.move_chunk where move = $1 and source_table = $2 returning rows, bytes)
select coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint from gone`
	if err := tx.QueryRow(ctx, q, c.Move, p.Source.Name).Scan(&gone.Rows, &gone.Bytes); err != nil {
		return gone, fmt.Errorf("clear the ledger: %w", err)
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("delete from %s where %s", p.Target.From(), p.Target.Whose(p.Tenant)), pgx.QueryExecModeExec)
	return gone, err
}
