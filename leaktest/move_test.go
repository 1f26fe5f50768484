package leaktest_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/leaktest"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// rowsAt counts what a home has of a tenant, as nobody but a superuser sees it.
func (s *shop) rowsAt(t *testing.T, home placement.Home, id tenant.ID) (n int) {
	t.Helper()
	conn := s.Super(t, home.Database)
	q := fmt.Sprintf(`select count(*) from %s where tenant_id = $1`, pgx.Identifier{home.Schema, "tasks"}.Sanitize())
	require.NoError(t, conn.QueryRow(t.Context(), q, id.String()).Scan(&n))
	require.NoError(t, conn.Close(t.Context()))
	return n
}

// A tenant that is being moved has rows in two homes, of which one at most is open: in both of them it is kept apart from the others,
// and they from it.
func TestNothingLeaksWhileATenantIsMoved(t *testing.T) {
	t.Parallel()
	s := newShop(t, isolation.Sealed, placement.ModelShared)
	id := s.pairs[0].A
	mover, err := move.New(move.Config{Catalog: s.Catalog, Homes: s.Service})
	require.NoError(t, err)
	look := func(m placement.Move, when string) {
		t.Run(fmt.Sprintf("to %s, %s", m.Target.Model, when), func(t *testing.T) { leaktest.Run(t, s.router, s.config()) })
	}
	for _, to := range []placement.Model{placement.ModelDatabase, placement.ModelShared} {
		m, err := s.Catalog.BeginMove(t.Context(), placement.MoveRequest{Tenant: id, Model: to, Cluster: "a"})
		require.NoError(t, err)
		s.Forget(t, m.At(true))
		_, err = mover.Drive(t.Context(), m.ID, move.Ready)
		require.NoError(t, err)
		require.Positive(t, s.rowsAt(t, m.Target.Home, id), "there is something to see in the new home")
		look(m, "before the cutover")
		driven := make(chan error, 1)
		go func() {
			_, err := mover.Drive(t.Context(), m.ID, move.ToReversing)
			driven <- err
		}()
		if to == placement.ModelDatabase {
			look(m, "during the cutover")
		}
		require.NoError(t, <-driven)
		require.Positive(t, s.rowsAt(t, m.Source.Home, id), "there is something to see in the old home")
		if to == placement.ModelShared {
			look(m, "after the cutover")
		}
		_, err = mover.Drive(t.Context(), m.ID, move.ToDone)
		require.NoError(t, err)
		now, err := s.Catalog.Tenant(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, to, now.Model)
	}
}
