package router

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	copyRows  = 2000    // at most, in one statement of CopyFrom
	copyBytes = 4 << 20 // of values, in one statement of CopyFrom
)

// CopyFrom inserts rows and returns how many; all of them or none. It has the signature of pgx.Conn.CopyFrom and is an
// INSERT from arrays, in parts of a few thousand rows, because PostgreSQL refuses COPY into tables with row-level security.
// Like COPY, it writes identity columns that it is given. An error leaves the transaction as it was before.
func (tx *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	ctx, o, before := tx.trace(ctx, OpCopy, "")
	err = errPanic // until it returns
	defer func() { o.end(tx.since(before), err) }()
	err = tx.Savepoint(ctx, func(ctx context.Context, tx *Tx) error {
		n, err = tx.copyFrom(ctx, table, columns, src)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (tx *Tx) copyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if len(columns) == 0 {
		return 0, fmt.Errorf("%w: CopyFrom without columns", ErrRefused)
	}
	types, err := tx.columnTypes(ctx, table, columns)
	if err != nil {
		return 0, err
	}
	insert := insertFromArrays(table, columns, types)
	part := newCopyPart(len(columns))
	var copied int64
	flush := func() error {
		if part.rows == 0 {
			return nil
		}
		r, err := tx.checked(ctx, OpExec, insert, part.args())
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			return fmt.Errorf("copy into %s: %w", table.Sanitize(), err)
		}
		copied += r.CommandTag().RowsAffected()
		part = newCopyPart(len(columns))
		return nil
	}
	for src.Next() {
		values, err := src.Values()
		if err != nil {
			return 0, fmt.Errorf("read a row to copy: %w", err)
		}
		if err := part.add(tx.s.types, types, values); err != nil {
			return 0, fmt.Errorf("copy into %s: row %d: %w", table.Sanitize(), copied+int64(part.rows)+1, err)
		}
		if part.rows == copyRows || part.bytes >= copyBytes {
			if err := flush(); err != nil {
				return 0, err
			}
		}
	}
	if err := src.Err(); err != nil {
		return 0, fmt.Errorf("read a row to copy: %w", err)
	}
	if err := flush(); err != nil {
		return 0, err
	}
	return copied, nil
}

// columnType is what a column's type comes down to: of a domain, the type below it, and no length or precision. The
// assignment to the column brings those back, and unlike a cast it refuses what is too long.
type columnType struct {
	oid  uint32
	name string // ready for a cast
}

func (tx *Tx) columnTypes(ctx context.Context, table pgx.Identifier, columns []string) ([]columnType, error) {
	const q = `
with recursive base (at, name, oid) as (
    select c.at, c.name, a.atttypid
      from unnest($2::text[]) with ordinality as c (name, at)
      left join pg_catalog.pg_attribute a
        on a.attrelid = $1::regclass and a.attname = c.name and a.attnum > 0 and not a.attisdropped
    union all
    select b.at, b.name, t.typbasetype from base b join pg_catalog.pg_type t on t.oid = b.oid and t.typtype = 'd'
)
select b.name, coalesce(b.oid, 0), coalesce(pg_catalog.format_type(b.oid, -1), '')
  from base b left join pg_catalog.pg_type t on t.oid = b.oid
 where t.typtype is distinct from 'd'
 order by b.at`
	rows, err := tx.checked(ctx, OpQuery, q, []any{table.Sanitize(), columns})
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", table.Sanitize(), err)
	}
	types, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (columnType, error) {
		var name string
		var t columnType
		if err := row.Scan(&name, &t.oid, &t.name); err != nil {
			return t, err
		}
		if t.oid == 0 {
			return t, fmt.Errorf("there is no column %q", name)
		}
		return t, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", table.Sanitize(), err)
	}
	return types, nil
}

// insertFromArrays takes one array of text per column and casts each value, which holds for every type, arrays and the
// application's own included.
func insertFromArrays(table pgx.Identifier, columns []string, types []columnType) string {
	var names, casts, params, aliases []string
	for i, c := range columns {
		n := strconv.Itoa(i + 1)
		names = append(names, pgx.Identifier{c}.Sanitize())
		casts = append(casts, "v.c"+n+"::"+types[i].name)
		params = append(params, "$"+n+"::text[]")
		aliases = append(aliases, "c"+n)
	}
	return fmt.Sprintf("insert into %s (%s) overriding system value select %s from unnest(%s) as v (%s)", table.Sanitize(),
		strings.Join(names, ", "), strings.Join(casts, ", "), strings.Join(params, ", "), strings.Join(aliases, ", "))
}

// copyPart collects rows by column, as text.
type copyPart struct {
	columns     [][]*string
	rows, bytes int
}

func newCopyPart(columns int) *copyPart { return &copyPart{columns: make([][]*string, columns)} }

func (p *copyPart) add(m *pgtype.Map, types []columnType, values []any) error {
	if len(values) != len(types) {
		return fmt.Errorf("%d values for %d columns", len(values), len(types))
	}
	for i, v := range values {
		text, err := asText(m, types[i].oid, v)
		if err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
		if text != nil {
			p.bytes += len(*text)
		}
		p.columns[i] = append(p.columns[i], text)
	}
	p.rows++
	return nil
}

func (p *copyPart) args() []any {
	args := make([]any, len(p.columns))
	for i, c := range p.columns {
		args[i] = c
	}
	return args
}

// asText returns v in PostgreSQL's text form of the type, nil for NULL.
func asText(m *pgtype.Map, oid uint32, v any) (*string, error) {
	if s, ok := v.(string); ok {
		return &s, nil
	}
	buf, err := m.Encode(oid, pgtype.TextFormatCode, v, nil)
	if err != nil || buf == nil {
		return nil, err
	}
	s := string(buf)
	return &s, nil
}
