package router

import (
	"context"
	"errors"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/pools"
)

// outcomes names the errors that Outcome tells apart, the more telling one first where an error is several.
var outcomes = []struct {
	err  error
	name string
}{
	{ErrOutcomeUnknown, "outcome_unknown"},
	{ErrDirty, "dirty"},
	{errPanic, "panic"},
	{ErrMoving, "moving"},
	{ErrSuspended, "suspended"},
	{ErrProvisioning, "provisioning"},
	{ErrUnknownTenant, "unknown_tenant"},
	{ErrNotHere, "not_here"},
	{ErrBadSeal, "bad_seal"},
	{ErrBehind, "behind"},
	{ErrOutdated, "outdated"},
	{ErrWrongDatabase, "wrong_database"},
	{ErrExhausted, "exhausted"},
	{ErrHomeDown, "home_down"},
	{ErrCatalogDown, "catalog_down"},
	{ErrInTx, "in_tx"},
	{ErrTxDone, "tx_done"},
	{ErrRolledBack, "rolled_back"},
	{ErrRefused, "refused"},
	{ErrNoTenant, "no_tenant"},
	{ErrConflict, "conflict"},
	{pools.ErrClosed, "closed"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
}

// Outcome names how a call ended, in one word that is safe to export and of which there are few: "ok"; the name of one of
// the router's errors, such as "suspended", "moving" or "exhausted"; "canceled" or "timeout", of the caller's context; the
// class of PostgreSQL's own error, such as "sqlstate_23"; or "other", such as an error of a transaction's callback.
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	if code := pgerr.Code(err); len(code) == 5 {
		return "sqlstate_" + code[:2]
	}
	return "other"
}
