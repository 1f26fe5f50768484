package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// Backfill is a migration of the phase backfill on its way through one home: its one statement, run in batches of rows in the
// order of the table's primary key. Each batch is a transaction of its own that also moves the cursor, so that whoever goes on
// does so where the last batch ended; the last one writes the version row. Rows that come behind the last key after it has
// begun are left out.
//
// It is not safe for concurrent use. After an error the connection is in no transaction or closed, and nothing of the batch was
// done; where [Judge] says Again, the next batch takes half as many rows.
type Backfill struct {
	step
	pace  pace
	table uint32 // oid; 0: it has not been opened, or has to be again
	key   key
	upper bound // the last key when it began; nil: there was none
	next  bound // where the next batch ends
	rows  int   // how many are to be in it

	cursor bound // where the last batch ended; nil: nowhere yet
	done   int64 // rows that are changed
}

// Batch is what one batch of a backfill did.
type Batch struct {
	Rows  int64 // that it changed
	Total int64 // that all batches so far have changed; 0: the target has the migration already
	Took  time.Duration
	Last  bool // the migration is applied
}

// Batched reports whether the migration is a backfill, to be run by Backfill. Apply would run its statement at once.
func (m Migration) Batched() bool { return m.Phase == PhaseBackfill && !m.inGo }

// Backfill prepares to run the migration in batches, otherwise as with Apply. It sends nothing.
func (m Migration) Backfill(conn *pgx.Conn, t Target, by Attempt, l Limits, size Batches) (*Backfill, error) {
	if !m.Batched() {
		return nil, fmt.Errorf("%s: its phase is %s: only a backfill is run in batches", m.File, m.Phase)
	}
	if m.Scope != t.Scope {
		return nil, fmt.Errorf("%s: its scope is %s, the target's %s", m.File, m.Scope, t.Scope)
	}
	sql, err := t.compile(conn)
	if err != nil {
		return nil, err
	}
	p := newPace(size)
	// What takes so much longer than it was meant to holds its rows against everybody else.
	if longest := patience * p.Target; l.Statement == 0 || l.Statement > longest {
		l.Statement = longest
	}
	return &Backfill{step: m.step(conn, sql, by, l), pace: p}, nil
}

// Batch runs the next batch.
func (b *Backfill) Batch(ctx context.Context) (Batch, error) {
	if err := b.open(ctx); err != nil {
		return b.failed(ctx, err)
	}
	last, size := slices.Equal(b.next, b.upper), b.pace.size
	text, err := b.text(last)
	if err != nil {
		return b.failed(ctx, err)
	}
	begun := time.Now()
	got, err := ask(ctx, b.conn, text)
	if err != nil {
		return b.failed(ctx, err)
	}
	out := Batch{Took: time.Since(begun), Total: b.done, Last: last}
	if b.upper != nil {
		if err := got.scan("done", pgtype.Int8OID, &out.Total); err != nil {
			return b.failed(ctx, err)
		}
		out.Rows, b.done, b.cursor = out.Total-b.done, out.Total, b.next
		b.pace.took(b.rows, out.Took)
		if err := b.readNext(got, size); err != nil {
			return b.failed(ctx, err)
		}
	}
	return out, nil
}

// failed says what an error means. What the home has already is no error.
func (b *Backfill) failed(ctx context.Context, err error) (Batch, error) {
	leave(ctx, b.conn)
	b.table = 0 // who knows what of it was done
	switch {
	case pgerr.Is(err, pgerr.Applied):
		return Batch{Last: true}, nil
	case pgerr.Is(err, pgerr.Overtaken):
		return Batch{}, fmt.Errorf("%s: %w", b.migration.File, ErrOvertaken)
	}
	if Judge(err) == Again {
		b.pace.failed(cmp.Or(b.rows, b.pace.size))
	}
	return Batch{}, fmt.Errorf("%s: %w", b.migration.File, err)
}

