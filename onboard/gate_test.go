package onboard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

func TestAHomeIsBuiltAnewIfTheGateMovedAndTheGateWaitsForIt(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{Clusters: []string{"a"}})
	to := placement.Gate{Contracted: 6, Needs: 5}
	var built []int64 // where the gate stood at each build
	var waits []string
	service := e.service(t, e.Catalog, builder(func(ctx context.Context, _ *pgx.Conn, _, _ string) error {
		gate, err := e.Catalog.Gate(ctx)
		if err != nil {
			return err
		}
		built = append(built, gate.Contracted)
		seen, err := e.Catalog.LogEnd(ctx)
		if err != nil {
			return err
		}
		w, err := e.Catalog.OpenGate(ctx, gate, to, seen)
		waits = append(waits, w.For...)
		if err != nil || len(built) > 1 {
			return err
		}
		return e.Catalog.RaiseGate(ctx, placement.Gate{Contracted: 4, Needs: 3})
	}))
	r, _ := e.request(t, "acme", placement.ModelSchema)
	_, err := service.Add(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 4}, built)
	require.Len(t, waits, 2)
	require.Contains(t, waits[0], "tenant acme")
	gate, err := e.Catalog.Gate(t.Context())
	require.NoError(t, err)
	seen, err := e.Catalog.LogEnd(t.Context())
	require.NoError(t, err)
	w, err := e.Catalog.OpenGate(t.Context(), gate, to, seen)
	require.NoError(t, err)
	require.Empty(t, w.For)
}
