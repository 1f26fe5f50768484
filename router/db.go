package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

// DB is the handle of one tenant. It is cheap, holds no connection, and is safe for concurrent use. Each of its statements
// is a transaction of its own; a statement that the connection has prepared costs one round trip in all. It satisfies
// sqlc's DBTX.
type DB struct {
	r   *Router
	id  tenant.ID
	std bool // for database/sql
}

// Tenant returns whose handle this is.
func (db *DB) Tenant() tenant.ID { return db.id }

// Exec runs one statement and returns once it is committed.
func (db *DB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r, err := db.query(ctx, OpExec, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	r.Close()
	return r.CommandTag(), r.Err()
}

// Query runs one statement and returns its rows, which the caller must close; reading them to the end closes them. They
// hold a connection until then, and Err tells only after that whether the statement was committed.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r, err := db.query(ctx, OpQuery, sql, args)
	if err != nil {
		return failedRows(err), err
	}
	return r, nil
}

// QueryRow runs one statement that returns a row. Scan reports its errors, pgx.ErrNoRows if there is none.
func (db *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, err := db.query(ctx, OpQuery, sql, args)
	if err != nil {
		return row{failedRows(err)}
	}
	return row{r}
}

// query runs one statement as a transaction and returns its open rows.
func (db *DB) query(ctx context.Context, op Op, sql string, args []any) (r *rows, err error) {
	verb, err := check(sql)
	ctx, o := db.r.observe(ctx, Call{Op: op, Tenant: db.id, Verb: verb})
	var w way
	err = o.run(func() way { return w }, func() error {
		if err != nil {
			return err
		}
		if sql, args, err = plainArgs(ctx, sql, args); err != nil {
			return err
		}
		if ownTransaction[verb] {
			r, err = db.queryInBlock(ctx, &w, sql, args)
			return err
		}
		conn, ex, err := db.run(ctx, &w, []call{{sql, args, db.std}})
		if err != nil {
			return err
		}
		rr, err := ex.next()
		if err != nil {
			return err
		}
		r = newRows(ex.s, rr, nil, func(err error) error { return end(conn, ex, err) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.seen = func(err error) { o.end(w, err) }
	return r, nil
}

// queryInBlock runs a statement in a transaction block, which the end of its rows commits.
func (db *DB) queryInBlock(ctx context.Context, w *way, sql string, args []any) (*rows, error) {
	tx, err := db.begin(ctx, TxOptions{})
	if err != nil {
		return nil, err
	}
	r, err := tx.send(ctx, sql, args)
	*w = tx.way
	if err != nil {
		return nil, errors.Join(err, tx.rollback(ctx))
	}
	inner := r.end
	r.end = func(err error) error {
		if err = inner(err); err != nil {
			return errors.Join(err, tx.undo(ctx))
		}
		return tx.commitNow(ctx)
	}
	return r, nil
}

// SendBatch runs the batch's statements as one transaction in one packet. The caller must close the results; only Close
// tells whether they were committed.
func (db *DB) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	ctx, o := db.r.observe(ctx, Call{Op: OpBatch, Tenant: db.id})
	var w way
	var results *batchResults
	err := o.run(func() way { return w }, func() error {
		calls, err := batchCalls(ctx, b)
		if err != nil {
			return err
		}
		if len(calls) == 0 {
			results = failedBatch(b, nil)
			return nil
		}
		conn, ex, err := db.run(ctx, &w, calls)
		if err != nil {
			return err
		}
		results = newBatch(b, ex, nil, func(err error) error { return end(conn, ex, err) })
		return nil
	})
	if err != nil {
		return failedBatch(b, err)
	}
	return results.when(func(err error) { o.end(w, err) })
}

// CopyFrom inserts rows and returns how many, with pgx's signature; all of them or none. See Tx.CopyFrom.
func (db *DB) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (n int64, err error) {
	err = db.tx(ctx, OpCopy, TxOptions{}, func(ctx context.Context, tx *Tx) error {
		n, err = tx.copyFrom(ctx, table, columns, src)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// end finishes a single exchange, which met err, and gives its connection back.
func end(conn *pools.Conn, ex *exchange, err error) error {
	return errors.Join(typed(ex.finish(err)), release(conn))
}

// run sends calls as one implicit transaction, in the right place.
func (db *DB) run(ctx context.Context, w *way, calls []call) (conn *pools.Conn, ex *exchange, err error) {
	if err := db.usable(ctx); err != nil {
		return nil, nil, err
	}
	*w, err = db.place(ctx, func(rt *route) error {
		conn, err = db.r.acquire(ctx, rt)
		if err != nil {
			return err
		}
		s := sessionOf(conn)
		returned := false
		defer func() {
			if !returned { // an argument's own code has panicked
				closeNow(s.pg)
				conn.Release()
			}
		}()
		open := enter(rt, nil)
		ex, _, err = s.start(ctx, open, rt.schema, calls)
		if stalePlan(err) { // a schema change since it was prepared: nothing ran, and now it is forgotten
			ex, _, err = s.start(ctx, open, rt.schema, calls)
		}
		returned = true
		if err != nil {
			return errors.Join(err, release(conn))
		}
		return nil
	})
	return conn, ex, err
}

// usable refuses a handle of no tenant, of another tenant than the context's, or inside an open Tx.
func (db *DB) usable(ctx context.Context) error {
	if db.id.IsZero() {
		return ErrNoTenant
	}
	if err := agree(ctx, db.id); err != nil {
		return err
	}
	return db.r.notInTx(ctx)
}

// agree refuses a context that carries another tenant than id.
func agree(ctx context.Context, id tenant.ID) error {
	if on, ok := tenant.FromContext(ctx); ok && on != id {
		return &tenant.ConflictError{Have: on, Given: id}
	}
	return nil
}

// place calls try with the tenant's route, and again with a fresh one for as long as the home says that nothing ran and
// another try may help, up to Config.MoveWait after the first, or Config.SchemaWait where the home is behind.
func (db *DB) place(ctx context.Context, try func(*route) error) (w way, err error) {
	rt, err := db.r.resolve(ctx, db.id)
	if err != nil {
		return way{}, err
	}
	var first time.Time
	pause, newest := 2*time.Millisecond, int64(0)
	for ; ; w.retries++ {
		w.route, newest = rt, max(newest, rt.entry.Epoch)
		err := try(rt)
		if err == nil {
			return w, nil
		}
		if first.IsZero() {
			first = time.Now()
		}
		var refused *refusal
		if !errors.As(err, &refused) { // something has run, or might have
			return w, typed(err)
		}
		moved := refused.transient()
		wait, longest := db.r.cfg.MoveWait, 100*time.Millisecond
		switch {
		case refused.behind(): // the catalog cannot help
			wait, longest = db.r.cfg.SchemaWait, 500*time.Millisecond
		case !moved && !errors.Is(err, ErrHomeDown) && !errors.Is(err, ErrWrongDatabase):
			return w, typed(err)
		case refused.waits(): // nobody knows better than the home when that is over, and where the tenant is then
		default:
			if next := db.r.cache.follow(ctx, db.id, rt, err, newest); next != nil {
				rt = next
				continue
			}
			next, changed, reloadErr := db.r.cache.reload(ctx, db.id, rt)
			if reloadErr != nil {
				return w, reloadErr
			}
			if changed { // however long it took: the way is known now
				rt = next
				continue
			}
			if !moved {
				return w, typed(err)
			}
		}
		if time.Since(first) >= wait {
			return w, typed(err)
		}
		db.r.log.DebugContext(ctx, "tenant is not open at its home, trying again", "tenant", db.id, "home", rt.entry.Home, "error", err)
		select {
		case <-time.After(pause + rand.N(pause)):
		case <-ctx.Done():
			return w, fmt.Errorf("%w while waiting: %w", ctx.Err(), typed(err))
		}
		pause = min(2*pause, longest)
	}
}

// asAskedSQL runs what opens the door, if the transaction began as it was asked to. An earlier one may have changed the
// session's defaults, which act before the reset can undo it: such a session is told from a good one by its defaults, which
// are what they should be again when this runs. $1 and $2 are the isolation level and the access mode as asked for, null for
// the default.
const asAskedSQL = `
select case when pg_catalog.current_setting('transaction_isolation')
                 = coalesce($1, pg_catalog.current_setting('default_transaction_isolation'))
             and (pg_catalog.current_setting('transaction_read_only')
                  = coalesce($2, pg_catalog.current_setting('default_transaction_read_only'))
                  or pg_catalog.pg_is_in_recovery())
             and pg_catalog.current_setting('transaction_deferrable')
                 = pg_catalog.current_setting('default_transaction_deferrable')
            then %s
            else landlord.no_tenant() end`

// enterSQL is isolation.EnterSQL, after a look at how the transaction began.
var enterSQL = fmt.Sprintf(asAskedSQL, "landlord.enter($3, $4, $5, $6, $7, $8)")

// pathSQL sets a schema home's search_path. Unlike SET LOCAL it raises no warning in an implicit transaction.
const pathSQL = `select pg_catalog.set_config('search_path', $1, true)`

// enter is the opening of a tenant's transaction; opts is nil for an implicit one.
func enter(rt *route, opts *TxOptions) *opening {
	open := &opening{enter: enterSQL, demand: rt.demand}
	if opts != nil {
		open.begin = beginSQL(*opts)
	}
	stated := opts.stated()
	open.params = func(s *session) [][]byte {
		return append(stated, s.sealer.Params(rt.entry, s.backend(), s.serverTime())...)
	}
	if rt.schema != "" {
		open.path = pgx.Identifier{rt.schema}.Sanitize() + ", extensions, pg_temp"
	}
	return open
}

// release gives a connection back to its pool, which destroys it unless it is open and idle. One that is not, although
// every call has ended, is reported: something has gone round the router.
func release(conn *pools.Conn) error {
	pg := conn.PgConn()
	dirty := !pg.IsClosed() && (pg.IsBusy() || pg.TxStatus() != 'I')
	conn.Release()
	if dirty {
		return ErrDirty
	}
	return nil
}
