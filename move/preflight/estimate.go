package preflight

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/table"
)

// Estimate is how much there is to copy.
type Estimate struct {
	Rows   int64           `json:"rows"`
	Bytes  int64           `json:"bytes"` // as they lie in tables, without indexes
	Copy   time.Duration   `json:"copy"`  // roughly, in nanoseconds, by one worker on servers that have little else to do, and at most at the rate that is asked for
	Tables []TableEstimate `json:"tables"`
}

// TableEstimate is how much there is in one table.
type TableEstimate struct {
	Table   string `json:"table"`
	Rows    int64  `json:"rows"`
	Bytes   int64  `json:"bytes"`
	Counted bool   `json:"counted"` // the rows were counted; else they are what the planner expects
}

// How long the counting may take, of one table and of all, and what a worker brings over in a second.
const (
	countLimit     = 2 * time.Second
	countAll       = 20 * time.Second
	rowsPerSecond  = 100_000
	bytesPerSecond = 40 << 20
)

// estimate counts the tenant's rows, or asks the planner where that takes too long.
func (c *checker) estimate(ctx context.Context, s *side) error {
	e := Estimate{Tables: []TableEstimate{}}
	for end := time.Now().Add(countAll); ; {
		n := len(e.Tables)
		tables := owned(s.tables)
		if n == len(tables) {
			break
		}
		one, err := c.measure(ctx, s, tables[n], min(countLimit, time.Until(end)))
		if err != nil {
			return fmt.Errorf("table %s: %w", tables[n].Name, err)
		}
		e.Tables = append(e.Tables, one)
		e.Rows += one.Rows
		e.Bytes += one.Bytes
	}
	seconds := max(float64(e.Rows)/rowsPerSecond, float64(e.Bytes)/bytesPerSecond)
	if c.MaxRate > 0 {
		seconds = max(seconds, float64(e.Bytes)/float64(c.MaxRate))
	}
	e.Copy = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	c.report.Estimate = e
	return nil
}

func (c *checker) measure(ctx context.Context, s *side, t table.Table, limit time.Duration) (e TableEstimate, err error) {
	e.Table = t.Name
	// The size of a row is that of the average one of all tenants.
	const size = `
select coalesce(sum(pg_table_size(c.oid)), 0)::bigint,
       coalesce(sum(case when c.reltuples > 0 and c.relpages > 0
                         then c.reltuples / c.relpages * pg_relation_size(c.oid) / current_setting('block_size')::int end), 0)::bigint
  from pg_class c
 where c.oid in (select $1::text::regclass union all select relid from pg_partition_tree($1::text::regclass)) and c.relkind = 'r'`
	var bytes, rows int64
	if err := s.conn.QueryRow(ctx, size, t.SQL()).Scan(&bytes, &rows); err != nil {
		return e, err
	}
	from := " from " + t.From() + " where " + t.Whose(c.Tenant.ID.String())
	if limit > 0 {
		err = within(ctx, s, limit, func(tx pgx.Tx) error { return tx.QueryRow(ctx, "select count(*)"+from).Scan(&e.Rows) })
	}
	switch {
	case limit <= 0 || pgerr.Is(err, pgerr.QueryCanceled) && ctx.Err() == nil:
		var plan []struct {
			Plan struct {
				Rows float64 `json:"Plan Rows"`
			}
		}
		if err := s.conn.QueryRow(ctx, "explain (format json) select"+from).Scan(&plan); err != nil {
			return e, err
		}
		e.Rows = int64(plan[0].Plan.Rows)
	case err != nil:
		return e, err
	default:
		e.Counted = true
	}
	switch rows = max(rows, e.Rows); {
	case e.Rows == rows:
		e.Bytes = bytes
	case rows > 0:
		e.Bytes = int64(float64(bytes) / float64(rows) * float64(e.Rows))
	}
	return e, nil
}