// open begins the backfill, or finds out how far it has come.
func (b *Backfill) open(ctx context.Context) error {
	if b.table != 0 {
		return nil
	}
	w := b.migration.write
	table, err := quoteLiteral(b.conn, w.Table)
	if err != nil {
		return err
	}
	got, err := ask(ctx, b.conn, b.begin()+fmt.Sprintf("select * from landlord.begin_backfill(%s, %d, '%s', '%s', %d, %s, %t, %d);commit",
		b.target.quoted, b.migration.Version, b.migration.Checksum, b.by.Run, b.by.Lease, table, w.Only, b.pace.size))
	if err != nil {
		return err
	}
	var whole bool
	var size int
	err = errors.Join(
		got.scan("o_table", pgtype.OIDOID, &b.table), got.scan("o_columns", pgtype.TextArrayOID, &b.key.columns),
		got.scan("o_types", pgtype.TextArrayOID, &b.key.types), got.scan("o_upper", pgtype.TextArrayOID, (*[]string)(&b.upper)),
		got.scan("o_cursor", pgtype.TextArrayOID, (*[]string)(&b.cursor)), got.scan("o_batch", pgtype.Int4OID, &size),
		got.scan("o_done", pgtype.Int8OID, &b.done), got.scan("o_whole", pgtype.BoolOID, &whole))
	if err != nil {
		return err
	}
	for _, c := range w.Changes {
		if slices.Contains(b.key.columns, c) {
			return fmt.Errorf("it changes %s, which is part of the primary key by which its batches go: such rows cannot be changed "+
				"in batches, but by rows of another key beside them", c)
		}
	}
	if whole || b.upper == nil {
		b.next, b.rows = b.upper, b.pace.size
		return nil
	}
	b.pace.resume(size)
	seek, err := b.seek()
	if err != nil {
		return err
	}
	got, err = ask(ctx, b.conn, b.begin()+seek+"commit")
	if err != nil {
		return err
	}
	return b.readNext(got, b.pace.size)
}

// readNext reads what seek has found, with which size. Where there are fewer rows left, the last key of all is the next.
func (b *Backfill) readNext(got answer, size int) error {
	b.next, b.rows = b.upper, size
	if _, found := got["next"]; !found {
		return nil
	}
	return got.scan("next", pgtype.TextArrayOID, (*[]string)(&b.next))
}

// seek looks for the last key of the batch behind the cursor. Its plan is to go along the key, whatever the planner believes of
// the table: sorting all that is left for every batch would take the longer the larger the table is.
func (b *Backfill) seek() (string, error) {
	const alias = "landlord_table"
	rows, err := b.key.between(b.conn, alias, b.cursor, b.upper)
	if err != nil {
		return "", err
	}
	only := ""
	if b.migration.write.Only {
		only = "only "
	}
	columns := b.key.qualified(alias)
	return fmt.Sprintf("set local enable_seqscan = off;set local enable_bitmapscan = off;set local enable_sort = off;\n"+
		"select array[%s::text] as next from %s%s as %s where %s order by %s offset %d limit 1;\n",
		strings.Join(columns, "::text, "), only, pgx.Identifier{b.target.schema, b.migration.write.Table}.Sanitize(), alias, rows,
		strings.Join(columns, ", "), b.pace.size-1), nil
}

// text is a batch as one message: the statement for its rows, the cursor, and either the end of the next batch or, after the
// last, the end of the step.
func (b *Backfill) text(last bool) (string, error) {
	cursor, err := b.cursor.literal(b.conn)
	if err != nil {
		return "", err
	}
	begin := b.begin() + fmt.Sprintf("select landlord.begin_batch(%s, %d, '%s', '%s', %d, %s);\n", b.target.quoted,
		b.migration.Version, b.migration.Checksum, b.by.Run, b.by.Lease, cursor)
	if b.upper == nil {
		return begin + b.end(), nil
	}
	rows, err := b.key.between(b.conn, b.migration.write.Alias, b.cursor, b.next)
	if err != nil {
		return "", err
	}
	next, err := b.next.literal(b.conn)
	if err != nil {
		return "", err
	}
	batch := fmt.Sprintf("with landlord_batch as (\n%s\n) select landlord.end_batch(%s, %d, %s, count(*), %d) as done from landlord_batch;\n",
		b.migration.bounded(rows), b.target.quoted, b.migration.Version, next, b.pace.size)
	if last {
		return begin + batch + b.end(), nil
	}
	after := *b
	after.cursor = b.next
	seek, err := after.seek()
	return begin + batch + seek + "commit", err
}

// bounded is the migration's statement for rows that also meet a condition.
func (m Migration) bounded(rows string) string {
	w, text := m.write, m.Statements[0]
	statement := text[w.Start:w.Target] + " where " + rows
	if w.Condition > 0 {
		statement += " and (" + text[w.Condition:w.Limit] + ")"
	}
	statement += text[w.Limit:w.End]
	if w.Returning == 0 {
		statement += " returning 1"
	}
	return statement
}

// inspectBackfill reads the statement of a backfill, or tells why the file is none.
func (m *Migration) inspectBackfill() error {
	switch {
	case m.Scope != ScopeTenant:
		return fmt.Errorf("a backfill goes over a table in every home: its scope is %s, not %s", ScopeTenant, m.Scope)
	case m.NoTransaction:
		return errors.New("every batch of a backfill is a transaction: take the mark NO TRANSACTION out")
	case len(m.Statements) != 1:
		return sqltext.ErrNotOneWrite
	}
	tokens, err := sqltext.Tokenize(m.Statements[0])
	if err != nil {
		return err
	}
	m.write, err = sqltext.ReadWrite(sqltext.Split(tokens))
	return err
}
