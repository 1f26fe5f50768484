package tenant

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNone reports work for a tenant where none was named.
	ErrNone = errors.New("no tenant")
	// ErrConflict reports a second tenant on a context that already has one. The error is a [*ConflictError].
	ErrConflict = errors.New("conflicting tenant")
)

// ConflictError says which tenant a context has and which one was given to it.
type ConflictError struct{ Have, Given ID }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("set tenant %s on a context of tenant %s: %v", e.Given, e.Have, ErrConflict)
}

// Unwrap makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Unwrap() error { return ErrConflict }

type contextKey struct{}

// NewContext returns a context that carries the tenant, as the boundary of a service does once it knows who is asking.
// The value cannot be changed further down: the same tenant again is no change, another one is a [*ConflictError], and
// the zero ID is [ErrNone]. To work for several tenants, start each from a context that has none.
func NewContext(ctx context.Context, id ID) (context.Context, error) {
	if id.IsZero() {
		return nil, fmt.Errorf("set tenant on context: %w", ErrNone)
	}
	switch have, ok := FromContext(ctx); {
	case !ok:
		return context.WithValue(ctx, contextKey{}, id), nil
	case have != id:
		return nil, &ConflictError{Have: have, Given: id}
	}
	return ctx, nil
}

// FromContext returns the tenant that ctx carries, and whether it carries one.
func FromContext(ctx context.Context) (ID, bool) {
	id, ok := ctx.Value(contextKey{}).(ID)
	return id, ok
}
