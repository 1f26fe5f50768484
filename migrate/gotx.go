package migrate

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// txDriver shows the transaction that is open on a connection to database/sql. That of pgx makes connections of its own, on
// which nothing of the step would hold. It is connector, driver, connection and transaction in one, for one transaction.
//
// Statements are judged as those of files are, and none is prepared: the next home has other tables of the same names.
type txDriver struct {
	conn   *pgx.Conn
	failed error // the first error of a statement
}

var (
	_ driver.QueryerContext    = (*txDriver)(nil)
	_ driver.ExecerContext     = (*txDriver)(nil)
	_ driver.NamedValueChecker = (*txDriver)(nil)
	_ driver.ConnBeginTx       = (*txDriver)(nil)
)

func (d *txDriver) Connect(context.Context) (driver.Conn, error) { return d, nil }
func (d *txDriver) Driver() driver.Driver                        { return d }
func (d *txDriver) Open(string) (driver.Conn, error)             { return d, nil }
func (d *txDriver) Close() error                                 { return nil }

// The transaction is begun and ended by whoever runs the step.

func (d *txDriver) Begin() (driver.Tx, error)                                    { return d, nil }
func (d *txDriver) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return d, nil }
func (d *txDriver) Commit() error                                                { return nil }
func (d *txDriver) Rollback() error                                              { return nil }

// CheckNamedValue lets every value through: pgx encodes by the statement's types.
func (d *txDriver) CheckNamedValue(v *driver.NamedValue) error {
	if v.Name != "" {
		return errors.New("named arguments are not PostgreSQL's: use $1")
	}
	return nil
}

// note remembers the first error: after it, the transaction takes no more statements.
func (d *txDriver) note(err error) error {
	if d.failed == nil {
		d.failed = err
	}
	return err
}

// judge refuses what would reach beyond the step.
func (d *txDriver) judge(query string) error {
	tokens, err := sqltext.Tokenize(query)
	if err != nil {
		return err
	}
	for _, statement := range sqltext.Split(tokens) {
		if err := sqltext.Refuse(statement); err != nil {
			return fmt.Errorf("%q: %w", sqltext.Excerpt(query[statement[0].Pos:]), err)
		}
	}
	return nil
}

// txArgs are the arguments of a call to pgx, options first.
func txArgs(values []driver.NamedValue, options ...any) []any {
	args := append([]any{pgx.QueryExecModeDescribeExec}, options...)
	for _, v := range values {
		args = append(args, v.Value)
	}
	return args
}

func (d *txDriver) ExecContext(ctx context.Context, query string, values []driver.NamedValue) (driver.Result, error) {
	if err := d.judge(query); err != nil {
		return nil, err
	}
	tag, err := d.conn.Exec(ctx, query, txArgs(values)...)
	if err != nil {
		return nil, d.note(err)
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// txFormats are the types that database/sql has a Go type for, which travel in binary form. All else is text.
var txFormats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID: 1, pgtype.ByteaOID: 1, pgtype.Int2OID: 1, pgtype.Int4OID: 1, pgtype.Int8OID: 1,
	pgtype.Float4OID: 1, pgtype.Float8OID: 1, pgtype.DateOID: 1, pgtype.TimestampOID: 1, pgtype.TimestamptzOID: 1,
}

func (d *txDriver) QueryContext(ctx context.Context, query string, values []driver.NamedValue) (driver.Rows, error) {
	if err := d.judge(query); err != nil {
		return nil, err
	}
	rows, err := d.conn.Query(ctx, query, txArgs(values, txFormats)...)
	if err != nil {
		return nil, d.note(err)
	}
	r := &txRows{driver: d, rows: rows, ahead: true, more: rows.Next()} // the columns are known with the first row
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, d.note(err)
	}
	return r, nil
}

func (d *txDriver) Prepare(query string) (driver.Stmt, error) {
	return &txStmt{driver: d, query: query}, nil
}

// txStmt is a statement that is sent whole each time.
type txStmt struct {
	driver *txDriver
	query  string
}

func (s *txStmt) Close() error  { return nil }
func (s *txStmt) NumInput() int { return -1 } // the server checks

func (s *txStmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }
func (s *txStmt) Query([]driver.Value) (driver.Rows, error)  { return nil, driver.ErrSkip }

func (s *txStmt) ExecContext(ctx context.Context, values []driver.NamedValue) (driver.Result, error) {
	return s.driver.ExecContext(ctx, s.query, values)
}

func (s *txStmt) QueryContext(ctx context.Context, values []driver.NamedValue) (driver.Rows, error) {
	return s.driver.QueryContext(ctx, s.query, values)
}

// txRows turns pgx's rows into database/sql's.
type txRows struct {
	driver *txDriver
	rows   pgx.Rows
	ahead  bool // the row that Next is to give was asked for already
	more   bool // and is there
}

func (r *txRows) Columns() []string {
	names := make([]string, len(r.rows.FieldDescriptions()))
	for i, f := range r.rows.FieldDescriptions() {
		names[i] = f.Name
	}
	return names
}

func (r *txRows) Close() error {
	r.rows.Close()
	return r.err()
}

func (r *txRows) err() error {
	if err := r.rows.Err(); err != nil {
		return r.driver.note(err)
	}
	return nil
}

func (r *txRows) Next(dest []driver.Value) error {
	if !r.ahead {
		r.more = r.rows.Next()
	}
	r.ahead = false
	if !r.more {
		if err := r.err(); err != nil {
			return err
		}
		return io.EOF
	}
	types, fields := r.driver.conn.TypeMap(), r.rows.FieldDescriptions()
	for i, raw := range r.rows.RawValues() {
		dest[i] = nil
		if raw == nil {
			continue
		}
		t, known := types.TypeForOID(fields[i].DataTypeOID)
		if fields[i].Format == pgx.TextFormatCode || !known {
			dest[i] = string(raw)
			continue
		}
		v, err := t.Codec.DecodeDatabaseSQLValue(types, fields[i].DataTypeOID, fields[i].Format, raw)
		if err != nil {
			return fmt.Errorf("read column %s: %w", fields[i].Name, err)
		}
		dest[i] = v
	}
	return nil
}
