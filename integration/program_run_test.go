package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/router"
)

// teller is what statements go through: a tenant's handle, its transaction, or plain pgx.
type teller interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
}

// dwelling is where a program runs, and scope what it runs in while a transaction is open.
type dwelling interface {
	teller
	tx(ctx context.Context, opts router.TxOptions, fn func(context.Context, scope) error) error
}

type scope interface {
	teller
	under(ctx context.Context, fn func(context.Context, scope) error) error
}

// inHouse runs programs through the router.
type inHouse struct{ *router.DB }

func (h inHouse) tx(ctx context.Context, opts router.TxOptions, fn func(context.Context, scope) error) error {
	return h.TxWith(ctx, opts, func(ctx context.Context, tx *router.Tx) error { return fn(ctx, inHouseTx{tx}) })
}

type inHouseTx struct{ *router.Tx }

func (h inHouseTx) under(ctx context.Context, fn func(context.Context, scope) error) error {
	return h.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error { return fn(ctx, inHouseTx{tx}) })
}

// alone runs programs on a connection to a database in which there is one tenant, and no landlord.
type alone struct{ *pgx.Conn }

func (a alone) tx(ctx context.Context, opts router.TxOptions, fn func(context.Context, scope) error) error {
	o := pgx.TxOptions{IsoLevel: opts.Isolation}
	if opts.ReadOnly {
		o.AccessMode = pgx.ReadOnly
	}
	return pgx.BeginTxFunc(ctx, a.Conn, o, func(tx pgx.Tx) error { return fn(ctx, aloneTx{tx}) })
}

type aloneTx struct{ pgx.Tx }

func (a aloneTx) under(ctx context.Context, fn func(context.Context, scope) error) error {
	point, err := a.Begin(ctx)
	if err != nil {
		return err
	}
	err = fn(ctx, aloneTx{point})
	if err == nil && a.Conn().PgConn().TxStatus() == 'E' { // a savepoint does not pass over a failed statement
		err = router.ErrRolledBack
	}
	if err != nil {
		return errors.Join(err, point.Rollback(ctx))
	}
	return point.Commit(ctx)
}

var errUndone = errors.New("undone on purpose")

// event is one step's outcome.
type event struct{ step, outcome string }

// performance is a program that runs.
type performance struct {
	at     dwelling
	tell   func(error) string // what of an error is compared
	events []event
	// failed: the transaction takes no more statements. What it says then depends on which of them its connection has met before:
	// PostgreSQL finds some errors while it reads a statement's text, and no longer reads that of a prepared one.
	failed bool
}

// perform runs a program and returns what became of each step, in order. Those of steps under others come before the others'.
func perform(ctx context.Context, at dwelling, p program, tell func(error) string) []event {
	run := &performance{at: at, tell: tell}
	for _, s := range p {
		if s.kind != transaction {
			_ = run.step(ctx, at, s)
			continue
		}
		err := at.tx(ctx, s.opts, func(ctx context.Context, in scope) error { return run.body(ctx, in, s) })
		run.failed = false
		run.add(s, "", err)
	}
	return run.events
}

// body runs what is in a transaction or under a savepoint.
func (run *performance) body(ctx context.Context, in scope, s step) error {
	for _, inner := range s.steps {
		var err error
		if inner.kind == savepoint {
			before := run.failed
			err = in.under(ctx, func(ctx context.Context, in scope) error { return run.body(ctx, in, inner) })
			run.failed = before
			run.add(inner, "", err)
		} else {
			err = run.step(ctx, in, inner)
			if _, said := errors.AsType[*pgconn.PgError](err); said {
				run.failed = true
			}
		}
		if err != nil && s.stops {
			return err
		}
	}
	if s.undone {
		return errUndone
	}
	return nil
}

func (run *performance) step(ctx context.Context, at teller, s step) error {
	var text string
	var err error
	switch s.kind {
	case statement:
		text, err = readRows(s.ordered)(at.Query(ctx, s.sql, s.args...))
	case batch:
		text, err = sendBatch(ctx, at, s)
	case copying:
		var n int64
		n, err = at.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"id", "name", "kind"}, pgx.CopyFromRows(s.rows))
		text = fmt.Sprint(n)
	}
	run.add(s, text, err)
	return err
}

func (run *performance) add(s step, text string, err error) {
	switch {
	case err != nil && run.failed:
		text = "error in a failed transaction"
	case err != nil:
		text = run.tell(err)
	}
	run.events = append(run.events, event{s.String(), text})
}

// sendBatch returns what all statements of a batch say, or the error for which none of them counts.
func sendBatch(ctx context.Context, at teller, s step) (text string, err error) {
	b := &pgx.Batch{}
	for _, q := range s.steps {
		b.Queue(q.sql, q.args...)
	}
	results := at.SendBatch(ctx, b)
	for _, q := range s.steps {
		one, err := readRows(q.ordered)(results.Query())
		if err != nil {
			return "", errors.Join(err, ignored(results.Close()))
		}
		text += one + "; "
	}
	return text, results.Close()
}

// ignored is for an error that only repeats another.
func ignored(error) error { return nil }

func readRows(ordered bool) func(rows pgx.Rows, err error) (string, error) {
	return func(rows pgx.Rows, err error) (string, error) {
		if err != nil {
			return "", err
		}
		defer rows.Close()
		var lines []string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				return "", err
			}
			lines = append(lines, fmt.Sprint(values))
		}
		if err := rows.Err(); err != nil {
			return "", err
		}
		if !ordered {
			slices.Sort(lines)
		}
		return rows.CommandTag().String() + ": " + strings.Join(lines, " "), nil
	}
}

// meaning is what an error says wherever it is met: PostgreSQL's code and the objects that it names, which lie in other schemas
// elsewhere. Texts and details are left out, as PostgreSQL tells less of rows where row-level security holds.
func meaning(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("error %s table=%s column=%s constraint=%s", pg.Code, pg.TableName, pg.ColumnName, pg.ConstraintName)
	}
	switch {
	case errors.Is(err, router.ErrRolledBack), errors.Is(err, pgx.ErrTxCommitRollback):
		return "rolled back"
	case errors.Is(err, errUndone):
		return "undone"
	}
	return err.Error()
}

// wording is all that an error says.
func wording(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("error %s %q %q %q at %d table=%s column=%s constraint=%s type=%s", pg.Code, pg.Message, pg.Detail, pg.Hint, pg.Position,
			pg.TableName, pg.ColumnName, pg.ConstraintName, pg.DataTypeName)
	}
	return err.Error()
}

// difference tells where two performances of a program part, and what came before; empty: nowhere.
func difference(names [2]string, a, b []event) string {
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	if at == len(a) && at == len(b) {
		return ""
	}
	var text strings.Builder
	for i, e := range a[:at] {
		fmt.Fprintf(&text, "%d %s\n    -> %s\n", i, e.step, e.outcome)
	}
	for i, events := range [][]event{a, b} {
		fmt.Fprintf(&text, "%s ", names[i])
		if at < len(events) {
			fmt.Fprintf(&text, "%s\n    -> %s\n", events[at].step, events[at].outcome)
		} else {
			fmt.Fprint(&text, "has ended\n")
		}
	}
	return text.String()
}
