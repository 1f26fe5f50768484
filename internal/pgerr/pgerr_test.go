package pgerr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
)

func TestACodeIsFoundHoweverDeepTheErrorIsWrapped(t *testing.T) {
	t.Parallel()
	err := errors.Join(errors.New("first"), fmt.Errorf("enter: %w", &pgconn.PgError{Code: pgerr.NotHere}))

	require.Equal(t, "LL002", pgerr.Code(err))
	require.True(t, pgerr.Is(err, pgerr.NoTenant, pgerr.NotHere))
	require.False(t, pgerr.Is(err, pgerr.NoTenant))
	require.False(t, pgerr.Is(err))
}

func TestAClassCoversItsCodes(t *testing.T) {
	t.Parallel()
	err := &pgconn.PgError{Code: pgerr.ConnectionFailure}

	require.True(t, pgerr.Is(err, "08"))
	require.False(t, pgerr.Is(err, "57"))
}

func TestOtherErrorsHaveNoCode(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("LL001"), &pgconn.PgError{}} {
		require.Empty(t, pgerr.Code(err))
		require.False(t, pgerr.Is(err, pgerr.NoTenant, ""))
	}
}
