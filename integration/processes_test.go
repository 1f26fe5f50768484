package integration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// relocate does by hand what a move does: the tenant is opened at a home on the other cluster, with one customer there.
func relocate(t *testing.T, h *testhouse.House, p placement.Placement, cluster string) placement.Placement {
	t.Helper()
	c, err := h.Catalog.Cluster(t.Context(), cluster)
	require.NoError(t, err)
	to := p
	to.Home, to.Epoch = placement.NewHome(placement.ModelShared, c, ""), p.Epoch+1
	target := h.Super(t, to.Home.Database)
	_, err = target.Exec(t.Context(), "insert into customers (tenant_id, email, name) values ($1, 'moved@example.com', 'x')", p.Tenant.String())
	require.NoError(t, err)
	source := h.Super(t, p.Home.Database)
	_, err = source.Exec(t.Context(), "update landlord.fence set state = 'moved' where tenant = $1", p.Tenant.String())
	require.NoError(t, err)
	require.NoError(t, isolation.PutFence(t.Context(), target, isolation.Fence{
		Tenant: p.Tenant.String(), Slug: string(p.Slug), Model: string(p.Model), Home: to.Home.String(), Epoch: to.Epoch, State: isolation.Open,
	}))
	require.NoError(t, h.Catalog.SetPlacement(t.Context(), p.Epoch, to))
	return to
}

func TestAPlacementChangedByOneProcessIsSeenByAnother(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	p := h.Add(t, "acme", placement.ModelShared, "a")
	c := startChild(t, h, h.CatalogDSN, p.Tenant)
	c.changed("all") // its watch is connected
	require.Equal(t, childAnswer{Rows: 0, Where: p.Home.Database + " public, extensions, pg_temp"}, c.query())

	to := relocate(t, h, p, "b")
	c.changed(p.Tenant.String())
	require.Equal(t, childAnswer{Rows: 1, Where: to.Home.Database + " public, extensions, pg_temp"}, c.query())
}

// cutOff is a house, a tenant in it, and a service that knows the tenant and whose way to the catalog then broke.
func cutOff(t *testing.T) (*testhouse.House, placement.Placement, *child, *faultnet.Proxy) {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{})
	p := h.Add(t, "acme", placement.ModelShared, "a")
	proxy := faultnet.New(t, h.Server.Addr())
	dsn, err := proxy.Rewrite(h.CatalogDSN)
	require.NoError(t, err)
	c := startChild(t, h, dsn, p.Tenant)
	c.changed("all")
	require.Empty(t, c.query().Error)
	proxy.Cut()
	return h, p, c, proxy
}

func TestAStalePlacementIsNeverActedOnWhenTheCatalogIsCutOff(t *testing.T) {
	t.Parallel()
	h, p, c, proxy := cutOff(t)
	to := relocate(t, h, p, "b")
	require.Equal(t, childAnswer{Error: "not here"}, c.query(), "the old home refuses, and nobody can say where the new one is")
	proxy.Restore()
	there := childAnswer{Rows: 1, Where: to.Home.Database + " public, extensions, pg_temp"}
	require.Eventually(t, func() bool { return c.query() == there }, 30*time.Second, 10*time.Millisecond)
}

func TestASuspendedTenantIsRefusedInAnotherProcessThatHasNotHeardOfIt(t *testing.T) {
	t.Parallel()
	h, p, c, _ := cutOff(t)
	acme, err := h.Catalog.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.NoError(t, h.Service.Suspend(t.Context(), acme))
	require.Equal(t, childAnswer{Error: "suspended"}, c.query())
}
