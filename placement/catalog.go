// Package placement is the catalog: it knows where each tenant lives, and decides where a new one will.
//
// It guarantees that decisions are taken one at a time, under one lock of the control database, by counting placements
// rather than trusting counters, so no cluster gets more tenants than its capacity; that a placement changes only by
// naming the epoch that it replaces; and that every change stands in an append-only log, whose numbers are given under
// that lock, so [Catalog.Watch] misses none.
//
// It does not guarantee that what it says is still true when it is used: the fence beside the data decides that (package
// isolation). Making and removing homes is left to package onboard, caching to package router.
package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/landlord-go/landlord/tenant"
)

// Config says where the catalog is.
type Config struct {
	// DSN of the control database, with its credential resolved. Required.
	DSN string
	// Actor stands in the log beside every change. Default: the operating system's user and the host.
	Actor string
	// Logger hears of retries and of a lost watch. Default: discard.
	Logger *slog.Logger
	// MaxConns bounds the pool. Default: 4. Watch takes one more.
	MaxConns int32
	// KeepNone closes a connection when its call is over. Default: keep it for the next call. It is for commands, of which
	// hundreds may run at once: if each held on to a connection while it waits for one to a home on the same server, all of
	// them would wait for each other.
	KeepNone bool
	// Timeout bounds one Route, and one look at the log by Watch, so that a silent server is found out. Default: 2 s.
	// Making a connection is bounded by the DSN's connect_timeout, or else 5 s: a busy server needs its time.
	Timeout time.Duration
	// Retry is how long a call other than Route and Watch goes on trying while the catalog has no connection free or cannot
	// be reached, and how long it waits for another's change to end. Default: 30 s. Negative: no retry, and a wait of Timeout.
	Retry time.Duration
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.DSN == "" {
		errs = append(errs, errors.New("DSN is missing: name the control database"))
	} else if _, err := parseDSN(c.DSN); err != nil {
		errs = append(errs, fmt.Errorf("DSN: %w", err))
	}
	if c.MaxConns < 0 {
		errs = append(errs, errors.New("MaxConns is negative"))
	}
	if c.Timeout < 0 {
		errs = append(errs, errors.New("Timeout is negative"))
	}
	return errors.Join(errs...)
}

// Catalog is a handle on the catalog. It is safe for concurrent use.
type Catalog struct {
	cfg  Config
	pool *pgxpool.Pool
	// settings never change once they are written, so they are read once.
	settings atomic.Pointer[Settings]
	away     atomic.Bool // it gave no connection when it was asked last: that is told of once
}

// Open returns a handle without connecting: the catalog may be down, and calls then say [ErrUnavailable].
func Open(ctx context.Context, cfg Config) (*Catalog, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	cfg.Actor = cmp.Or(cfg.Actor, defaultActor())
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 4)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 30*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil { // pool_* settings; the text of the error would quote the DSN
		return nil, errors.New("open catalog: DSN has a pool setting that cannot be read")
	}
	pc.MaxConns = cfg.MaxConns
	if cfg.KeepNone {
		pc.AfterRelease = func(*pgx.Conn) bool { return false }
	}
	pc.PingTimeout = cfg.Timeout
	pc.ConnConfig.ConnectTimeout = cmp.Or(pc.ConnConfig.ConnectTimeout, 5*time.Second)
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "landlord"
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	return &Catalog{cfg: cfg, pool: pool}, nil
}

// Close ends the handle's connections, and waits for calls that are under way.
func (c *Catalog) Close() { c.pool.Close() }

func defaultActor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// querier runs one query: a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// read runs fn, which must only read, and retries it while the catalog has no connection to give.
func (c *Catalog) read(ctx context.Context, act string, fn func(ctx context.Context, q querier) error) error {
	return c.try(ctx, act, func(ctx context.Context) error {
		if err := c.loadSettings(ctx, c.pool); err != nil {
			return err
		}
		return fn(ctx, c.pool)
	})
}

// change runs fn in a transaction that holds the placement lock from its first statement to its commit. READ COMMITTED is
// asked for by name: with a snapshot older than the lock, fn would decide by what was true before its predecessor. A
// process that stops in the middle loses the lock after a minute, with its session.
func (c *Catalog) change(ctx context.Context, act string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	lock := fmt.Sprintf(`
set local idle_in_transaction_session_timeout = '1min';
set local lock_timeout = %d;
select landlord.lock_placement()`, max(c.cfg.Retry, c.cfg.Timeout).Milliseconds())
	return c.try(ctx, act, func(ctx context.Context) error {
		if err := c.loadSettings(ctx, c.pool); err != nil {
			return &unbegunError{err}
		}
		begun := false
		err := pgx.BeginTxFunc(ctx, c.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lock); err != nil {
				return err
			}
			begun = true
			return fn(ctx, tx)
		})
		if err != nil && !begun {
			return &unbegunError{err}
		}
		return err
	})
}

// parseID reads an id as the catalog holds it. Settings have been loaded by read or change.
func (c *Catalog) parseID(s string) (tenant.ID, error) { return c.settings.Load().IDType.Parse(s) }
