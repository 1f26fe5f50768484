package placement_test

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/placement"
)

func TestRouteHasAllThatIsNeededInEveryState(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	cl := aCluster("a")
	cl.Region, cl.Tier, cl.Capacity, cl.Connections, cl.State = "eu", "gold", 5, 30, placement.ClusterActive
	addClusters(t, c, cl)
	p := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelDatabase})

	route, err := c.Route(t.Context(), p.Tenant)
	require.NoError(t, err)
	none := placement.Database{Cluster: "a", Name: p.Home.Database}
	require.Equal(t, placement.Route{Placement: p, Database: none, Cluster: cl}, route)

	d := aDatabase("a", p.Home.Database)
	d.Model, d.Login = placement.ModelDatabase, placement.DedicatedLogin(p.Home.Database)
	require.NoError(t, c.PutDatabase(t.Context(), d))
	for _, s := range []placement.State{
		placement.StateProvisioning, placement.StateActive, placement.StateMoving, placement.StateActive, placement.StateSuspended, placement.StateRemoving,
	} {
		require.NoError(t, c.SetState(t.Context(), p.Tenant, s))
		p.State = s
		route, err := c.Route(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.Equal(t, placement.Route{Placement: p, Database: d, Cluster: cl}, route)
	}
	_, err = c.Route(t.Context(), newID(t))
	require.ErrorIs(t, err, placement.ErrUnknownTenant)
	require.NotErrorIs(t, err, placement.ErrUnavailable)
}

func TestRouteFailsFastWhenTheCatalogCannotBeReached(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never says a word
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())

	for name, addr := range map[string]string{"silent": silent.Addr().String(), "refused": gone.Addr().String()} {
		// An hour of retries would be noticed.
		c := open(t, placement.Config{DSN: "postgres://u:hunter2@" + addr + "/d?connect_timeout=1", Timeout: 50 * time.Millisecond, Retry: time.Hour})
		_, err := c.Route(t.Context(), newID(t))
		require.ErrorIs(t, err, placement.ErrUnavailable, name)
		require.NotErrorIs(t, err, placement.ErrUnknownTenant)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestRouteThatTheCallerGaveUpSaysNothingOfTheCatalog(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Route(ctx, newID(t))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, placement.ErrUnavailable)
}

func TestRouteComesBackWithTheNetwork(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	direct := open(t, placement.Config{DSN: dsn})
	addClusters(t, direct, aCluster("a"))
	p := place(t, direct, placement.Request{Slug: "acme"})
	net, through := proxied(t, dsn)
	c := open(t, placement.Config{DSN: through, Timeout: 100 * time.Millisecond})
	works := func() bool { _, err := c.Route(t.Context(), p.Tenant); return err == nil }

	require.Eventually(t, works, time.Minute, time.Millisecond)
	for _, breakNet := range []func(){net.Cut, net.Blackhole} {
		breakNet()
		_, err := c.Route(t.Context(), p.Tenant)
		require.ErrorIs(t, err, placement.ErrUnavailable)
		net.Restore()
		require.Eventually(t, works, time.Minute, time.Millisecond)
	}
}

func TestChangesWaitForTheCatalogToComeBack(t *testing.T) {
	t.Parallel()
	net, through := proxied(t, catalogDSN(t))
	waiting := make(chan struct{}, 1000)
	c := open(t, placement.Config{DSN: through, Logger: signalOnLog(waiting)})
	net.Cut()
	done := make(chan error, 1)
	go func() { done <- c.AddCluster(t.Context(), aCluster("a")) }()
	select { // it says so once
	case <-waiting:
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	}
	net.Restore()
	require.NoError(t, <-done)
	_, err := c.Cluster(t.Context(), "a")
	require.NoError(t, err)
}

func TestChangesThatCannotSucceedAreNotRetried(t *testing.T) {
	t.Parallel()
	retried := make(chan struct{}, 1000)
	c := open(t, placement.Config{DSN: catalogDSN(t) + "&dbname=placement_no_such_database", Logger: signalOnLog(retried)})
	_, err := c.Clusters(t.Context())
	require.ErrorIs(t, err, placement.ErrUnavailable)
	require.Empty(t, retried)
}

func TestChangeDoesNotWaitForEverForAnother(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	holder := connect(t, dsn)
	exec(t, holder, `begin`)
	exec(t, holder, `select landlord.lock_placement()`)
	c := open(t, placement.Config{DSN: dsn, Timeout: 50 * time.Millisecond, Retry: -1})
	require.ErrorIs(t, c.AddCluster(t.Context(), aCluster("a")), placement.ErrBusy)
	exec(t, holder, `rollback`)
	require.NoError(t, c.AddCluster(t.Context(), aCluster("a")))
}

func proxied(t testing.TB, dsn string) (*faultnet.Proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	p := faultnet.New(t, u.Host)
	through, err := p.Rewrite(dsn)
	require.NoError(t, err)
	return p, through
}
