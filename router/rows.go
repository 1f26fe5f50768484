package router

import (
	"cmp"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows wraps pgx's rows so that closing them also ends the exchange, and so that they lead to no connection.
type rows struct {
	pgx.Rows
	end    func(error) error // ends the exchange; gets and returns the rows' error
	closed bool
	err    error
}

// errClosedRows reports a read of rows that are closed.
var errClosedRows = errors.New("rows are closed")

// newRows returns the rows of rr. end is called once, when they are read to the end or closed.
func newRows(s *session, rr *pgconn.ResultReader, end func(error) error) *rows {
	return &rows{Rows: pgx.RowsFromResultReader(s.types, rr), end: end}
}

// failedRows are rows of a query that never ran.
func failedRows(err error) *rows { return &rows{closed: true, err: err} }

func (r *rows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.Rows.Close()
	r.err = r.end(typed(r.Rows.Err()))
}

func (r *rows) Next() bool {
	if r.closed {
		return false
	}
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *rows) Scan(dest ...any) error {
	if r.closed {
		return cmp.Or(r.err, errClosedRows)
	}
	err := r.Rows.Scan(dest...)
	if err != nil && r.Rows.Err() != nil { // pgx has closed its rows
		r.Close()
	}
	return err
}

func (r *rows) Values() ([]any, error) {
	if r.closed {
		return nil, cmp.Or(r.err, errClosedRows)
	}
	v, err := r.Rows.Values()
	if err != nil && r.Rows.Err() != nil {
		r.Close()
	}
	return v, err
}

// Err returns the error met so far; after Close it includes that of the implicit commit.
func (r *rows) Err() error {
	if r.closed {
		return r.err
	}
	return typed(r.Rows.Err())
}

func (r *rows) CommandTag() pgconn.CommandTag {
	if r.Rows == nil {
		return pgconn.CommandTag{}
	}
	return r.Rows.CommandTag()
}

// FieldDescriptions returns nil once the rows are closed: pgx keeps them with the connection, which others use by then.
func (r *rows) FieldDescriptions() []pgconn.FieldDescription {
	if r.closed {
		return nil
	}
	return r.Rows.FieldDescriptions()
}

func (r *rows) RawValues() [][]byte {
	if r.closed {
		return nil
	}
	return r.Rows.RawValues()
}

func (r *rows) TypeMap() *pgtype.Map {
	if r.Rows == nil {
		return nil
	}
	return r.Rows.TypeMap()
}

// Conn returns nil: rows lead to no connection.
func (r *rows) Conn() *pgx.Conn { return nil }

// row is the one row of QueryRow.
type row struct{ rows pgx.Rows }

// Scan reads the row and ends the query. No row is pgx.ErrNoRows. It reports success only once the server has.
func (r row) Scan(dest ...any) error {
	defer r.rows.Close()
	if err := r.rows.Err(); err != nil {
		return err
	}
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	scanErr := r.rows.Scan(dest...)
	r.rows.Close()
	return errors.Join(scanErr, otherThan(scanErr, r.rows.Err()))
}

// otherThan returns err unless it is said already.
func otherThan(said, err error) error {
	if said != nil && errors.Is(err, said) {
		return nil
	}
	return err
}
