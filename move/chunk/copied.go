package chunk

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
)

// Copied answers, of a change in the stream, whether the copy has brought it already. It is of a copy that is complete, and not for
// concurrent use.
type Copied struct {
	source func(context.Context) (*pgx.Conn, error)
	conn   *pgx.Conn // to the source, once it was needed
	tables map[string]divided
	until  uint64
}

// divided is a table that is copied: its chunks, in order.
type divided struct {
	chunks []entry
	order  func(a, b []string) int // of keys; nil: only the source knows
}

// Load reads what a copy has brought from the ledger at the target. One that is not complete is an error. source opens a session at
// the source, as for [Copy]: it is asked where a key lies when its order is the source's own. Nothing is opened before that.
func Load(ctx context.Context, target *pgx.Conn, move string, pairs []table.Pair, source func(context.Context) (*pgx.Conn, error)) (*Copied, error) {
	ledger, err := readLedger(ctx, target, move)
	if err != nil {
		return nil, err
	}
	c := &Copied{source: source, tables: make(map[string]divided, len(pairs))}
	for _, p := range pairs {
		chunks := ledger[p.Source.Name]
		if !complete(chunks) {
			return nil, fmt.Errorf("read the ledger: table %s is not copied yet", p.Source.Name)
		}
		for _, e := range chunks {
			c.until = max(c.until, e.snapshot.xmax)
		}
		c.tables[p.Source.Name] = divided{chunks: chunks, order: order(p)}
	}
	return c, nil
}

// complete tells whether chunks follow each other from the first key to the last.
func complete(chunks []entry) bool {
	lo := []string(nil)
	for i, e := range chunks {
		if !slices.Equal(lo, e.bounds.lo) || (e.bounds.hi == nil) != (i == len(chunks)-1) {
			return false
		}
		lo = e.bounds.hi
	}
	return len(chunks) > 0
}

// Until is the transaction id from which on no change is in the copy.
func (c *Copied) Until() uint64 { return c.until }

// Ahead tells whether rows of p's table were copied with what the committed transaction xid, with its epoch, has done to them.
func (c *Copied) Ahead(p table.Pair, xid uint64) bool {
	return slices.ContainsFunc(c.tables[p.Source.Name].chunks, func(e entry) bool { return e.snapshot.sees(xid) })
}

// Seen tells of each key whether the copy has brought what the committed transaction that stands beside it in xids, with its epoch, has
// done to that row. Keys are values of the pair's SourceKey, as text; p is a pair of the copy.
func (c *Copied) Seen(ctx context.Context, p table.Pair, keys [][]string, xids []uint64) ([]bool, error) {
	t := c.tables[p.Source.Name]
	places, err := c.places(ctx, t, p, keys)
	if err != nil {
		return nil, fmt.Errorf("find keys of table %s among what is copied: %w", p.Source.Name, err)
	}
	seen := make([]bool, len(keys))
	for i, place := range places {
		seen[i] = t.chunks[place].snapshot.sees(xids[i])
	}
	return seen, nil
}

// Close ends the session at the source, if there is one. Who asks again opens another one.
func (c *Copied) Close(ctx context.Context) {
	if c.conn != nil {
		end(ctx, c.conn)
		c.conn = nil
	}
}

// places tells which chunk each key lies in.
func (c *Copied) places(ctx context.Context, t divided, p table.Pair, keys [][]string) ([]int, error) {
	switch {
	case len(t.chunks) == 1:
		return make([]int, len(keys)), nil
	case t.order == nil:
		return c.ask(ctx, t, p, keys)
	}
	places := make([]int, len(keys))
	for i, key := range keys {
		places[i], _ = slices.BinarySearchFunc(t.chunks, key, func(e entry, key []string) int {
			if e.bounds.hi == nil {
				return 1
			}
			return t.order(e.bounds.hi, key) // lo < key <= hi
		})
	}
	return places, nil
}

// ask has the source, in whose order the bounds were made, put keys between them: collations differ between servers.
func (c *Copied) ask(ctx context.Context, t divided, p table.Pair, keys [][]string) (places []int, err error) {
	if err := c.reach(ctx, p); err != nil {
		return nil, err
	}
	// A key that is a bound belongs to the chunk that the bound ends, so it comes first.
	var terms, bounds, asked []string
	var args []any
	for i, name := range p.SourceKey {
		column, _ := p.Source.Column(name)
		term := fmt.Sprintf("k%d::%s", i, column.Cast)
		if column.Collation != "" && column.Collation != "default" {
			term += " collate " + column.Collation
		}
		terms = append(terms, term)
		bounds = append(bounds, fmt.Sprintf("$%d::text[]", len(args)+1))
		asked = append(asked, fmt.Sprintf("$%d::text[]", len(args)+2))
		his, values := make([]string, len(t.chunks)-1), make([]string, len(keys))
		for n := range his {
			his[n] = t.chunks[n].bounds.hi[i]
		}
		for n, key := range keys {
			values[n] = key[i]
		}
		args = append(args, his, values)
	}
	names := make([]string, len(p.SourceKey))
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	columns := strings.Join(names, ", ")
	q := fmt.Sprintf(`
select place from (
  select n, count(*) filter (where n is null) over (order by %s, n is null rows unbounded preceding) as place
    from (select %s, null as n from unnest(%s) as b (%s)
          union all
          select %s, n from unnest(%s) with ordinality as k (%s, n)) as keys (%s, n)) as found
 where n is not null order by n`,
		strings.Join(terms, ", "), columns, strings.Join(bounds, ", "), columns, columns, strings.Join(asked, ", "), columns, columns)
	rows, err := c.conn.Query(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// reach opens the session at the source, unless it is open. All pairs are of one schema there.
func (c *Copied) reach(ctx context.Context, p table.Pair) error {
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	conn, err := c.source(ctx)
	if err != nil {
		return err
	}
	if err = setPath(ctx, conn, p.Source); err == nil {
		_, err = conn.Exec(ctx, forms)
	}
	if err != nil {
		end(ctx, conn)
		return err
	}
	c.conn = conn
	return nil
}

// order returns how the source orders the pair's keys, where that is known without asking it.
func order(p table.Pair) func(a, b []string) int {
	columns := make([]func(a, b string) int, len(p.SourceKey))
	for i, name := range p.SourceKey {
		c, _ := p.Source.Column(name)
		switch {
		case c.Cast == "smallint" || c.Cast == "integer" || c.Cast == "bigint":
			columns[i] = compareInt
		case c.Cast == "uuid" || c.Bytewise: // a uuid's text is ordered as its bytes are
			columns[i] = strings.Compare
		default:
			return nil
		}
	}
	return func(a, b []string) int {
		for i, compare := range columns {
			if n := compare(a[i], b[i]); n != 0 {
				return n
			}
		}
		return 0
	}
}

// compareInt compares two whole numbers as PostgreSQL writes them.
func compareInt(a, b string) int {
	x, _ := strconv.ParseInt(a, 10, 64)
	y, _ := strconv.ParseInt(b, 10, 64)
	return cmp.Compare(x, y)
}
