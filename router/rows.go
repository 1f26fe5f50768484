package router

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows wraps pgx's rows so that closing them also ends the exchange, and so that they lead to no connection.
type rows struct {
	pgx.Rows
	hold    *hold
	own     hold // of rows that hold their connection by themselves
	session *session
	end     func(error) error // ends the exchange; gets and returns the rows' error
	seen    func(error)       // what else is to know how they ended; may be nil
	closed  bool
	err     error
}

// errClosedRows reports a read of rows that are closed.
var errClosedRows = errors.New("rows are closed")

// newRows returns the rows of rr on a connection of h's, or of their own where h is nil. end is called once, when they are
// read to the end or closed.
func newRows(s *session, rr *pgconn.ResultReader, h *hold, end func(error) error) *rows {
	r := &rows{Rows: pgx.RowsFromResultReader(s.types, rr), hold: h, session: s, end: end}
	if h == nil {
		r.hold = &r.own
	}
	return r
}

// failedRows are rows of a query that never ran.
func failedRows(err error) *rows {
	r := &rows{closed: true, err: err}
	r.hold = &r.own
	return r
}

func (r *rows) Close() {
	r.hold.mu.Lock()
	defer r.hold.mu.Unlock()
	r.close()
}

// close closes the rows, unless their connection serves others by now.
func (r *rows) close() {
	if r.closed {
		return
	}
	r.closed = true
	if r.hold.over.Load() {
		r.err = ErrTxDone
	} else {
		r.Rows.Close()
		r.err = r.end(typed(r.Rows.Err()))
	}
	if r.seen != nil {
		r.seen(r.err)
	}
}

// read lets fn use the rows while they are open.
func (r *rows) read(fn func() error) error {
	if err := r.hold.use(); err != nil {
		return err
	}
	defer r.hold.done()
	if r.closed {
		return cmp.Or(r.err, errClosedRows)
	}
	return fn()
}

func (r *rows) Next() (more bool) {
	_ = r.read(func() error {
		more = r.Rows.Next()
		if !more {
			r.close()
		}
		return nil
	})
	return more
}

// Scan follows pgx, but fills no *pgtype.DriverBytes: those are the connection's own, in which others' rows follow.
func (r *rows) Scan(dest ...any) error {
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			return fmt.Errorf("%w: *pgtype.DriverBytes are overwritten by what the connection reads next; scan into a *[]byte", ErrRefused)
		}
	}
	return r.read(func() error { return r.closeAfter(r.Rows.Scan(dest...)) })
}

func (r *rows) Values() (values []any, err error) {
	err = r.read(func() error {
		values, err = r.Rows.Values()
		return r.closeAfter(err)
	})
	return values, err
}

// closeAfter closes the rows after an error for which pgx has closed its own.
func (r *rows) closeAfter(err error) error {
	if err != nil && r.Rows.Err() != nil {
		r.close()
	}
	return err
}

// Err returns the error met so far; after Close it includes that of the implicit commit.
func (r *rows) Err() error {
	r.hold.mu.Lock()
	defer r.hold.mu.Unlock()
	if r.closed || r.hold.over.Load() {
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
func (r *rows) FieldDescriptions() (fields []pgconn.FieldDescription) {
	_ = r.read(func() error { fields = slices.Clone(r.Rows.FieldDescriptions()); return nil })
	return fields
}

// RawValues returns copies: the originals are the connection's own, in which others' rows follow.
func (r *rows) RawValues() (values [][]byte) {
	_ = r.read(func() error {
		for _, v := range r.Rows.RawValues() {
			values = append(values, bytes.Clone(v))
		}
		return nil
	})
	return values
}

// TypeMap returns a map of the caller's own, and nil once the rows are closed: that of the connection is everybody's.
func (r *rows) TypeMap() (m *pgtype.Map) {
	_ = r.read(func() error { m = r.session.ownTypes(); return nil })
	return m
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
