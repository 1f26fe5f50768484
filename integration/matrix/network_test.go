//go:build landlord_faults

package matrix_test

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/router"
)

// network lies between movers and the servers of the clusters, one proxy each. The catalog names the proxies; tenants go past them.
type network map[string]*faultnet.Proxy

// How long a network fails: torn, or dark.
const (
	tornFor = 2 * time.Second
	// darkFor is longer than a server may be silent to a mover, and a mover to a server, before they give each other up.
	darkFor = 25 * time.Second
)

// newNetwork returns a house all of whose ways to the clusters' servers lead through a network, but for its routers'.
func newNetwork(t *testing.T) (*testhouse.House, network) {
	t.Helper()
	n := network{}
	server := pgtest.Server(t)
	for _, cluster := range []string{"a", "b"} {
		n[cluster] = faultnet.New(t, server.Addr())
	}
	h := testhouse.New(t, testhouse.Options{Mode: isolation.Sealed, Endpoint: func(cluster, _ string, _ int) (string, int) {
		host, port, err := net.SplitHostPort(n[cluster].Addr())
		require.NoError(t, err)
		number, err := strconv.Atoi(port)
		require.NoError(t, err)
		return host, number
	}})
	for _, cluster := range h.Clusters {
		dsn, err := n[cluster].Rewrite(server.DSN)
		require.NoError(t, err)
		c, err := h.Catalog.Cluster(t.Context(), cluster)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(strings.TrimPrefix(string(c.Operator), "file:"), []byte(dsn), 0o600))
	}
	return h, n
}

// past lets a router go to the server itself.
func past(server pgtest.Info) func(*router.Config) {
	return func(c *router.Config) {
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server.Addr())
		}
	}
}

// failNetwork has the network of a mover fail that waits at its fault point, and lets both go on. The mover comes to its goal by
// itself, and meanwhile the tenant works, unless it is closed.
func (r *removal) failNetwork(m *mover, c cell) {
	r.t.Helper()
	clusters := map[string][]string{
		"source": {c.from.cluster}, "target": {c.to.cluster}, "both": {c.from.cluster, c.to.cluster},
	}[c.network()]
	fail, length := (*faultnet.Proxy).Cut, tornFor
	if strings.HasPrefix(c.how, "silent ") {
		fail, length = (*faultnet.Proxy).Blackhole, darkFor
	}
	heal := func() {
		for _, cluster := range clusters {
			r.net[cluster].Restore()
		}
	}
	defer heal() // also for the cells that come after a failed one
	over := time.After(length)
	for _, cluster := range clusters {
		fail(r.net[cluster])
	}
	r.away = c.closed()
	m.signal(syscall.SIGCONT)
	if !c.offline && !c.closed() {
		r.working()
	}
	select {
	case <-over:
	case err := <-m.exited:
		m.exited <- err
	}
	heal()
	require.NoError(r.t, m.wait(), m.said())
}
