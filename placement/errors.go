package placement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// What callers ask about an error of this package.
var (
	ErrUnavailable    = errors.New("the catalog cannot be reached: check that the control database is up and its DSN is right")
	ErrNoCatalog      = errors.New("the control database has no catalog of this version: run landlord init")
	ErrBusy           = errors.New("another change of the catalog does not end: try again, or look for an idle transaction there")
	ErrUnknownTenant  = errors.New("unknown tenant")
	ErrUnknownCluster = errors.New("unknown cluster: landlord cluster list shows those there are")
	ErrExists         = errors.New("it exists already")
	ErrInUse          = errors.New("it is still in use")
	// ErrNoCapacity reports that no cluster can take a tenant. The error is a [*NoCapacityError].
	ErrNoCapacity = errors.New("no cluster can take the tenant")
	// ErrState reports a change of state that is not legal now. The error is a [*StateError].
	ErrState = errors.New("not in this state")
	// ErrStale reports a write that lost to a newer one.
	ErrStale = errors.New("stale epoch: the placement has changed since it was read")
)

// try runs op, and again with growing, jittered pauses while nothing ran because the catalog had no connection to give.
// Without jitter, those that were turned away together come back together. The longest pause is long, because turning
// somebody away costs the server a process and a password check: a crowd that asks too often leaves no time for those
// who got in.
func (c *Catalog) try(ctx context.Context, act string, op func(ctx context.Context) error) error {
	deadline := time.Now().Add(c.cfg.Retry)
	const first, most = 20 * time.Millisecond, 4 * time.Second
	for pause := first; ; pause = min(2*pause, most) {
		err := op(ctx)
		if err == nil {
			if c.away.CompareAndSwap(true, false) {
				c.cfg.Logger.InfoContext(ctx, "catalog gives connections again")
			}
			return nil
		}
		wait := rand.N(pause) + first/2
		if !nothingRan(err) || time.Now().Add(wait).After(deadline) || !sleep(ctx, wait) {
			return fmt.Errorf("%s: %w", act, judge(err))
		}
		if c.away.CompareAndSwap(false, true) { // one line for all who wait
			c.cfg.Logger.WarnContext(ctx, "catalog gives no connection, trying again", "act", act, "error", err)
		}
	}
}

// sleep waits for d and reports whether it could, or false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// unbegunError is that of a change which had not begun yet: a connection from the pool may have been dead for long.
type unbegunError struct{ err error }

func (e *unbegunError) Error() string { return e.err.Error() }
func (e *unbegunError) Unwrap() error { return e.err }

// nothingRan reports whether err says that no connection could be had and that one may be had later. A wrong password or a
// missing database does not get better by waiting.
func nothingRan(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	if _, unbegun := errors.AsType[*unbegunError](err); unbegun && !connecting {
		return pgerr.Code(err) == "" && isNetwork(err)
	}
	if !connecting {
		return false
	}
	if code := pgerr.Code(err); code != "" {
		return code == pgerr.TooManyConnections || code == pgerr.CannotConnectNow
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return false
	}
	return isNetwork(err)
}

// judge adds the sentinel that says what err means for the caller.
func judge(err error) error {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, context.Canceled): // the caller left: nothing is known about the catalog
		return err
	case connecting, pgerr.Is(err, "08", "53", "57", pgerr.IdleInTransactionTimeout) && !pgerr.Is(err, pgerr.QueryCanceled),
		pgerr.Code(err) == "" && isNetwork(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case pgerr.Is(err, pgerr.LockNotAvailable):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case pgerr.Is(err, pgerr.UndefinedTable, pgerr.UndefinedColumn, pgerr.UndefinedFunction, pgerr.UndefinedSchema):
		return fmt.Errorf("%w: %w", ErrNoCatalog, err)
	}
	return err
}

// isNetwork reports whether err comes from the network or from waiting for it (context.DeadlineExceeded is a net.Error).
func isNetwork(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}
