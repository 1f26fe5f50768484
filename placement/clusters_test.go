package placement_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
)

func TestClustersAreRecordedOnce(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	want := aCluster("a")
	want.Region, want.Tier, want.Capacity, want.Connections = "eu", "gold", 10, 0
	addClusters(t, c, want, aCluster("b"))
	require.ErrorIs(t, c.AddCluster(t.Context(), aCluster("a")), placement.ErrExists)

	want.State, want.Connections = placement.ClusterActive, placement.DefaultConnections
	got, err := c.Cluster(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, want, got)
	all, err := c.Clusters(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, want, all[0])
	_, err = c.Cluster(t.Context(), "zzz")
	require.ErrorIs(t, err, placement.ErrUnknownCluster)
}

func TestClusterProblemsAreReportedTogether(t *testing.T) {
	t.Parallel()
	err := placement.Cluster{
		Name: "A", Endpoint: "host=h password=hunter2", State: "closed", Capacity: -1, Connections: -1, SharedDatabase: "template1",
		Operator: "hunter2", App: "env:APP", Admin: "file:relative", Region: "a\nb",
	}.Validate()
	for _, part := range []string{"cluster name", "endpoint", "cluster state", "capacity", "connections", "database name", "operator: ", "admin: ", "region"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "app: ")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestClusterChangesFollowTheStateMachine(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	set := func(state placement.ClusterState) error {
		_, err := c.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error { c.State = state; return nil })
		return err
	}
	require.NoError(t, set(placement.ClusterFull))
	require.NoError(t, set(placement.ClusterDraining))
	require.ErrorContains(t, set(placement.ClusterFull), "set it active first")
	require.NoError(t, set(placement.ClusterActive))
	require.Error(t, set(""))
	for _, alter := range []func(c *placement.Cluster){
		func(c *placement.Cluster) { c.Name = "b" },
		func(c *placement.Cluster) { c.SharedDatabase = "other" },
		func(c *placement.Cluster) { c.Endpoint = "host=h user=u" },
		func(c *placement.Cluster) { c.Connections = 0 },
	} {
		_, err := c.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error { alter(c); return nil })
		require.Error(t, err)
	}
	refused := errors.New("changed my mind")
	_, err := c.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error { c.Capacity = 5; return refused })
	require.ErrorIs(t, err, refused)
	got, err := c.Cluster(t.Context(), "a")
	require.NoError(t, err)
	require.Zero(t, got.Capacity)
	_, err = c.UpdateCluster(t.Context(), "zzz", func(*placement.Cluster) error { return nil })
	require.ErrorIs(t, err, placement.ErrUnknownCluster)
}

func TestClusterInUseStays(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	p := place(t, c, placement.Request{Slug: "acme", Cluster: "a"})
	require.ErrorIs(t, c.RemoveCluster(t.Context(), "a"), placement.ErrInUse)
	require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant))
	require.NoError(t, c.PutDatabase(t.Context(), aDatabase("a", "app")))
	require.ErrorIs(t, c.RemoveCluster(t.Context(), "a"), placement.ErrInUse)
	require.NoError(t, c.DeleteDatabase(t.Context(), "a", "app"))
	require.NoError(t, c.RemoveCluster(t.Context(), "a"))
	require.ErrorIs(t, c.RemoveCluster(t.Context(), "a"), placement.ErrUnknownCluster)
}

func aDatabase(cluster, name string) placement.Database {
	return placement.Database{
		Cluster: cluster, Name: name, Model: placement.ModelShared, Stamp: "5f2c1b76-35c7-4ef5-9d4e-0d2b3d0a9c11", Mode: "sealed",
		HomeVersion: 1, Login: placement.SharedLogin,
	}
}

func TestDatabasesAreRecordedAndForgotten(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	d := aDatabase("a", "app")
	require.NoError(t, c.PutDatabase(t.Context(), d))
	d.HomeVersion = 2
	require.NoError(t, c.PutDatabase(t.Context(), d))
	require.NoError(t, c.PutDatabase(t.Context(), d)) // nothing to do, nothing logged
	all, err := c.Databases(t.Context())
	require.NoError(t, err)
	require.Equal(t, []placement.Database{d}, all)
	require.Equal(t, []placement.Kind{placement.KindCluster, placement.KindDatabase, placement.KindDatabase}, kinds(t, c))

	p := place(t, c, placement.Request{Slug: "acme"})
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	require.ErrorIs(t, c.DeleteDatabase(t.Context(), "a", "app"), placement.ErrInUse)
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateRemoving))
	require.NoError(t, c.DeleteDatabase(t.Context(), "a", "app"))
	require.NoError(t, c.DeleteDatabase(t.Context(), "a", "app"))

	require.ErrorIs(t, c.PutDatabase(t.Context(), aDatabase("zzz", "app")), placement.ErrUnknownCluster)
	err = c.PutDatabase(t.Context(), placement.Database{Cluster: "a", Name: "x\x00", Model: placement.ModelSchema, Stamp: "no"})
	for _, part := range []string{"database name", "model", "stamp", "login", "isolation mode"} {
		require.ErrorContains(t, err, part)
	}
}

func kinds(t testing.TB, c *placement.Catalog) (kinds []placement.Kind) {
	t.Helper()
	entries, err := c.Log(t.Context(), placement.LogFilter{})
	require.NoError(t, err)
	for _, e := range entries {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}
