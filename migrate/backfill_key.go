package migrate

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// key is the primary key of a table.
type key struct {
	columns []string
	types   []string // as SQL
}

// bound is the key of a row, as texts.
type bound []string

func (k key) qualified(alias string) []string {
	names := make([]string, len(k.columns))
	for i, c := range k.columns {
		names[i] = pgx.Identifier{alias, c}.Sanitize()
	}
	return names
}

// literals are the values of a bound as SQL, each with its type.
func (k key) literals(conn *pgx.Conn, b bound) ([]string, error) {
	quoted, err := b.quote(conn)
	for i := range quoted {
		quoted[i] += "::" + k.types[i]
	}
	return quoted, err
}

// between is the condition that a row's key is above low, if that is not nil, and at most high. The planner guesses badly how
// many rows lie between two rows of several values: so it says what they have in common as equalities, and bounds the first
// column in which they differ a second time.
func (k key) between(conn *pgx.Conn, alias string, low, high bound) (string, error) {
	columns := k.qualified(alias)
	lows, err := k.literals(conn, low)
	if err != nil {
		return "", err
	}
	highs, err := k.literals(conn, high)
	if err != nil {
		return "", err
	}
	var all []string
	for low != nil && len(columns) > 1 && lows[0] == highs[0] {
		all = append(all, columns[0]+" = "+lows[0])
		columns, lows, highs = columns[1:], lows[1:], highs[1:]
	}
	compare := func(operator string, values []string) {
		if len(columns) > 1 {
			all = append(all, columns[0]+" "+operator[:1]+"= "+values[0])
		}
		all = append(all, "("+strings.Join(columns, ", ")+") "+operator+" ("+strings.Join(values, ", ")+")")
	}
	if low != nil {
		compare(">", lows)
	}
	compare("<=", highs)
	return strings.Join(all, " and "), nil
}

func (b bound) quote(conn *pgx.Conn) ([]string, error) {
	quoted := make([]string, len(b))
	for i, v := range b {
		var err error
		if quoted[i], err = quoteLiteral(conn, v); err != nil {
			return nil, err
		}
	}
	return quoted, nil
}

// literal is the bound as SQL.
func (b bound) literal(conn *pgx.Conn) (string, error) {
	if b == nil {
		return "null", nil
	}
	quoted, err := b.quote(conn)
	return "array[" + strings.Join(quoted, ", ") + "]::text[]", err
}

// answer is what a message was answered with, by the names of the columns; of several rows the last.
type answer map[string]field

type field struct {
	types *pgtype.Map
	value []byte
}

// ask sends text as one message of the simple protocol.
func ask(ctx context.Context, conn *pgx.Conn, text string) (answer, error) {
	results, err := conn.PgConn().Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, err
	}
	got := make(answer)
	for _, r := range results {
		for _, row := range r.Rows {
			for i, value := range row {
				got[r.FieldDescriptions[i].Name] = field{conn.TypeMap(), value}
			}
		}
	}
	return got, nil
}

// scan reads a column. NULL leaves nothing in what it is read into.
func (a answer) scan(column string, oid uint32, into any) error {
	f, ok := a[column]
	if !ok {
		return fmt.Errorf("read %s of a backfill: there is none", column)
	}
	if err := f.types.Scan(oid, pgtype.TextFormatCode, f.value, into); err != nil {
		return fmt.Errorf("read %s of a backfill: %w", column, err)
	}
	return nil
}
