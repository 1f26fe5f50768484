package move_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// A move's rate is on record: whoever drives it copies no faster, and as it was changed in between.
func TestMoveCopiesNoFasterThanItsRate(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{database, "b"})
	_, err := r.router.Tenant(r.tenant.Tenant).Exec(t.Context(), `update customers set name = repeat('x', 1000)`)
	require.NoError(t, err)
	m := r.begin(t, place{database, "b"}, func(req *placement.MoveRequest) { req.MaxRate = placement.LeastMaxRate })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Workers: 1, Progress: func(s move.Status) {
		if s.Move.Rows > 0 { // half a megabyte takes many seconds
			cancel()
		}
	}})
	require.NoError(t, err)
	m, err = first.Drive(ctx, m.ID, move.Ready)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, move.Copying, m.Phase)

	const rate = 3 * placement.LeastMaxRate
	_, err = r.Catalog.SetMaxRate(t.Context(), m.ID, rate)
	require.NoError(t, err)
	looked, err := r.mover.Look(t.Context(), m)
	require.NoError(t, err)
	require.Positive(t, looked.Move.Bytes)
	began := time.Now()
	m = r.drive(t, m, move.Ready)
	left := m.Bytes - looked.Move.Bytes
	require.Positive(t, left)
	require.GreaterOrEqual(t, time.Since(began).Seconds(), 0.9*float64(left)/rate)
	m = r.drive(t, m, move.ToDone)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}
