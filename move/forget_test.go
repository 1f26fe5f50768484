package move_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// cutCluster lets the operator's way to a cluster lead to where nobody answers.
func (r *removal) cutCluster(t *testing.T, name string) {
	t.Helper()
	proxy := faultnet.New(t, r.Server.Addr())
	dsn, err := proxy.Rewrite(r.Server.DSN)
	require.NoError(t, err)
	proxy.Cut()
	c, err := r.Catalog.Cluster(t.Context(), name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(strings.TrimPrefix(string(c.Operator), "file:"), []byte(dsn), 0o600))
}

// The target's server goes for good: the tenant is not kept moving for ever, and what may be left there stays on record.
func TestMoveIsGivenUpWithoutItsTargetsServer(t *testing.T) {
	t.Parallel()
	for _, phase := range []move.Phase{move.Preparing, move.Verified, move.Fencing, move.Aborting} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
			w := r.write(t, 1)
			m := r.begin(t, place{schema, "b"})
			goal := move.ToReversing
			if phase == move.Aborting {
				goal = move.ToAborted
			}
			_, err := r.driveUntil(t, m, goal, phase)
			require.ErrorIs(t, err, context.Canceled)
			_, err = r.mover.Forget(t.Context(), m.ID)
			require.ErrorIs(t, err, move.ErrAnswers)

			r.cutCluster(t, "b")
			m, err = r.mover.Forget(t.Context(), m.ID)
			require.NoError(t, err)
			require.Equal(t, move.Aborted, m.Phase)
			w.more(t, 3)
			w.done(t)
			now, err := r.Catalog.Tenant(t.Context(), m.Tenant)
			require.NoError(t, err)
			require.Equal(t, placement.StateActive, now.State)
			require.Equal(t, m.Source.Home, now.Home)
			left, err := r.Catalog.Cleanups(t.Context(), m.ID)
			require.NoError(t, err)
			if phase == move.Verified || phase == move.Fencing {
				require.NotEmpty(t, left)
			}
			for _, x := range left {
				require.Equal(t, "b", x.Cluster)
			}
			found, err := move.Residue(t.Context(), r.Catalog)
			require.Error(t, err, "b cannot be read")
			require.Empty(t, found, "nothing is at a")
			_, err = r.mover.Forget(t.Context(), m.ID)
			require.ErrorIs(t, err, placement.ErrMovePhase)
		})
	}
}

func TestMoveThatIsCutOverIsNotForgotten(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.drive(t, r.begin(t, place{schema, "b"}), move.ToReversing)
	_, err := r.mover.Forget(t.Context(), m.ID)
	require.ErrorIs(t, err, placement.ErrMovePhase)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
}
