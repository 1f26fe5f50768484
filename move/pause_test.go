package move_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// An offline move copies while the tenant's writers wait. When that takes longer than it may, it is undone, as often as it is tried, and
// they go on. What was copied then is not taken for what is there now: with a longer pause it succeeds.
func TestOfflineMoveThatCannotKeepItsPauseIsUndone(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{shared, "b"})
	w := r.write(t, 2)
	const pause = 500 * time.Millisecond
	m := r.begin(t, place{shared, "b"}, func(req *placement.MoveRequest) { req.Offline, req.MaxPause = true, pause })
	inTheWay := r.Super(t, m.Target.Home.Database)
	_, err := inTheWay.Exec(t.Context(), "begin; lock table orders in exclusive mode") // customers can be copied
	require.NoError(t, err)
	var said bytes.Buffer
	mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	require.NoError(t, err)
	_, err = mover.Drive(t.Context(), m.ID, move.ToReversing)
	var busy *cutover.BusyError
	require.ErrorAs(t, err, &busy)
	require.Greater(t, busy.Attempts, 1)
	require.Contains(t, said.String(), "the tenant's writers would have waited for longer than 500ms")
	require.Equal(t, isolation.Open, r.fence(t, m.At(false)).State)
	w.more(t, 5)
	_, err = inTheWay.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.NoError(t, inTheWay.Close(t.Context()))

	_, err = r.Catalog.SetMaxPause(t.Context(), m.ID, time.Minute)
	require.NoError(t, err)
	m = r.drive(t, m, move.ToReversing)
	w.more(t, 5)
	m = r.drive(t, m, move.ToDone)
	w.done(t)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}
