package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

// rollbackTimeout bounds a roll-back, which goes on when the caller's context has ended.
const rollbackTimeout = 5 * time.Second

// TxOptions of a transaction. The zero value is PostgreSQL's default: read committed, read-write.
type TxOptions struct {
	Isolation pgx.TxIsoLevel // empty: the server's default
	ReadOnly  bool           // goes on while a move drains the tenant's writers
}

func (o TxOptions) validate() error {
	switch o.Isolation {
	case "", pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted:
		return nil
	}
	return fmt.Errorf("%w: isolation level %q: use serializable, repeatable read or read committed", ErrRefused, o.Isolation)
}

// stated returns the first parameters of asAskedSQL: what beginSQL says, nil for what it leaves to the defaults. A nil o is
// an implicit transaction.
func (o *TxOptions) stated() [][]byte {
	params := make([][]byte, 2, 8)
	if o != nil && o.Isolation != "" {
		params[0] = []byte(o.Isolation)
	}
	if o != nil && o.ReadOnly {
		params[1] = []byte("on")
	}
	return params
}

// Tx is an open transaction of one tenant. It is for one goroutine, until its callback returns. It satisfies sqlc's DBTX
// and leads to no connection.
type Tx struct {
	r      *Router
	tenant tenant.ID // none: work across tenants
	opts   TxOptions
	place  func(context.Context, func(*route) error) (way, error) // calls back until the transaction is open in the right place
	get    func(context.Context, *route) (*pools.Conn, error)
	open   func(*route, *TxOptions) *opening
	conn   *pools.Conn // nil until the first statement
	s      *session    // of conn
	schema string
	way    way
	opened bool
	std    bool // for database/sql
	hold   hold
	points int // savepoints made so far
}

// Tx runs fn in a transaction and commits it when fn returns nil. An error or a panic of fn rolls it back and is passed on.
// Begin, the tenant's opening and the first statement travel together; if the tenant has moved meanwhile, the router opens
// it at its new home unseen. fn must use the context that it is given, and must not keep the Tx.
//
// The error is fn's, or says why nothing was committed, except for ErrOutcomeUnknown.
func (db *DB) Tx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return db.TxWith(ctx, TxOptions{}, fn)
}

// TxWith is Tx with options.
func (db *DB) TxWith(ctx context.Context, opts TxOptions, fn func(ctx context.Context, tx *Tx) error) error {
	return db.tx(ctx, OpTx, opts, fn)
}

// tx runs fn in a transaction that counts as one call.
func (db *DB) tx(ctx context.Context, op Op, opts TxOptions, fn func(context.Context, *Tx) error) error {
	ctx, o := db.r.observe(ctx, Call{Op: op, Tenant: db.id})
	tx, err := db.begin(ctx, opts)
	if err != nil {
		o.end(way{}, err)
		return err
	}
	return tx.do(ctx, o, fn)
}

// begin returns a transaction of which nothing has been sent yet.
func (db *DB) begin(ctx context.Context, opts TxOptions) (*Tx, error) {
	if err := errors.Join(opts.validate(), db.usable(ctx)); err != nil {
		return nil, err
	}
	return &Tx{
		r:      db.r,
		tenant: db.id,
		opts:   opts,
		place:  db.place,
		get: func(ctx context.Context, rt *route) (*pools.Conn, error) {
			return db.r.acquire(ctx, rt)
		},
		open: enter,
		std:  db.std,
	}, nil
}

// do runs fn in tx and ends it, and with it the call that it is.
func (tx *Tx) do(ctx context.Context, o observed, fn func(context.Context, *Tx) error) (err error) {
	returned := false
	defer func() {
		if !returned { // a panic, or the goroutine's exit, goes on after this
			_ = tx.rollback(ctx)
			err = errPanic
		}
		o.end(tx.way, err)
	}()
	err = fn(context.WithValue(ctx, inTx{tx.r}, tx), tx)
	returned = true
	if err != nil {
		return errors.Join(err, tx.rollback(ctx))
	}
	return tx.commit(ctx)
}

