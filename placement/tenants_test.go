package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestTenantsChangeStateOnlyAlongTheMap(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	const (
		provisioning = placement.StateProvisioning
		active       = placement.StateActive
		suspended    = placement.StateSuspended
		moving       = placement.StateMoving
		removing     = placement.StateRemoving
	)
	// Written out a second time on purpose: the states are promised in the documentation.
	legal := map[placement.State][]placement.State{
		provisioning: {active, removing}, active: {suspended, moving, removing}, suspended: {active, removing}, moving: {active},
	}
	states := []placement.State{provisioning, active, suspended, moving, removing}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		p := place(t, c, placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%d", n))})
		have := provisioning
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			to := rapid.SampledFrom(states).Draw(rt, "to")
			var from []placement.State
			if rapid.Bool().Draw(rt, "names from") {
				from = []placement.State{rapid.SampledFrom(states).Draw(rt, "from")}
			}
			err := c.SetState(t.Context(), p.Tenant, to, from...)
			ok := to == have || slices.Contains(legal[have], to) && (from == nil || slices.Contains(from, have))
			require.Equal(rt, ok, err == nil, "%s to %s from %v: %v", have, to, from, err)
			if err != nil {
				require.ErrorIs(rt, err, placement.ErrState)
				var wrong *placement.StateError
				require.ErrorAs(rt, err, &wrong)
				require.Equal(rt, have, wrong.Have)
				continue
			}
			have = to
		}
		got, err := c.Tenant(t.Context(), p.Tenant)
		require.NoError(rt, err)
		require.Equal(rt, have, got.State)
		require.Equal(rt, have == removing, got.RemovalDue) // without a grace period: at once
		require.EqualValues(rt, 1, got.Epoch)               // a state is no other home
	})
}

func TestRemovalCanBeTakenBackWithinItsGracePeriodOnly(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme"})
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))

	require.NoError(t, c.ScheduleRemoval(t.Context(), p.Tenant, time.Hour))
	got, err := c.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.NotNil(t, got.RemoveAfter)
	require.False(t, got.RemovalDue)
	require.ErrorIs(t, c.DeleteTenant(t.Context(), p.Tenant), placement.ErrState)
	require.ErrorContains(t, c.SetState(t.Context(), p.Tenant, placement.StateSuspended), "only landlord tenant resume calls the removal off")
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	got, err = c.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.Nil(t, got.RemoveAfter)

	require.NoError(t, c.ScheduleRemoval(t.Context(), p.Tenant, time.Hour))
	require.ErrorIs(t, c.SetState(t.Context(), p.Tenant, placement.StateRemoving, placement.StateProvisioning), placement.ErrState,
		"who undoes an onboarding cuts no grace period short")
	require.NoError(t, c.ScheduleRemoval(t.Context(), p.Tenant, 0)) // not waiting any longer
	for _, grace := range []time.Duration{0, time.Hour} {
		err := c.ScheduleRemoval(t.Context(), p.Tenant, grace)
		require.ErrorIs(t, err, placement.ErrState, "nothing changes, and that is said")
		require.ErrorContains(t, err, "landlord tenant remove --due")
	}
	got, err = c.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.True(t, got.RemovalDue, "a period that is over does not start anew: the home may be half gone")
	require.ErrorIs(t, c.SetState(t.Context(), p.Tenant, placement.StateActive), placement.ErrState)
	require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant))
	require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant)) // nothing to do
	_, err = c.Tenant(t.Context(), p.Tenant)
	require.ErrorIs(t, err, placement.ErrUnknownTenant)
	// Slug and place are free again, and the log remembers.
	place(t, c, placement.Request{Slug: "acme"})
	entries, err := c.Log(t.Context(), placement.LogFilter{Slug: "acme"})
	require.NoError(t, err)
	require.Equal(t, placement.KindPlaced, entries[0].Kind)
	require.Equal(t, p.Tenant, entries[0].Tenant)
	require.Equal(t, placement.KindRemoved, entries[len(entries)-2].Kind)
}

func TestUndoneProvisioningIsDeleted(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme"})
	require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant))
	// Whoever undoes it claims it first: then nobody finishes it any more.
	p = place(t, c, placement.Request{Slug: "acme"})
	require.NoError(t, c.ScheduleRemoval(t.Context(), p.Tenant, time.Hour), "but an incomplete home has no grace period")
	require.ErrorIs(t, c.SetState(t.Context(), p.Tenant, placement.StateActive, placement.StateProvisioning), placement.ErrState)
	require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant))
	usage, err := c.Usage(t.Context())
	require.NoError(t, err)
	require.Zero(t, usage[0].Tenants)
}

