package chunk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/table"
)

// work copies chunks until there are no more.
func (c *copier) work(ctx context.Context, jobs <-chan job) error {
	return c.open(ctx, func(source, target *pgx.Conn) error {
		switch {
		case c.SameDatabase:
			return c.each(ctx, jobs, func(j job, e *entry) (Progress, error) { return c.insert(ctx, target, j, e) })
		case c.pace != nil:
			return c.each(ctx, jobs, func(j job, e *entry) (Progress, error) { return c.carry(ctx, source, target, j, e) })
		}
		// The source sends the next chunk while the target is not done with this one.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sent, gone, ended := make(chan *sending, 1), make(chan struct{}), make(chan error, 1)
		go func() {
			defer close(sent)
			ended <- c.sendAll(ctx, source, jobs, sent, gone)
		}()
		err := c.receiveAll(ctx, target, sent)
		close(gone)
		cancel()
		if failed := <-ended; err == nil || failed != nil && !errors.Is(failed, errAbandoned) && !errors.Is(failed, context.Canceled) {
			return failed // the target was told of it, and its error only repeats it
		}
		return err
	})
}

// next is the next chunk to be copied; false: there is none.
func (c *copier) next(ctx context.Context, jobs <-chan job) (job, bool, error) {
	for {
		select {
		case <-ctx.Done():
			return job{}, false, ctx.Err()
		case j, ok := <-jobs:
			if !ok || j.anew || c.divided(j.division) {
				return j, ok, nil
			}
		}
	}
}

// written counts a chunk that the target has, or says why it has not. A table whose rows are entangled is left to be copied anew.
func (c *copier) written(j job, rows, bytes int64, gone Progress, err error) error {
	switch {
	case err == nil:
		c.add(Progress{Rows: rows - gone.Rows, Bytes: bytes - gone.Bytes})
		return nil
	case entangled(err) && !j.bounds.all():
		c.unite(j.division)
		return nil
	default:
		return j.failed(conflict(j.pair, err))
	}
}

func (j job) failed(err error) error {
	if j.anew {
		return fmt.Errorf("table %s, anew as one chunk: %w", j.pair.Source.Name, err)
	}
	return fmt.Errorf("chunk %d of table %s: %w", j.n, j.pair.Source.Name, err)
}

// sending is a chunk on its way from one server to the other.
type sending struct {
	job
	rows  rows
	pipe  *pipe
	entry entry // the snapshot is there when the pipe has ended
}

// sendAll has the source send chunks until there are no more, and hands out each when it begins. Nobody receives any more once gone is
// closed.
func (c *copier) sendAll(ctx context.Context, source *pgx.Conn, jobs <-chan job, sent chan<- *sending, gone <-chan struct{}) error {
	for {
		j, ok, err := c.next(ctx, jobs)
		if !ok {
			return err
		}
		s := &sending{job: j, pipe: newPipe(gone), entry: entry{n: j.n, bounds: j.bounds}, rows: rowsOf(j.pair, j.bounds)}
		select {
		case sent <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
		err = c.view(ctx, source, reading, &s.entry, func(pgx.Tx) error {
			_, err := source.PgConn().CopyTo(ctx, s.pipe, s.rows.out())
			return err
		})
		s.pipe.finish(err)
		if err != nil {
			return j.failed(fmt.Errorf("read from the source: %w", err))
		}
	}
}

// receiveAll writes chunks to the target until there are no more.
func (c *copier) receiveAll(ctx context.Context, target *pgx.Conn, sent <-chan *sending) error {
	for s := range sent {
		var gone Progress
		err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) (err error) {
			if gone, err = c.prepare(ctx, tx, s.job); err != nil {
				return err
			}
			tag, err := target.PgConn().CopyFrom(ctx, s.pipe, s.rows.into())
			if err != nil {
				return fmt.Errorf("write to the target: %w", err)
			}
			s.entry.rows, s.entry.bytes = tag.RowsAffected(), s.pipe.bytes
			return s.entry.write(ctx, tx, c.Move, s.pair.Source.Name)
		})
		if err = c.written(s.job, s.entry.rows, s.entry.bytes, gone, err); err != nil {
			return err
		}
		s.pipe.drain() // of a chunk that the target would not have
	}
	return nil
}

