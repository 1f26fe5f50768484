package router_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/router"
)

func TestObservingACallAllocatesNothingWithoutATracer(t *testing.T) { //nolint:paralleltest // AllocsPerRun refuses to
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	count := h.Router(t).Counter("a")
	id, ctx := h.NewID(t), t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() { count(ctx, id, time.Millisecond) }))
}

func TestOutcomeIsTheMostTellingOfAnErrorsNames(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"ok":             nil,
		"moving":         fmt.Errorf("%w while waiting: %w", context.DeadlineExceeded, &router.MovingError{}),
		"home_down":      fmt.Errorf("%w: %w", router.ErrHomeDown, context.DeadlineExceeded),
		"timeout":        fmt.Errorf("acquire a connection: %w", context.DeadlineExceeded),
		"conflict":       router.ErrConflict,
		"no_tenant":      fmt.Errorf("%w: %w", router.ErrNoTenant, &pgconn.PgError{Code: "LL001"}),
		"sqlstate_40":    fmt.Errorf("commit: %w", &pgconn.PgError{Code: "40001"}),
		"other":          errors.New("of the callback"),
		"catalog_down":   fmt.Errorf("resolve the tenant: %w", router.ErrCatalogDown),
		"wrong_database": router.ErrWrongDatabase,
	} {
		require.Equal(t, want, router.Outcome(err), "%v", err)
	}
}