func TestStalePlacementLoses(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	p := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema, Cluster: "a"})

	moved := p
	moved.Home.Cluster, moved.Epoch = "b", 2
	require.NoError(t, c.SetPlacement(t.Context(), 1, moved))
	back := p
	back.Epoch = 3
	require.ErrorIs(t, c.SetPlacement(t.Context(), 1, back), placement.ErrStale)
	route, err := c.Route(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.Equal(t, moved, route.Placement)
	require.Equal(t, "b", route.Cluster.Name)

	require.NoError(t, c.SetPlacement(t.Context(), 2, back))
	require.ErrorContains(t, c.SetPlacement(t.Context(), 3, back), "epochs only rise")
	back.Epoch, back.Home.Cluster = 4, "zzz"
	require.ErrorIs(t, c.SetPlacement(t.Context(), 3, back), placement.ErrUnknownCluster)
	back.Home.Schema = "pg_catalog"
	require.ErrorContains(t, c.SetPlacement(t.Context(), 3, back), "reserved")
	require.Equal(t, []placement.Kind{placement.KindCluster, placement.KindCluster, placement.KindPlaced, placement.KindMoved, placement.KindMoved}, kinds(t, c))
}

func TestOnlySharedHomesAreShared(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema})
	q := place(t, c, placement.Request{Slug: "other", Model: placement.ModelSchema})
	q.Home, q.Epoch = p.Home, 2
	require.Error(t, c.SetPlacement(t.Context(), 1, q))
	got, err := c.Tenant(t.Context(), q.Tenant)
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Epoch)
}

func TestNobodyIsNotSomebody(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme"})
	none := tenant.ID{}
	_, err := c.Tenant(t.Context(), none)
	require.ErrorIs(t, err, tenant.ErrNone)
	_, err = c.TenantBySlug(t.Context(), "")
	require.ErrorIs(t, err, tenant.ErrNone)
	require.ErrorIs(t, c.SetState(t.Context(), none, placement.StateActive), tenant.ErrNone)
	require.ErrorIs(t, c.ScheduleRemoval(t.Context(), none, 0), tenant.ErrNone)
	require.ErrorIs(t, c.DeleteTenant(t.Context(), none), tenant.ErrNone)
	stolen := p
	stolen.Tenant, stolen.Epoch = none, 2
	require.ErrorIs(t, c.SetPlacement(t.Context(), 1, stolen), tenant.ErrNone)
	_, err = c.Route(t.Context(), none)
	require.ErrorIs(t, err, placement.ErrUnknownTenant)
	got, err := c.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.Equal(t, p, got.Placement())
}

func TestTenantsAreListedInPages(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	gold := aCluster("a")
	gold.Tier, gold.Region = "gold", "eu"
	addClusters(t, c, gold, aCluster("b"))
	for i := range 5 {
		place(t, c, placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%d", i)), Tier: "gold", Region: "eu"})
	}
	other := place(t, c, placement.Request{Slug: "other", Model: placement.ModelDatabase, Cluster: "b"})
	require.NoError(t, c.SetState(t.Context(), other.Tenant, placement.StateActive))

	var seen []tenant.Slug
	for page := (placement.Filter{Limit: 2, Cluster: "a"}); ; {
		found, err := c.Tenants(t.Context(), page)
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		require.LessOrEqual(t, len(found), 2)
		for _, f := range found {
			require.Equal(t, []string{"gold", "eu"}, []string{f.Tier, f.Region})
			seen = append(seen, f.Slug)
		}
		page.After = found[len(found)-1].Slug
	}
	require.Equal(t, []tenant.Slug{"t-0", "t-1", "t-2", "t-3", "t-4"}, seen)
	for _, f := range []placement.Filter{
		{State: placement.StateActive}, {Model: placement.ModelDatabase}, {Cluster: "b"}, {Database: other.Home.Database}, {Slug: "other"}, {ID: other.Tenant},
	} {
		found, err := c.Tenants(t.Context(), f)
		require.NoError(t, err)
		require.Len(t, found, 1, "%+v", f)
		require.Equal(t, other.Tenant, found[0].ID)
	}
	for _, f := range []placement.Filter{{Tier: "gold"}, {Region: "eu"}, {State: placement.StateProvisioning}} {
		found, err := c.Tenants(t.Context(), f)
		require.NoError(t, err)
		require.Len(t, found, 5, "%+v", f)
	}
}
