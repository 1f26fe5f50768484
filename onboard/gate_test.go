package onboard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestAHomeGetsTheRestBeforeItIsOpenedIfTheGateOpensMeanwhile(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{Clusters: []string{"a"}})
	for i, model := range models {
		from, to := placement.Gate{Contracted: int64(10 * i), Needs: 1}, placement.Gate{Contracted: int64(10*i + 10), Needs: 1}
		r, _ := e.request(t, "in-"+string(model), model)
		seen, err := e.Catalog.LogEnd(t.Context())
		require.NoError(t, err)
		// Somebody who has looked at the homes before this one was there opens the gate.
		open := func(ctx context.Context) error {
			w, err := e.Catalog.OpenGate(ctx, from, to, seen, func(context.Context) ([]string, error) { return []string{"look"}, nil })
			require.Empty(t, w.For)
			return err
		}
		var built []int64 // where the gate stood at each build
		service := e.service(t, e.Catalog, builder(func(ctx context.Context, _ *pgx.Conn, _, _ string) error {
			gate, err := e.Catalog.Gate(ctx)
			if err != nil {
				return err
			}
			built = append(built, gate.Contracted)
			require.Equal(t, placement.StateProvisioning, e.tenant(t, r.ID).State)
			return open(ctx)
		}))
		p, err := service.Add(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, placement.StateActive, p.State)
		if model == placement.ModelShared {
			require.Empty(t, built)
			require.NoError(t, open(t.Context()), "nobody makes a home for it")
			continue
		}
		require.Equal(t, []int64{from.Contracted, to.Contracted}, built)
		w, err := e.Catalog.OpenGate(t.Context(), to, placement.Gate{Contracted: to.Contracted + 1}, seen,
			func(context.Context) ([]string, error) { return []string{"look"}, nil })
		require.NoError(t, err)
		require.Equal(t, []string{"look"}, w.For, "it is there now")
	}
}

func TestOlderFilesMakeNoHomeBehindTheGate(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{Clusters: []string{"a"}})
	service := e.service(t, e.Catalog, fleet.Builder{Catalog: e.Catalog, Set: sampleSet(t)})
	r, _ := e.request(t, "before", placement.ModelSchema)
	_, err := service.Add(t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, e.Catalog.RaiseGate(t.Context(), placement.Gate{Contracted: 6, Needs: 5}))
	for _, model := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		r, home := e.request(t, "after-"+string(model), model)
		_, err = service.Add(t.Context(), r)
		require.ErrorContains(t, err, "use the newer files")
		require.Empty(t, e.traces(t, r, home))
	}
}
