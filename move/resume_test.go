package move_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// driveUntil drives a move until it comes to one of the phases, and stops then as by Ctrl-C.
func (r *removal) driveUntil(t *testing.T, m placement.Move, goal move.Goal, phases ...move.Phase) (placement.Move, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
		if slices.Contains(phases, s.Move.Phase) {
			stop()
		}
	}})
	require.NoError(t, err)
	return mover.Drive(ctx, m.ID, goal)
}

// ways are one transition with a stream between servers' databases, and one within a database.
var ways = []struct{ from, to place }{
	{place{shared, "a"}, place{database, "b"}},
	{place{schema, "a"}, place{shared, "a"}},
}

func TestMoveGoesOnWhereverItsDriverStopped(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.from.String()+" to "+way.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, way.from, way.to)
			w := r.write(t, 2)
			m := r.begin(t, way.to)
			for _, phase := range []move.Phase{
				move.Preparing, move.Copying, move.Following, move.Verified, move.Fencing, move.Committed, move.Reversing, move.Completing,
			} {
				_, err := r.driveUntil(t, m, move.ToDone, phase)
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
					require.ErrorContains(t, err, "landlord move resume acme")
				}
				now, err := r.Catalog.Move(t.Context(), m.ID)
				require.NoError(t, err)
				t.Logf("stopped at %s, now %s", phase, now.Phase)
				w.more(t, 3)
			}
			m = r.drive(t, m, move.ToDone)
			w.more(t, 3)
			w.done(t)
			r.livesAt(t, m.Target.Home, m.Epoch+1)
			r.nothingLeft(t, m)
		})
	}
}

func TestRollbackGoesOnWhereverItsDriverStopped(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.from.String()+" to "+way.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, way.from, way.to)
			w := r.write(t, 2)
			m := r.drive(t, r.begin(t, way.to), move.ToReversing)
			for _, phase := range []move.Phase{move.Reversing, move.RollingBack, move.Reverting} {
				_, err := r.driveUntil(t, m, move.ToReverted, phase)
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
				w.more(t, 3)
			}
			m = r.drive(t, m, move.ToReverted)
			w.more(t, 3)
			w.done(t)
			r.livesAt(t, m.Source.Home, m.Epoch+2)
			r.nothingLeft(t, m)
		})
	}
}

func TestAbortLeavesNothingInAnyPhase(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for _, phase := range []move.Phase{move.Planned, move.Preparing, move.Copying, move.Following, move.Verified, move.Fencing} {
			t.Run(way.from.String()+" to "+way.to.String()+" "+string(phase), func(t *testing.T) {
				t.Parallel()
				r := newRemoval(t, testhouse.Options{}, way.from, way.to)
				w := r.write(t, 1)
				m := r.begin(t, way.to)
				if phase != move.Planned {
					_, err := r.driveUntil(t, m, move.ToReversing, phase)
					require.ErrorIs(t, err, context.Canceled)
				}
				m, err := r.mover.Drive(t.Context(), m.ID, move.ToAborted)
				require.NoError(t, err)
				require.Equal(t, move.Aborted, m.Phase)
				w.more(t, 3)
				w.done(t)
				r.livesAt(t, m.Source.Home, m.Epoch)
				r.nothingLeft(t, m)
			})
		}
	}
}

// leaving takes homes away, and then has its driver stop before it can tell anybody.
type leaving struct {
	move.Homes
	stop context.CancelFunc
}

func (l leaving) Unmake(ctx context.Context, p placement.Placement) error {
	err := l.Homes.Unmake(ctx, p)
	l.stop()
	return err
}

func TestMoveGoesOnWhereItsDriverStoppedBehindTheTakingAwayOfAHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goal     move.Goal
		from, to place
	}{
		{move.ToReverted, place{shared, "a"}, place{database, "b"}},
		{move.ToReverted, place{schema, "a"}, place{shared, "a"}},
		{move.ToDone, place{database, "a"}, place{shared, "b"}},
	} {
		t.Run(string(c.goal)+" from "+c.from.String()+" to "+c.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, c.from, c.to)
			w := r.write(t, 1)
			m := r.begin(t, c.to)
			if c.goal == move.ToReverted {
				m = r.drive(t, m, move.ToReversing)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: leaving{r.Service, stop}})
			require.NoError(t, err)
			_, err = mover.Drive(ctx, m.ID, c.goal)
			require.ErrorIs(t, err, context.Canceled)

			m = r.drive(t, m, c.goal)
			w.more(t, 3)
			w.done(t)
			home, epoch := m.Source.Home, m.Epoch+2
			if c.goal == move.ToDone {
				home, epoch = m.Target.Home, m.Epoch+1
			}
			r.livesAt(t, home, epoch)
			r.nothingLeft(t, m)
		})
	}
}

// stay drives a move in the background for as long as the test lasts, and returns what it ends with.
func (r *removal) stay(t *testing.T, m placement.Move) <-chan error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := r.newMover(t).Drive(ctx, m.ID, move.Stay)
		ended <- err
	}()
	t.Cleanup(func() { stop(); <-done })
	return ended
}

// await waits until a move is in a phase.
func (r *removal) await(t *testing.T, m placement.Move, phase move.Phase) (now placement.Move) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		now, err = r.Catalog.Move(t.Context(), m.ID)
		require.NoError(t, err)
		return now.Phase == phase
	}, waitFor, tick, "the move is not %s", phase)
	return now
}

func (r *removal) ask(t *testing.T, m placement.Move, what placement.MoveAsk) {
	t.Helper()
	_, err := r.Catalog.AskMove(t.Context(), m.ID, what)
	require.NoError(t, err)
}

func TestDriverThatStaysDoesWhatIsAsked(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{schema, "b"})
	ended := r.stay(t, m)
	r.await(t, m, move.Verified)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	w.more(t, 5)
	r.ask(t, m, placement.AskRollback)
	r.await(t, m, move.Reverted)
	require.NoError(t, <-ended)
	w.more(t, 5)

	m = r.begin(t, place{database, "b"}, func(req *placement.MoveRequest) { req.Auto = true })
	ended = r.stay(t, m)
	r.await(t, m, move.Reversing)
	r.ask(t, m, placement.AskComplete)
	r.await(t, m, move.Done)
	require.NoError(t, <-ended)
	w.more(t, 5)

	m = r.begin(t, place{shared, "a"})
	ended = r.stay(t, m)
	r.await(t, m, move.Verified)
	r.ask(t, m, placement.AskAbort)
	r.await(t, m, move.Aborted)
	require.NoError(t, <-ended)
	w.done(t)
	r.nothingLeft(t, m)
}

func TestMoveHasOneDriverAtATime(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{database, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{database, "b"})
	first := r.stay(t, m)
	r.await(t, m, move.Verified)
	_, err := r.mover.Drive(t.Context(), m.ID, move.ToReversing)
	require.ErrorIs(t, err, placement.ErrMoveClaimed)

	// The first one counts as dead, because it was stopped for longer than its lease.
	other := newID(t)
	catalog, err := pgx.Connect(t.Context(), r.CatalogDSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = catalog.Close(context.Background()) })
	_, err = catalog.Exec(t.Context(), `update landlord.moves set owner = $2, owned_until = '-infinity' where id = $1`, m.ID, other)
	require.NoError(t, err)
	m = r.drive(t, m, move.ToReversing)
	require.ErrorIs(t, <-first, placement.ErrMoveLost)
	m = r.drive(t, m, move.ToDone)
	w.done(t)
	r.nothingLeft(t, m)
}