// each copies one chunk after the other until there are no more.
func (c *copier) each(ctx context.Context, jobs <-chan job, copyChunk func(job, *entry) (gone Progress, err error)) error {
	for {
		j, ok, err := c.next(ctx, jobs)
		if !ok {
			return err
		}
		e := entry{n: j.n, bounds: j.bounds}
		gone, err := copyChunk(j, &e)
		if err := c.written(j, e.rows, e.bytes, gone, err); err != nil {
			return err
		}
	}
}

// insert copies within a database. The snapshot is the writing transaction's own.
func (c *copier) insert(ctx context.Context, conn *pgx.Conn, j job, e *entry) (gone Progress, err error) {
	for {
		err = c.view(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, e, func(tx pgx.Tx) error {
			if gone, err = c.prepare(ctx, tx, j); err != nil {
				return err
			}
			if e.rows, err = c.insertRows(ctx, conn, j); err != nil {
				return err
			}
			e.bytes = e.rows * j.width
			return e.write(ctx, tx, c.Move, j.pair.Source.Name)
		})
		if !pgerr.Is(err, pgerr.SerializationFailure) { // the fence has just changed hands: look again
			return gone, err
		}
	}
}

// insertRows inserts a chunk's rows, if there is a pace by steps.
func (c *copier) insertRows(ctx context.Context, conn *pgx.Conn, j job) (rows int64, err error) {
	columns, values := lists(j.pair, true)
	for left, last := j.bounds, false; !last; {
		part := left
		if c.pace != nil {
			if part.hi, err = bound(ctx, conn, j.pair, left, c.rowsInStep(j.width)); err != nil {
				return 0, err
			}
		}
		if last = c.pace == nil || part.hi == nil; last {
			part.hi = left.hi
		}
		tag, err := conn.Exec(ctx, fmt.Sprintf("insert into %s (%s) overriding system value select %s from %s where %s",
			j.pair.Target.SQL(), columns, values, j.pair.Source.From(), part.where(j.pair)), pgx.QueryExecModeExec)
		if err != nil {
			return 0, err
		}
		rows += tag.RowsAffected()
		if c.pace != nil {
			if err := c.pace.pay(ctx, tag.RowsAffected()*j.width); err != nil {
				return 0, err
			}
		}
		left.lo = part.hi
	}
	return rows, nil
}

// prepare makes the transaction ready for the chunk's rows.
func (c *copier) prepare(ctx context.Context, tx pgx.Tx, j job) (gone Progress, err error) {
	if err := c.Fence.check(ctx, tx); err != nil || !j.anew {
		return gone, err
	}
	return c.forget(ctx, tx, j.pair)
}

// snapshotPause is how long a snapshot that is too early is left alone.
const snapshotPause = 10 * time.Millisecond

// reading is a transaction of one snapshot.
var reading = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// view runs fn in a transaction of conn whose snapshot is in e, and which sees all that was written before the stream began. A
// transaction may have committed and still count as running: the snapshot is taken again until there is none of those.
func (c *copier) view(ctx context.Context, conn *pgx.Conn, opts pgx.TxOptions, e *entry, fn func(pgx.Tx) error) error {
	for {
		early := false
		err := pgx.BeginTxFunc(ctx, conn, opts, func(tx pgx.Tx) error {
			var text string
			err := tx.QueryRow(ctx, `select pg_current_snapshot()::text`).Scan(&text)
			if err != nil {
				return err
			}
			if e.snapshot, err = parseSnapshot(text); err != nil {
				return err
			}
			if early = e.snapshot.xmin < c.Since; early {
				return nil
			}
			return fn(tx)
		})
		if err != nil || !early {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(snapshotPause):
		}
	}
}

