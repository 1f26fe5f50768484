package move_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// What a mover says of itself, and what others find out about it, while its copy and then its stream are held up, and afterwards.
func TestStatusTellsHowFarAMoveIs(t *testing.T) {
	t.Parallel()
	const all = 500 + 500 + 1500 // rows, of customers, orders and their lines
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{shared, "b"})
	m := r.begin(t, place{shared, "b"}, func(req *placement.MoveRequest) { req.OfRows = all })
	var mu sync.Mutex
	var said move.Status
	var wrong []move.Status
	mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
		mu.Lock()
		defer mu.Unlock()
		over := s.Move.Phase != move.Planned && s.Move.Phase != move.Preparing && s.Move.Phase != move.Copying
		if s.Left < 0 || s.Lag < 0 || s.WAL < 0 || s.Move.Rows > all || over && (s.Left != 0 || s.Move.Rows != all) {
			wrong = append(wrong, s)
		}
		said = s
	}})
	require.NoError(t, err)
	says := func(what func(move.Status) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return what(said)
		}, waitFor, tick)
	}
	looks := func(what func(move.Status) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			now, err := r.Catalog.Move(t.Context(), m.ID)
			require.NoError(t, err)
			s, err := r.mover.Look(t.Context(), now)
			require.NoError(t, err)
			return what(s)
		}, waitFor, tick)
	}
	target := r.Super(t, m.Target.Home.Database)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := target.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}

	exec("begin")
	exec("lock table orders in exclusive mode")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := mover.Drive(ctx, m.ID, move.Stay)
		ended <- err
	}()
	t.Cleanup(func() { stop(); <-ended })
	some := func(s move.Status) bool { return s.Move.Phase == move.Copying && s.Move.Rows == all-500 && s.Left > 0 }
	says(some)
	looks(some)
	exec("commit")
	r.await(t, m, move.Verified)
	says(func(s move.Status) bool { return s.Move.Phase == move.Verified && s.Move.Rows == all && s.Left == 0 })

	// Who holds the row at the target holds up the stream.
	exec("begin")
	exec("select from customers where tenant_id = $1 and email = 'seed1@example.com' for update", m.Tenant.String())
	_, err = r.router.Tenant(r.tenant.Tenant).Exec(t.Context(), "update customers set name = 'new' where email = 'seed1@example.com'")
	require.NoError(t, err)
	says(func(s move.Status) bool { return s.Lag > 0 && s.WAL > 0 && s.Move.Changes == 0 })
	looks(func(s move.Status) bool { return s.Lag > 0 && s.WAL > 0 })
	exec("commit")
	says(func(s move.Status) bool { return s.Lag == 0 && s.Move.Changes == 1 })
	looks(func(s move.Status) bool { return s.Lag == 0 && s.Left == 0 && s.Move.Rows == all })

	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.NoError(t, <-ended)
	ended <- nil
	require.EqualValues(t, all, m.Rows)
	require.EqualValues(t, 1, m.Changes)
	require.Positive(t, m.Bytes)
	require.Empty(t, wrong)
}
