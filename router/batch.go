package router

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// batchCalls returns the statements of b, each of them checked.
func batchCalls(ctx context.Context, b *pgx.Batch) ([]call, error) {
	calls := make([]call, 0, b.Len())
	for i, q := range b.QueuedQueries {
		verb, err := check(q.SQL)
		if err == nil && verb == "call" {
			err = fmt.Errorf("%w: CALL in a batch: a procedure could commit in it", ErrRefused)
		}
		if err != nil {
			return nil, fmt.Errorf("statement %d of the batch: %w", i+1, err)
		}
		sql, args, err := plainArgs(ctx, q.SQL, q.Arguments)
		if err != nil {
			return nil, fmt.Errorf("statement %d of the batch: %w", i+1, err)
		}
		calls = append(calls, call{sql: sql, args: args})
	}
	return calls, nil
}

// batchResults reads a batch's answers in order. It follows pgx.BatchResults.
type batchResults struct {
	batch  *pgx.Batch
	ex     *exchange
	hold   *hold
	own    hold              // of results that hold their connection by themselves
	end    func(error) error // ends the exchange; gets and returns the batch's error
	seen   func(error)       // what else is to know how the batch ended; may be nil
	at     int               // of the next query
	open   *rows             // of the last Query
	err    error             // the first one met
	closed bool
}

// newBatch returns the results of ex, on a connection of h's, or of their own where h is nil.
func newBatch(b *pgx.Batch, ex *exchange, h *hold, end func(error) error) *batchResults {
	r := &batchResults{batch: b, ex: ex, hold: h, end: end}
	if h == nil {
		r.hold = &r.own
	}
	return r
}

// failedBatch is that of a batch that never ran.
func failedBatch(b *pgx.Batch, err error) *batchResults {
	r := &batchResults{batch: b, err: err, closed: true}
	r.hold = &r.own
	return r
}

// when has fn told how the batch ended.
func (b *batchResults) when(fn func(error)) *batchResults {
	if b.closed {
		fn(b.err)
	} else {
		b.seen = fn
	}
	return b
}

// Exec reads the answer of the next statement.
func (b *batchResults) Exec() (pgconn.CommandTag, error) {
	if err := b.hold.use(); err != nil {
		return pgconn.CommandTag{}, err
	}
	defer b.hold.done()
	rr, err := b.next()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := rr.Close()
	return tag, b.keep(err)
}

// Query reads the rows of the next statement.
func (b *batchResults) Query() (pgx.Rows, error) {
	if err := b.hold.use(); err != nil {
		return failedRows(err), err
	}
	defer b.hold.done()
	rr, err := b.next()
	if err != nil {
		return failedRows(err), err
	}
	b.open = newRows(b.ex.s, rr, b.hold, b.keep)
	return b.open, nil
}

// QueryRow reads the row of the next statement.
func (b *batchResults) QueryRow() pgx.Row {
	r, err := b.Query()
	if err != nil {
		return row{failedRows(err)}
	}
	return row{r}
}

// Close reads what is left, runs the callbacks of queries not read yet, and tells whether all has succeeded.
func (b *batchResults) Close() error {
	defer b.finish() // also when a callback panics
	for b.more() {
		if fn := b.batch.QueuedQueries[b.at].Fn; fn != nil {
			b.failed(fn(b))
		} else {
			_, _ = b.Exec()
		}
	}
	b.finish()
	return b.err
}

// more tells whether an answer is left to read.
func (b *batchResults) more() bool {
	b.hold.mu.Lock()
	defer b.hold.mu.Unlock()
	return !b.closed && b.err == nil && b.at < len(b.batch.QueuedQueries) && !b.hold.over.Load()
}

// failed keeps the error of a callback, which used the results by itself.
func (b *batchResults) failed(err error) {
	b.hold.mu.Lock()
	defer b.hold.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *batchResults) finish() {
	b.hold.mu.Lock()
	defer b.hold.mu.Unlock()
	b.closeOpen()
	switch {
	case b.closed:
		return
	case b.hold.over.Load(): // the connection serves others
		b.err = cmp.Or(b.err, ErrTxDone)
	default:
		b.err = b.end(b.err)
	}
	b.closed = true
	if b.seen != nil {
		b.seen(b.err)
	}
}

// Tx returns nil: a batch that begins a transaction is refused.
func (b *batchResults) Tx() pgx.Tx { return nil }

func (b *batchResults) next() (*pgconn.ResultReader, error) {
	b.closeOpen()
	switch {
	case b.err != nil:
		return nil, b.err
	case b.closed:
		return nil, fmt.Errorf("read a batch's results: %w", ErrTxDone)
	}
	b.at++
	rr, err := b.ex.next()
	return rr, b.keep(err)
}

func (b *batchResults) closeOpen() {
	if b.open != nil {
		b.open.close()
		b.open = nil
	}
}

// keep types err and remembers the first one.
func (b *batchResults) keep(err error) error {
	err = typed(b.ex.settle(err))
	if b.err == nil {
		b.err = err
	}
	return err
}
