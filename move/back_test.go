package move_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
)

// Somebody who does not come in by the door has changed the old home while the tenant lived at the new one. What only the new home has is
// not destroyed by the way back.
func TestRollbackKeepsATargetThatTheSourceIsNotLike(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.drive(t, r.begin(t, place{schema, "b"}), move.ToReversing)
	r.SuperExec(t, m.Source.Home.Database, fmt.Sprintf(`
set session_replication_role = replica; delete from order_lines where tenant_id = '%s' and position = 2`, r.tenant.Tenant))
	m, err := r.mover.Drive(t.Context(), m.ID, move.ToReverted)
	var different *verify.MismatchError
	require.ErrorAs(t, err, &different)
	require.Equal(t, move.Reverting, m.Phase)
	r.livesAt(t, m.Source.Home, m.Epoch+2)
	var rows int
	const lines = "select count(*) from %s.order_lines"
	require.NoError(t, r.Super(t, m.Target.Home.Database).QueryRow(t.Context(), fmt.Sprintf(lines, m.Target.Home.Schema)).Scan(&rows))
	require.Equal(t, 1500, rows)

	m = r.drive(t, m, move.ToReverted) // somebody has looked
	r.nothingLeft(t, m)
}

// What the comparison after the cutover has found stays on record, for whoever decides what becomes of the move.
func TestHomesThatDifferAfterTheCutoverAreOnRecord(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	r.stay(t, m)
	r.await(t, m, move.Verified)
	r.SuperExec(t, m.Target.Home.Database, fmt.Sprintf(`
set session_replication_role = replica; delete from %s.order_lines where position = 2`, m.Target.Home.Schema))
	r.ask(t, m, placement.AskCutover)
	m = r.await(t, m, move.Reversing)
	const found = "table order_lines has 1500 rows at the source and 1000 at the target"
	require.Contains(t, m.Error, "after the cutover: ")
	require.Contains(t, m.Error, found)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.Contains(t, m.Error, found, "nobody need have been watching")
	r.nothingLeft(t, m)
}

// A driver that died behind the commit point has not compared the homes. Its successor does, before it takes the old one away.
func TestTheComparisonThatADeadDriverOwesIsMade(t *testing.T) {
	t.Parallel()
	for name, differ := range map[string]bool{"alike": false, "different": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
			w := r.write(t, 2)
			m := r.begin(t, place{schema, "b"})
			saved := map[move.Phase]backup{}
			m = r.driveSaving(t, saved, m, move.ToReversing)
			r.restore(t, saved[move.Fencing]) // it has died with what it knew
			if differ {
				r.SuperExec(t, m.Source.Home.Database, fmt.Sprintf(`
set session_replication_role = replica; delete from order_lines where tenant_id = '%s' and position = 2`, r.tenant.Tenant))
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
				if s.Move.Phase == move.Reversing {
					stop()
				}
			}})
			require.NoError(t, err)
			_, err = mover.Drive(ctx, m.ID, move.ToDone)
			require.ErrorIs(t, err, context.Canceled)
			m, err = r.Catalog.Move(t.Context(), m.ID)
			require.NoError(t, err)
			require.True(t, move.Uncompared(m), m.Error)

			if differ {
				_, err = r.mover.Drive(t.Context(), m.ID, move.ToDone)
				var different *verify.MismatchError
				require.ErrorAs(t, err, &different)
				m, err = r.Catalog.Move(t.Context(), m.ID)
				require.NoError(t, err)
				require.Equal(t, move.Reversing, m.Phase)
				require.Contains(t, m.Error, "after the cutover: ")
				require.Contains(t, m.Error, "table order_lines has ")
				require.False(t, move.Uncompared(m))
			}
			w.more(t, 3)
			m = r.drive(t, m, move.ToDone)
			w.done(t)
			r.nothingLeft(t, m)
		})
	}
}

// Where there is no way back, and nothing to compare by, it is said once before the old home is taken away.
func TestAComparisonThatCannotBeMadeAnyMoreIsSaid(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	saved := map[move.Phase]backup{}
	m = r.driveSaving(t, saved, m, move.ToReversing)
	r.restore(t, saved[move.Committed])
	r.dropSlots(t, m)
	_, err := r.mover.Drive(t.Context(), m.ID, move.ToDone)
	require.ErrorContains(t, err, "were not compared, and cannot be any more")
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	m = r.drive(t, m, move.ToDone) // somebody knows
	require.Contains(t, m.Error, "were not compared")
	r.nothingLeft(t, m)
}

// Nor is the old home taken away by a driver that was told to complete the move before anybody knew of it.
func TestAMoveWhoseHomesDifferIsNotCompletedUnseen(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	var lose sync.Once
	mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
		if s.Move.Phase == move.Fencing { // both homes were equal, and nobody looks again before the commit point
			lose.Do(func() {
				r.SuperExec(t, m.Target.Home.Database, fmt.Sprintf(`
set session_replication_role = replica; delete from %s.order_lines where position = 2`, m.Target.Home.Schema))
			})
		}
	}})
	require.NoError(t, err)
	m, err = mover.Drive(t.Context(), m.ID, move.ToDone)
	var different *verify.MismatchError
	require.ErrorAs(t, err, &different)
	require.Equal(t, move.Reversing, m.Phase)
	require.Contains(t, m.Error, "after the cutover: ")
	m = r.drive(t, m, move.ToDone) // somebody has looked
	r.nothingLeft(t, m)
}
