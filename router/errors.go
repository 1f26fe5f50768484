package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

// The errors that callers tell apart with errors.Is. Whatever is not listed is PostgreSQL's own *pgconn.PgError.
var (
	// ErrNoTenant reports a call, or an SQL statement, that names no tenant.
	ErrNoTenant = tenant.ErrNone
	// ErrConflict reports a handle of one tenant used with a context that carries another.
	ErrConflict = tenant.ErrConflict
	// ErrUnknownTenant reports a tenant that the catalog does not know.
	ErrUnknownTenant = placement.ErrUnknownTenant
	// ErrCatalogDown reports a tenant that is not in the cache while the catalog cannot be reached.
	ErrCatalogDown = placement.ErrUnavailable
	// ErrProvisioning reports a tenant whose home is still being made.
	ErrProvisioning = errors.New("tenant is still being provisioned")
	// ErrSuspended reports a suspended tenant. The data itself refuses it.
	ErrSuspended = errors.New("tenant is suspended")
	// ErrMoving reports a tenant that was being moved for longer than Config.MoveWait. The error is a *MovingError.
	ErrMoving = errors.New("tenant is being moved")
	// ErrNotHere reports a tenant whose home refuses it although the catalog names that home.
	ErrNotHere = errors.New("tenant is not where the catalog says")
	// ErrBadSeal reports that the home does not accept the router's seal: wrong keys, or clocks far apart.
	ErrBadSeal = errors.New("seal is not accepted")
	// ErrBehind reports a home whose schema is older than Config.SchemaVersion, for longer than Config.SchemaWait.
	ErrBehind = errors.New("home is behind the schema version asked for: landlord migrate up brings it there")
	// ErrOutdated reports an application that is older than the fleet's tables: a migration of the phase contract has taken away
	// what it was written for. Every call fails with it, until the catalog says otherwise; Ready does too.
	ErrOutdated = placement.ErrOutdated
	// ErrWrongDatabase reports a database that is not the one the catalog means: swapped DSNs, or dropped and re-created.
	ErrWrongDatabase = isolation.ErrIdentity
	// ErrHomeDown reports a home whose server or database cannot be reached.
	ErrHomeDown = errors.New("home cannot be reached")
	// ErrExhausted reports that no connection came free in time.
	ErrExhausted = pools.ErrExhausted
	// ErrInTx reports a handle that is used inside the callback of an open Tx of the same router: it would wait for a second
	// connection while it holds the first. Use the Tx.
	ErrInTx = errors.New("handle used inside an open transaction of the same router: use the Tx")
	// ErrTxDone reports a Tx used after its callback returned.
	ErrTxDone = errors.New("transaction is over")
	// ErrRolledBack reports that the callback returned nil but an earlier statement had failed, so nothing was committed, or
	// nothing of a savepoint was kept.
	ErrRolledBack = errors.New("rolled back: an earlier statement has failed")
	// ErrOutcomeUnknown reports a connection lost after the last message was sent: the work may or may not be committed.
	ErrOutcomeUnknown = errors.New("connection lost before the outcome was known")
	// ErrRefused reports SQL or an argument that the router does not pass on.
	ErrRefused = errors.New("refused by the router")
	// ErrDirty reports a connection found in a state that no call should leave. It has been destroyed.
	ErrDirty = errors.New("connection was left in an unexpected state and is closed")
)

// MovingError says when a tenant that is being moved is worth another try. It matches ErrMoving.
type MovingError struct {
	RetryAfter time.Duration
	Err        error // what the home said last
}

func (e *MovingError) Error() string {
	return fmt.Sprintf("%v: retry after %v", ErrMoving, e.RetryAfter)
}

// Is matches ErrMoving.
func (e *MovingError) Is(target error) bool { return target == ErrMoving }

func (e *MovingError) Unwrap() error { return e.Err }

// refusal is an error of the opening: nothing of the tenant's has run, so another try is safe.
type refusal struct {
	err       error
	acquiring bool // there was not even a connection
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// transient tells whether a refusal may pass by itself or by asking the catalog again: moved away, being moved, waited too
// long for the tenant's lock, a snapshot older than a fence, or a connection that was not fit for use.
func (r *refusal) transient() bool {
	if r.acquiring {
		return false
	}
	return errors.Is(r.err, ErrHomeDown) ||
		pgerr.Is(r.err, pgerr.NotHere, pgerr.Fenced, pgerr.LockNotAvailable, pgerr.SerializationFailure)
}

// waits tells whether a refusal passes by itself, without another placement: the tenant is being moved, somebody else has its
// lock, or a fence was raised and lowered behind a snapshot.
func (r *refusal) waits() bool {
	return !r.acquiring && pgerr.Is(r.err, pgerr.Fenced, pgerr.LockNotAvailable, pgerr.SerializationFailure)
}

// behind tells whether the home's schema is older than what was demanded.
func (r *refusal) behind() bool { return pgerr.Is(r.err, pgerr.Behind) }

// kinds names what a home says with our own SQLSTATEs.
var kinds = map[string]error{
	pgerr.NoTenant:  ErrNoTenant,
	pgerr.NotHere:   ErrNotHere,
	pgerr.Suspended: ErrSuspended,
	pgerr.BadSeal:   ErrBadSeal,
	pgerr.Behind:    ErrBehind,
}

// typed turns what a home says into the errors above. PostgreSQL's own error stays reachable with errors.As.
func typed(err error) error {
	if err == nil || errors.Is(err, ErrMoving) {
		return err
	}
	if r := (*refusal)(nil); pgerr.Is(err, pgerr.Fenced) || errors.As(err, &r) && pgerr.Is(err, pgerr.LockNotAvailable) {
		return &MovingError{RetryAfter: retryAfter, Err: err}
	}
	kind := kinds[pgerr.Code(err)]
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// unreachable types the error of getting a connection.
func unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, ErrExhausted), errors.Is(err, ErrWrongDatabase), errors.Is(err, pools.ErrClosed):
		return err
	}
	if pgerr.Is(err, pgerr.InsufficientPrivilege) { // a database that does not let its own login in is somebody else's
		return fmt.Errorf("%w: %w", ErrWrongDatabase, err)
	}
	return fmt.Errorf("%w: %w", ErrHomeDown, err)
}

// gone types an error of a lost connection, whose work was not committed, unless it was the caller who left.
func gone(err error) error {
	if errors.Is(err, ErrHomeDown) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrHomeDown, err)
}

// unknown types an error of a connection that was lost after everything was sent.
func unknown(err error) error {
	if errors.Is(err, ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}
