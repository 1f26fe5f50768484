package onboard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

func TestSetUpLeavesTheTablesAloneOnceTenantsLiveThere(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{Clusters: []string{"a"}})
	built := 0
	service := e.service(t, e.Catalog, builder(func(context.Context, *pgx.Conn, string, string) error { built++; return nil }))
	_, err := service.SetUp(t.Context(), e.cluster(t, "a"))
	require.NoError(t, err)
	require.Equal(t, 1, built)
	e.Add(t, "acme", placement.ModelShared, "a")
	changed, err := service.SetUp(t.Context(), e.cluster(t, "a"))
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Equal(t, 1, built)
}