// check locks the fence's row until the end of the transaction, so that whoever takes over waits for it.
func (f Fence) check(ctx context.Context, tx pgx.Tx) error { return f.lock(ctx, tx, "share") }

// outlast waits for the end of what an earlier copy of the same owner was writing when it died: the server may be about to commit its
// last chunk, which nobody has been told of. Who could still commit has had its answer to check, and holds the row.
func (f Fence) outlast(ctx context.Context, target *pgx.Conn) error {
	return pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return f.lock(ctx, tx, "update") })
}

func (f Fence) lock(ctx context.Context, tx pgx.Tx, strength string) error {
	const q = `
select true from landlord.fence where tenant = $1 and home = $2 and state = 'importing' and owner = $3 for `
	var ok bool
	err := tx.QueryRow(ctx, q+strength, f.Tenant, f.Home, f.Owner).Scan(&ok)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFencedOff
	}
	return err
}

// clearBatch is how many rows of a target that was filled before one transaction removes.
const clearBatch = 5000

// clear removes what the target has of the tenant's rows in a table of which nothing is copied yet: those that an earlier copy, whose
// ledger is gone, has left, and those that migrations put into every new home.
func (c *copier) clear(ctx context.Context, target *pgx.Conn, p table.Pair) error {
	q := fmt.Sprintf(`
with doomed as materialized (select tableoid as part, ctid as row from %[1]s where %[2]s limit %[3]d)
delete from %[1]s t using doomed where t.ctid = doomed.row and t.tableoid = doomed.part`,
		p.Target.From(), p.Target.Whose(p.Tenant), clearBatch)
	for {
		var n int64
		err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
			if err := c.Fence.check(ctx, tx); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, q, pgx.QueryExecModeExec)
			n = tag.RowsAffected()
			return err
		})
		if err != nil || n < clearBatch {
			return err
		}
	}
}

// lists are the target's columns that are written and what the source has for them. Within one database the values of a home's own
// types are those of another type than the other home's of that name, and go there by their text.
func lists(p table.Pair, within bool) (columns, values string) {
	var names, terms []string
	if p.TenantColumn == table.Added {
		names, terms = append(names, table.TenantID), append(terms, p.Target.Tenant(p.Tenant))
	}
	for _, name := range p.Columns {
		source, _ := p.Source.Column(name)
		target, _ := p.Target.Column(name)
		term := table.Quoted([]string{name}, "")
		if within && source.Cast != target.Cast {
			term += "::text::" + target.Cast
		}
		names, terms = append(names, name), append(terms, term)
	}
	return table.Quoted(names, ""), strings.Join(terms, ", ")
}

// rows are those of a chunk, on their way from one server to the other.
type rows struct {
	query  string // yields them
	table  string // and columns, where they go
	binary bool
}

// rowsOf are sent in binary form if they can be: it is smaller, and nothing is lost in writing it down.
func rowsOf(p table.Pair, b bounds) rows {
	columns, values := lists(p, false)
	return rows{
		query: fmt.Sprintf("select %s from %s where %s", values, p.Source.From(), b.where(p)),
		table: fmt.Sprintf("%s (%s)", p.Target.SQL(), columns),
		binary: !slices.ContainsFunc(p.Columns, func(name string) bool {
			s, _ := p.Source.Column(name)
			t, _ := p.Target.Column(name)
			return !s.Binary || !t.Binary
		}),
	}
}

// out and into are the statements that copy them out of the source and into the target.
func (r rows) out() string { return fmt.Sprintf("copy (%s) to stdout (format %s)", r.query, r.form()) }

func (r rows) into() string { return fmt.Sprintf("copy %s from stdin (format %s)", r.table, r.form()) }

func (r rows) form() string {
	if r.binary {
		return "binary"
	}
	return "text"
}

// end closes a session. What it did is over.
func end(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
