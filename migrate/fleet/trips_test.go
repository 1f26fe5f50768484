package fleet_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// meter stands between a client and a server and counts how often the client speaks after the server has: round trips.
type meter struct {
	host  string
	port  int
	turns atomic.Int64
	bytes atomic.Int64
}

func newMeter(t *testing.T, server string) *meter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().(*net.TCPAddr)
	m := &meter{host: addr.IP.String(), port: addr.Port}
	var conns sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Wait()
	})
	conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { m.serve(client, server) })
		}
	})
	return m
}

func (m *meter) serve(client net.Conn, server string) {
	defer client.Close()
	backend, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer backend.Close()
	var answered atomic.Bool
	answered.Store(true)
	var both sync.WaitGroup
	pump := func(from, to net.Conn, note func()) {
		defer to.Close() // ends the other direction as well
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				note()
				m.bytes.Add(int64(n))
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() {
		pump(client, backend, func() {
			if answered.Swap(false) {
				m.turns.Add(1)
			}
		})
	})
	both.Go(func() { pump(backend, client, func() { answered.Store(true) }) })
	both.Wait()
}

// All that a run says to the catalog and to the homes, logins, plan, waves and ledger included, comes to two round trips for
// each home at most.
func TestARunCostsTwoRoundTripsForEachHome(t *testing.T) {
	t.Parallel()
	n := scale(300, 1000)
	server := pgtest.Server(t)
	m := newMeter(t, server.Addr())
	h := testhouse.New(t, testhouse.Options{
		Clusters: []string{"a"}, Endpoint: func(string, string, int) (string, int) { return m.host, m.port },
	})
	w := landlordWay(t, h, "landlord", true)
	var schemas []string
	for i := range n {
		schemas = append(schemas, fmt.Sprintf("t_%05d", i))
	}
	w.add(t, schemas)
	w.up(t, schemas, 3, 2)

	// The catalog by way of the meter too.
	dsn := strings.NewReplacer(server.Host, m.host, strconv.Itoa(server.Port), strconv.Itoa(m.port)).Replace(h.CatalogDSN)
	for i, workers := range []int{1, 4} {
		catalog := h.OpenCatalog(t, dsn)
		f := newFleet(t, h, files(t, 4+i), func(c *fleet.Config) { c.Workers, c.Catalog = workers, catalog })
		turns, bytes := m.turns.Load(), m.bytes.Load()
		s, err := f.Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, n+1, s.Counts[placement.TargetVerified])
		trips := float64(m.turns.Load()-turns) / float64(n)
		t.Logf("%d workers, %d homes: %.2f round trips and %d bytes for each", workers, n, trips, (m.bytes.Load()-bytes)/int64(n))
		if workers == 1 || n >= 1000 { // several workers share the end of a wave in smaller pages
			require.LessOrEqual(t, trips, 2.0)
		}
	}
}
