package router_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestReadyWhileRoutingCanGoOn(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})

	t.Run("once the catalog has been reached, and for as long as it is remembered", func(t *testing.T) {
		t.Parallel()
		proxy, behind := n.behind(t)
		proxy.Cut()
		r := n.Router(t, behind)
		require.ErrorIs(t, r.Ready(t.Context()), router.ErrCatalogDown, "it was never reached")
		proxy.Restore()
		require.NoError(t, r.Ready(t.Context()))
		proxy.Cut()
		require.NoError(t, r.Ready(t.Context()))
		proxy.Restore()
	})

	t.Run("with cached placements, though nobody asked before", func(t *testing.T) {
		t.Parallel()
		for _, fail := range []func(*faultnet.Proxy){(*faultnet.Proxy).Cut, (*faultnet.Proxy).Blackhole} {
			proxy, behind := n.behind(t)
			r := n.Router(t, behind)
			emails(t, r.Tenant(n.here[placement.ModelShared].Tenant))
			fail(proxy)
			require.NoError(t, r.Ready(t.Context()))
			proxy.Restore()
		}
	})

	t.Run("not while a catalog that was never reached keeps silent", func(t *testing.T) {
		t.Parallel()
		proxy, behind := n.behind(t)
		proxy.Blackhole()
		r := n.Router(t, behind)
		require.Error(t, r.Ready(t.Context()), "and it says so before a probe gives up")
		proxy.Restore()
	})
}

func TestReadyThoughAClusterIsDownAndStatsShowWhich(t *testing.T) {
	t.Parallel()
	proxies := make(map[string]*faultnet.Proxy)
	h := testhouse.New(t, testhouse.Options{Endpoint: func(cluster, host string, port int) (string, int) {
		proxies[cluster] = faultnet.New(t, net.JoinHostPort(host, strconv.Itoa(port)))
		host, via, err := net.SplitHostPort(proxies[cluster].Addr())
		require.NoError(t, err)
		port, err = strconv.Atoi(via)
		require.NoError(t, err)
		return host, port
	}})
	onA, onB := h.Add(t, "on-a", placement.ModelShared, "a"), h.Add(t, "on-b", placement.ModelShared, "b")
	proxies["b"].Cut()
	r := h.Router(t)
	_, err := r.Tenant(onB.Tenant).Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrHomeDown)
	emails(t, r.Tenant(onA.Tenant))
	require.NoError(t, r.Ready(t.Context()))
	failed := make(map[string]bool)
	for _, s := range r.Stats().Pools {
		failed[s.Server] = s.Failed > 0
	}
	require.Equal(t, map[string]bool{"a": false, "b": true}, failed)
}