// errPanic is how a transaction ends, for a tracer, whose callback did not return.
var errPanic = errors.New("the callback did not return")

// inTx is the context key under which a router's open Tx stands.
type inTx struct{ r *Router }

// notInTx refuses a context on which a Tx of r is open.
func (r *Router) notInTx(ctx context.Context) error {
	if tx, ok := ctx.Value(inTx{r}).(*Tx); ok && !tx.hold.over.Load() {
		return ErrInTx
	}
	return nil
}

// Exec runs one statement.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r, err := tx.traced(ctx, OpExec, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return r.CommandTag(), r.Err()
}

// Query runs one statement and returns its rows, which the caller must close before the next statement.
func (tx *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r, err := tx.traced(ctx, OpQuery, sql, args)
	if err != nil {
		return failedRows(err), err
	}
	return r, nil
}

// QueryRow runs one statement that returns a row. Scan reports its errors, pgx.ErrNoRows if there is none.
func (tx *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, err := tx.traced(ctx, OpQuery, sql, args)
	if err != nil {
		return row{failedRows(err)}
	}
	return row{r}
}

// SendBatch runs the batch's statements in one packet. The caller must close the results before the next statement.
func (tx *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	ctx, o, before := tx.trace(ctx, OpBatch, "")
	var results *batchResults
	err := o.run(func() way { return tx.since(before) }, func() error {
		calls, err := batchCalls(ctx, b)
		if err != nil {
			return err
		}
		if len(calls) == 0 {
			results = failedBatch(b, nil)
			return nil
		}
		if err := tx.hold.use(); err != nil {
			return err
		}
		defer tx.hold.done()
		ex, err := tx.start(ctx, calls)
		if err != nil {
			return err
		}
		results = newBatch(b, ex, &tx.hold, func(err error) error { return tx.end(ex, err) })
		return nil
	})
	if err != nil {
		return failedBatch(b, err)
	}
	return results.when(func(err error) { o.end(tx.since(before), err) })
}

