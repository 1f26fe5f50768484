package move_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

func TestTenantIsHandedOverWhileTheCatalogIsDown(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{database, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{database, "b"})

	catalog, proxy := r.farCatalog(t)
	var cut sync.Once
	mover, err := move.New(move.Config{Catalog: catalog, Homes: r.Service, Progress: func(s move.Status) {
		if s.Move.Phase == move.Fencing {
			cut.Do(proxy.Cut)
		}
	}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := mover.Drive(t.Context(), m.ID, move.ToReversing)
		ended <- err
	}()
	target := r.Super(t, "postgres")
	require.Eventually(t, func() bool {
		var there bool
		require.NoError(t, target.QueryRow(t.Context(), `select exists (select from pg_database where datname = $1)`, m.Target.Home.Database).Scan(&there))
		return there
	}, waitFor, tick)
	r.await(t, m, move.Fencing)
	home := r.Super(t, m.Target.Home.Database)
	require.Eventually(t, func() bool {
		var state string
		require.NoError(t, home.QueryRow(t.Context(), `select state from landlord.fence where tenant = $1`, r.tenant.Tenant.String()).Scan(&state))
		return state == "open"
	}, waitFor, tick)
	w.more(t, 10) // though the catalog still says that it lives at the source
	now, err := r.Catalog.Tenant(t.Context(), r.tenant.Tenant)
	require.NoError(t, err)
	require.Equal(t, m.Source.Home, now.Home)

	require.NoError(t, home.Close(context.WithoutCancel(t.Context())))
	proxy.Restore()
	require.NoError(t, <-ended)
	m = r.drive(t, m, move.ToDone)
	w.done(t)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}

// farCatalog is the catalog behind a network that can fail. What fails there is not tried again.
func (r *removal) farCatalog(t *testing.T) (*placement.Catalog, *faultnet.Proxy) {
	t.Helper()
	proxy := faultnet.New(t, r.Server.Addr())
	dsn, err := proxy.Rewrite(r.CatalogDSN)
	require.NoError(t, err)
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Actor: "test", Retry: -1})
	require.NoError(t, err)
	t.Cleanup(catalog.Close)
	return catalog, proxy
}

// The driver of an offline move dies before the catalog knows that the tenant was passed on. Whoever goes on knows that there is no way
// back, and can complete the move.
func TestOfflineMoveIsCompletedByWhoeverFindsItCommitted(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.Offline, req.MaxPause = true, time.Minute })
	_, err := r.driveUntil(t, m, move.ToReversing, move.Verified)
	require.ErrorIs(t, err, context.Canceled)

	catalog, proxy := r.farCatalog(t)
	var cut sync.Once
	mover, err := move.New(move.Config{Catalog: catalog, Homes: r.Service, Progress: func(s move.Status) {
		if s.Move.Phase == move.Fencing {
			cut.Do(proxy.Cut)
		}
	}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := mover.Drive(t.Context(), m.ID, move.ToReversing)
		ended <- err
	}()
	require.Eventually(t, func() bool { return r.fence(t, m.At(true)).State == isolation.Open }, waitFor, tick)
	r.steal(t, m)
	m = r.drive(t, m, move.ToReversing)
	require.NotEmpty(t, m.NoRollback)
	m = r.drive(t, m, move.ToDone)
	proxy.Restore()
	require.ErrorIs(t, <-ended, placement.ErrMoveLost)
	w.done(t)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}

// The catalog goes away as each phase begins, and comes back a while later: the driver waits for it, and nobody else does.
func TestAMoveOutlivesACatalogThatIsDownAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, goals := range [][]move.Goal{{move.ToDone}, {move.Ready, move.ToAborted}, {move.ToReversing, move.ToReverted}} {
		t.Run(string(goals[len(goals)-1]), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
			w := r.write(t, 2)
			m := r.begin(t, place{schema, "b"})
			catalog, proxy := r.farCatalog(t)
			cut := map[move.Phase]bool{}
			var err error
			r.mover, err = move.New(move.Config{Catalog: catalog, Homes: r.Service, Progress: func(s move.Status) {
				if !cut[s.Move.Phase] {
					cut[s.Move.Phase] = true
					proxy.Cut()
					time.AfterFunc(500*time.Millisecond, proxy.Restore)
				}
			}})
			require.NoError(t, err)
			for _, goal := range goals {
				for began := time.Now(); ; {
					_, err = r.mover.Drive(t.Context(), m.ID, goal)
					var busy *cutover.BusyError
					// The claim of a driver that could not give it back runs out by itself.
					again := errors.As(err, &busy) || errors.Is(err, placement.ErrUnavailable) || errors.Is(err, placement.ErrMoveClaimed)
					if !again || time.Since(began) > waitFor {
						break
					}
					time.Sleep(tick)
				}
				require.NoError(t, err)
			}
			m, err = r.Catalog.Move(t.Context(), m.ID)
			require.NoError(t, err)
			require.Greater(t, len(cut), 5)
			w.more(t, 3)
			w.done(t)
			r.nothingLeft(t, m)
		})
	}
}
