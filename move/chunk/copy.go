// Package chunk copies a tenant's rows in pieces, each of which is either at the target with its entry in the ledger, or not there
// at all: a copy that was killed goes on at the next piece.
//
// Every chunk is read in a snapshot of its own, which stands in the ledger. So it can be told of every change in the stream whether
// the copy has brought it already, exactly and in whatever order things happened, without a lock and without a transaction that
// lasts as long as the copy. Nothing is written at the target but while its fence says that the caller is filling it.
//
// What is copied is left to package table, changes to package follow, and the slot that keeps them, made before, to the caller.
package chunk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/move/table"
)

// ErrFencedOff reports a target that the caller does not fill any more: another process has taken over, or the move is over there.
// Nothing was written.
var ErrFencedOff = errors.New("the target is filled by somebody else")

// Config of a copy. All but Workers, Size, Rate, Since and Progress are required.
type Config struct {
	Move  string // uuid, under which the ledger is kept
	Pairs []table.Pair
	// Source and Target open sessions that nobody else uses, with row_security off, no time-outs of statements and idleness, and
	// BYPASSRLS. The target's may set session_replication_role. They are closed before Copy returns.
	Source, Target func(context.Context) (*pgx.Conn, error)
	// SameDatabase says that both lead to one database: rows then go from table to table.
	SameDatabase bool
	Fence        Fence
	// Since is the transaction id at which the stream's slot was known to be there: of every transaction from it on, the stream has
	// all changes. 0: there is no stream.
	Since   uint64
	Workers int   // chunks that are written at once, while the next of each worker is read; default: 1
	Size    int64 // bytes of a chunk, roughly; default: 16 MiB
	// Rate is how many bytes a second all workers together bring over at most, as they are sent, and within one database as the rows
	// lie in the table. They go by small steps then, so that nobody beside them waits for long. 0: as many as they can.
	Rate     int64
	Progress func(Progress) // called after each chunk, one call at a time; nil: nobody listens
}

// Fence is the target's row that must stand, in state importing, for anything to be written.
type Fence struct {
	Tenant, Home string
	Owner        string // uuid of the caller
}

// Progress is how much of a copy is done, also by those who died over it. It falls when a table is begun anew.
type Progress struct {
	Rows, Bytes int64
}

const defaultSize = 16 << 20

// Copy brings every row of the pairs' tables that is the tenant's to the target, chunk by chunk. Where the ledger has none of a
// table, what the target has of the tenant's rows there is removed first. Where chunks of a table have the same value of a unique
// key, which has gone from row to row meanwhile, the table is begun anew as one chunk. It returns what is there, also when it fails;
// the same call again goes on. A copy that is complete is nothing to do. [ErrFencedOff] ends it for good, a [*ConflictError] until
// somebody has seen to the row that is in the way.
func Copy(ctx context.Context, cfg Config) (Progress, error) {
	c := &copier{Config: cfg}
	c.Workers, c.Size = cmp.Or(cfg.Workers, 1), cmp.Or(cfg.Size, defaultSize)
	if cfg.Rate > 0 {
		c.hold(cfg.Rate)
	}
	if err := c.run(ctx); err != nil {
		return c.done, fmt.Errorf("copy the tenant's rows: %w", err)
	}
	return c.done, nil
}

type copier struct {
	Config
	pace *pace
	mu   sync.Mutex // guards done, anew and divisions, and Progress being called once at a time
	done Progress
	anew []job // tables that are to be copied as one chunk when all chunks are copied
}

// job is a chunk to be copied.
type job struct {
	*division
	n      int
	bounds bounds
	anew   bool // what was copied of the table goes first
}

func (c *copier) run(ctx context.Context) error {
	if err := c.share(ctx, c.Workers, c.plan); err != nil || len(c.anew) == 0 {
		return err
	}
	return c.share(ctx, 1, func(ctx context.Context, jobs chan<- job) error {
		for _, j := range c.anew {
			if err := give(ctx, jobs, j); err != nil {
				return err
			}
		}
		return nil
	})
}

// share has workers do what plan hands out.
func (c *copier) share(ctx context.Context, workers int, plan func(context.Context, chan<- job) error) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	group.Go(func() error {
		defer close(jobs)
		return plan(ctx, jobs)
	})
	for range workers {
		group.Go(func() error { return c.work(ctx, jobs) })
	}
	return group.Wait()
}

// give hands out a job.
func give(ctx context.Context, jobs chan<- job, j job) error {
	select {
	case jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add counts what has come to the target.
func (c *copier) add(p Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Rows += p.Rows
	c.done.Bytes += p.Bytes
	if c.Progress != nil {
		c.Progress(c.done)
	}
}

// forms are the ways in which money and xml are written down, which otherwise are a server's, a database's or a login's own.
const forms = `set lc_monetary = 'C'; set xmloption = content`

// open opens a session at the source and one at the target and closes them when fn is over.
func (c *copier) open(ctx context.Context, fn func(source, target *pgx.Conn) error) error {
	source, err := c.Source(ctx)
	if err != nil {
		return err
	}
	defer end(ctx, source)
	target, err := c.Target(ctx)
	if err != nil {
		return err
	}
	defer end(ctx, target)
	if len(c.Pairs) > 0 {
		if err := setPath(ctx, source, c.Pairs[0].Source); err != nil {
			return err
		}
		if err := setPath(ctx, target, c.Pairs[0].Target); err != nil {
			return err
		}
	}
	for _, conn := range []*pgx.Conn{source, target} {
		if _, err := conn.Exec(ctx, forms); err != nil {
			return err
		}
	}
	// Rows come in whatever order: foreign keys would be in the way, and triggers have run where the rows were written.
	if _, err := target.Exec(ctx, `set session_replication_role = replica`); err != nil {
		return err
	}
	return fn(source, target)
}

// setPath puts the home's schema in front, as for the application: constraints and generated columns may call functions that rely on it.
func setPath(ctx context.Context, conn *pgx.Conn, t table.Table) error {
	_, err := conn.Exec(ctx, "set search_path = "+pgx.Identifier{t.Schema}.Sanitize()+", extensions, pg_temp")
	return err
}