// checked runs one statement, OpExec to its end: a commit on another goroutine comes before it or after it.
func (tx *Tx) checked(ctx context.Context, op Op, sql string, args []any) (*rows, error) {
	if _, err := check(sql); err != nil {
		return nil, err
	}
	sql, args, err := plainArgs(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	if err := tx.hold.use(); err != nil {
		return nil, err
	}
	defer tx.hold.done()
	r, err := tx.send(ctx, sql, args)
	if err == nil && op == OpExec {
		r.close()
	}
	return r, err
}

// send sends one statement, for who uses the connection.
func (tx *Tx) send(ctx context.Context, sql string, args []any) (*rows, error) {
	ex, err := tx.start(ctx, []call{{sql, args, tx.std}})
	if err != nil {
		return nil, err
	}
	rr, err := ex.next()
	if err != nil {
		return nil, err
	}
	return newRows(ex.s, rr, &tx.hold, func(err error) error { return tx.end(ex, err) }), nil
}

// start sends calls, opening the transaction in front of the first ones.
func (tx *Tx) start(ctx context.Context, calls []call) (ex *exchange, err error) {
	if !tx.tenant.IsZero() {
		if err := agree(ctx, tx.tenant); err != nil {
			return nil, err
		}
	}
	if tx.opened {
		ex, _, err = tx.s.start(ctx, nil, tx.schema, calls)
		return ex, typed(tx.status(err))
	}
	tx.way, err = tx.place(ctx, func(rt *route) error {
		conn, err := tx.get(ctx, rt)
		if err != nil {
			return err
		}
		s := sessionOf(conn)
		returned := false
		defer func() {
			if !returned { // an argument's own code has panicked
				tx.opened = false
				closeNow(s.pg)
				conn.Release()
			}
		}()
		open := tx.open(rt, &tx.opts)
		ex, tx.opened, err = s.start(ctx, open, rt.schema, calls)
		if tx.opened && stalePlan(err) { // nothing else ran yet: begin again, with the statement forgotten
			if err = s.pg.Exec(ctx, "rollback").Close(); err == nil {
				ex, tx.opened, err = s.start(ctx, open, rt.schema, calls)
			}
		}
		returned = true
		if !tx.opened {
			return errors.Join(err, release(conn))
		}
		tx.conn, tx.s, tx.schema = conn, s, rt.schema
		return err
	})
	if tx.opened {
		err = tx.status(err)
	}
	return ex, typed(err)
}

// end finishes an exchange of tx, which met err.
func (tx *Tx) end(ex *exchange, err error) error { return typed(tx.status(ex.finish(err))) }

// status checks that the connection still is in the transaction. If it is not, somebody has ended it under the router: the
// connection is destroyed.
func (tx *Tx) status(err error) error {
	pg := tx.s.pg
	if tx.hold.over.Load() || pg.IsClosed() || pg.IsBusy() || pg.TxStatus() != 'I' {
		return err
	}
	tx.hold.over.Store(true)
	tx.destroy()
	return errors.Join(err, ErrDirty)
}

// commit ends the transaction. Where nothing was sent there is nothing to commit. A statement that another goroutine has
// under way is waited for.
func (tx *Tx) commit(ctx context.Context) error {
	tx.hold.mu.Lock()
	defer tx.hold.mu.Unlock()
	return tx.commitNow(ctx)
}

// commitNow is commit for who uses the connection already.
func (tx *Tx) commitNow(ctx context.Context) error {
	over := tx.hold.over.Swap(true)
	switch {
	case !tx.opened:
		return nil
	case over: // the callback has passed over the error that said so
		return fmt.Errorf("commit: %w", ErrDirty)
	case tx.s.pg.IsBusy():
		tx.destroy()
		return fmt.Errorf("commit: %w: close the rows of every query before the callback returns", ErrDirty)
	case tx.s.pg.IsClosed():
		tx.conn.Release()
		return fmt.Errorf("commit: %w", ErrRolledBack)
	}
	results, err := tx.s.pg.Exec(ctx, "commit").ReadAll()
	switch {
	case err == nil && len(results) == 1 && results[0].CommandTag.String() == "ROLLBACK":
		err = ErrRolledBack
	case err == nil:
	case tx.s.pg.IsClosed():
		err = fmt.Errorf("commit: %w", unknown(err))
	case pgconn.SafeToRetry(err): // ctx has ended, and nothing was sent: roll back, and that is certain
		tx.hold.over.Store(false)
		return errors.Join(fmt.Errorf("commit: %w", err), tx.undo(ctx))
	default:
		err = fmt.Errorf("commit: %w", typed(err))
	}
	return errors.Join(err, release(tx.conn))
}

// rollback ends the transaction without its effects, also when ctx has ended. A connection that cannot is destroyed, which
// rolls back too.
func (tx *Tx) rollback(ctx context.Context) error {
	tx.hold.mu.Lock()
	defer tx.hold.mu.Unlock()
	return tx.undo(ctx)
}

// undo is rollback for who uses the connection already.
func (tx *Tx) undo(ctx context.Context) error {
	if tx.hold.over.Swap(true) || !tx.opened {
		return nil
	}
	pg := tx.s.pg
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if pg.IsClosed() || pg.IsBusy() || pg.Exec(ctx, "rollback").Close() != nil {
		tx.destroy()
		return nil
	}
	return release(tx.conn)
}

// destroy closes the connection instead of giving it back, which also rolls back.
func (tx *Tx) destroy() {
	defer tx.conn.Release() // whatever pgconn does
	closeNow(tx.s.pg)
}

// closeNow closes a connection that must not be used again.
func closeNow(pg *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = pg.Close(ctx)
}

// beginSQL is the statement that begins a transaction with these options.
func beginSQL(o TxOptions) string {
	var b strings.Builder
	b.WriteString("begin")
	if o.Isolation != "" {
		b.WriteString(" isolation level " + string(o.Isolation))
	}
	if o.ReadOnly {
		b.WriteString(" read only")
	}
	return b.String()
}
