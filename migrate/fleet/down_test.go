package fleet_test

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// behindProxy is a house with two clusters of n schema tenants, of which b can be cut off.
func behindProxy(t *testing.T, n int) (*testhouse.House, map[string][]placement.Placement, *faultnet.Proxy) {
	t.Helper()
	proxy := faultnet.New(t, pgtest.Server(t).Addr())
	h := testhouse.New(t, testhouse.Options{Endpoint: func(cluster, host string, port int) (string, int) {
		if cluster == "a" {
			return host, port
		}
		host, p, err := net.SplitHostPort(proxy.Addr())
		require.NoError(t, err)
		port, err = strconv.Atoi(p)
		require.NoError(t, err)
		return host, port
	}})
	all := make(map[string][]placement.Placement)
	for _, c := range h.Clusters {
		for i := range n {
			all[c] = append(all[c], h.Add(t, "schema-"+c+"-"+strconv.Itoa(i), placement.ModelSchema, c))
		}
	}
	return h, all, proxy
}

func TestAServerThatGoesAwayKeepsNoOtherFromBeingMigrated(t *testing.T) {
	t.Parallel()
	h, all, proxy := behindProxy(t, 3)
	set := with(t, "00004_note.sql", addNote)
	impatient := newFleet(t, h, set, func(c *fleet.Config) { c.Patience = 2 * time.Second })
	release := hold(t, h, all["b"][1].Home)
	var g errgroup.Group
	g.Go(func() error {
		s, err := impatient.Up(t.Context(), fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunFailed, s.Run.State)
			require.Equal(t, 1, s.Counts[placement.TargetFailed])
		}
		return err
	})
	verified(t, impatient, 7)
	proxy.Cut()
	require.NoError(t, g.Wait())
	release()
	for _, p := range all["a"] {
		require.True(t, has(t, h, p.Home, "note"))
	}

	// It comes back while a patient one is at it.
	patient := newFleet(t, h, set)
	g.Go(func() error {
		s, err := patient.Retry(t.Context(), nil, fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunDone, s.Run.State)
		}
		return err
	})
	time.Sleep(time.Second)
	proxy.Restore()
	require.NoError(t, g.Wait())
	for _, p := range all["b"] {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}
}

func TestAServerThatIsDownIsPartOfThePlan(t *testing.T) {
	t.Parallel()
	h, _, proxy := behindProxy(t, 1)
	proxy.Cut()
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), func(c *fleet.Config) { c.Patience = time.Second })
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Len(t, plan.Targets, 4)
	require.Len(t, plan.Groups, 2)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, map[placement.TargetState]int{placement.TargetVerified: 2, placement.TargetFailed: 2}, s.Counts)
}

func TestACatalogThatGoesAwayEndsTheProcessAndNotTheRun(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	proxy := faultnet.New(t, h.Server.Addr())
	dsn, err := proxy.Rewrite(h.CatalogDSN)
	require.NoError(t, err)
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Retry: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(catalog.Close)
	set := with(t, "00004_note.sql", addNote)
	f := newFleet(t, h, set, func(c *fleet.Config) { c.Catalog = catalog })
	release := hold(t, h, all[3].Home)
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(t.Context(), fleet.Options{})
		require.ErrorIs(t, err, placement.ErrUnavailable)
		require.ErrorContains(t, err, "landlord migrate resume")
		return nil
	})
	verified(t, newFleet(t, h, set), 4)
	proxy.Cut()
	release()
	require.NoError(t, g.Wait())

	s, err := newFleet(t, h, set).Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}
}
