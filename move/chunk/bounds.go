package chunk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
)

// bounds are the keys between which a chunk lies, in the order that the source gives them: lo < key <= hi. Values are as text.
type bounds struct {
	lo, hi []string // nil: from the first, to the last
}

// all tells that there are none: the chunk is the whole table.
func (b bounds) all() bool { return b.lo == nil && b.hi == nil }

// where is the SQL condition under which a row of the source is the tenant's and lies within.
func (b bounds) where(p table.Pair) string {
	conditions := []string{p.Source.Whose(p.Tenant)}
	if b.lo != nil {
		conditions = append(conditions, keyRow(p)+" > "+boundRow(p, b.lo))
	}
	if b.hi != nil {
		conditions = append(conditions, keyRow(p)+" <= "+boundRow(p, b.hi))
	}
	return strings.Join(conditions, " and ")
}

// keyRow is the source's key as an SQL row, which compares column by column and can use the key's index.
func keyRow(p table.Pair) string { return "(" + table.Quoted(p.SourceKey, "") + ")" }

func boundRow(p table.Pair, values []string) string {
	terms := make([]string, len(values))
	for i, v := range values {
		c, _ := p.Source.Column(p.SourceKey[i])
		terms[i] = table.Literal(v) + "::" + c.Cast
	}
	return "(" + strings.Join(terms, ", ") + ")"
}

// unknownWidth is how many bytes are taken for a row where nothing is known of the table.
const unknownWidth = 500

// The fewest and the most rows of a chunk: one transaction must be worth its while, and a walk over the keys must stay short.
const minRows, maxRows = 10, 50_000

// plan hands out what is to be copied of every table. Bounds are found one chunk ahead of the workers.
func (c *copier) plan(ctx context.Context, jobs chan<- job) error {
	return c.open(ctx, func(source, target *pgx.Conn) error {
		if err := c.Fence.outlast(ctx, target); err != nil {
			return err
		}
		ledger, err := readLedger(ctx, target, c.Move)
		if err != nil {
			return err
		}
		for _, chunks := range ledger {
			for _, done := range chunks {
				c.done.Rows += done.rows
				c.done.Bytes += done.bytes
			}
		}
		for _, p := range c.Pairs {
			done := ledger[p.Source.Name]
			if len(done) == 0 {
				if err := c.clear(ctx, target, p); err != nil {
					return fmt.Errorf("clear table %s at the target: %w", p.Target.Name, err)
				}
			}
			if err := c.walk(ctx, source, p, done, jobs); err != nil {
				return fmt.Errorf("divide table %s: %w", p.Source.Name, err)
			}
		}
		return nil
	})
}

// walk hands out the chunks of a table that the ledger does not have: what lies between those it has, and what follows the last one.
func (c *copier) walk(ctx context.Context, source *pgx.Conn, p table.Pair, done []entry, jobs chan<- job) error {
	width, err := rowWidth(ctx, source, p.Source)
	if err != nil {
		return err
	}
	d := &division{pair: p, width: width}
	n, lo := 0, []string(nil)
	for _, e := range done {
		if !slices.Equal(lo, e.bounds.lo) { // those who copied what is between died: no more than they had in hand
			if err := give(ctx, jobs, job{division: d, n: n, bounds: bounds{lo: lo, hi: e.bounds.lo}}); err != nil {
				return err
			}
		}
		if e.bounds.hi == nil {
			return nil
		}
		n, lo = e.n+1, e.bounds.hi
	}
	rows := max(minRows, min(maxRows, c.Size/width))
	for ; c.divided(d); n++ {
		hi, err := bound(ctx, source, p, bounds{lo: lo}, rows)
		if err != nil {
			return err
		}
		if err := give(ctx, jobs, job{division: d, n: n, bounds: bounds{lo: lo, hi: hi}}); err != nil {
			return err
		}
		if hi == nil {
			return nil
		}
		lo = hi
	}
	return nil
}

// bound returns the key of the last of the first rows within b, nil when there are not as many.
func bound(ctx context.Context, source *pgx.Conn, p table.Pair, b bounds, rows int64) ([]string, error) {
	if len(p.SourceKey) == 0 {
		return nil, nil // one row at most
	}
	texts := make([]string, len(p.SourceKey))
	for i, k := range p.SourceKey {
		texts[i] = table.Quoted([]string{k}, "") + "::text"
	}
	key := table.Quoted(p.SourceKey, "")
	// Only the one that is wanted is written as text.
	q := fmt.Sprintf("select array[%s] from (select %[2]s from %[3]s where %[4]s order by %[2]s offset %[5]d limit 1) last",
		strings.Join(texts, ", "), key, p.Source.From(), b.where(p), rows-1)
	var hi []string
	err := source.QueryRow(ctx, q, pgx.QueryExecModeExec).Scan(&hi)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return hi, err
}

// rowWidth estimates the bytes of a row, with what is stored out of line, by all rows of the table. Like the planner it trusts how many
// rows there were to a page more than how many there were.
func rowWidth(ctx context.Context, source *pgx.Conn, t table.Table) (int64, error) {
	const q = `
select coalesce((sum(pg_table_size(c.oid)) filter (where c.reltuples > 0)
                 / sum(c.reltuples / c.relpages * greatest(pg_relation_size(c.oid) / current_setting('block_size')::int, 1))
                   filter (where c.reltuples > 0))::bigint, $2)
  from pg_class c
 where c.oid in (select $1::text::regclass union all select relid from pg_partition_tree($1::text::regclass))
   and c.relkind = 'r' and c.relpages > 0`
	var width int64
	if err := source.QueryRow(ctx, q, t.SQL(), unknownWidth).Scan(&width); err != nil {
		return 0, err
	}
	return max(width, 1), nil
}
