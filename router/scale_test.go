package router_test

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// scale chooses between what a test does each time and what `make bench` asks for.
func scale(each, full int) int {
	if os.Getenv("LANDLORD_SCALE") == "full" {
		return full
	}
	return each
}

// Far more dedicated databases than connections, under random load: nobody fails or starves, and the server never has more
// connections than the budget.
func TestManyDedicatedDatabasesShareABudget(t *testing.T) {
	t.Parallel()
	databases, budget, callers, calls := scale(12, 1000), scale(4, 100), scale(16, 200), scale(20, 50)
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	setBudget(t, h, budget)
	tenants := dedicated(t, h, databases)
	app := "many " + h.NewID(t).String()[:8]
	r := running(t, h, app, func(cfg *router.Config) { cfg.Pools.AcquireTimeout = time.Minute })
	_, stop := watchConnections(t, h, app)

	waits := make([][]time.Duration, callers)
	begun := time.Now()
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for range calls {
				at := rand.IntN(databases)
				var got string
				asked := time.Now()
				err := r.Tenant(tenants[at]).QueryRow(t.Context(), "select current_database()").Scan(&got)
				waits[i] = append(waits[i], time.Since(asked))
				if err != nil {
					t.Errorf("call of tenant %d: %v", at, err)
					return
				}
			}
		})
	}
	work.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(waits...)))
	s := r.Stats().Pools[0]
	t.Logf("%d databases, %d connections: %d calls in %v, median %v, longest %v, %d connections made, %d evicted",
		databases, budget, len(all), time.Since(begun).Round(time.Millisecond), all[len(all)/2].Round(time.Millisecond),
		all[len(all)-1].Round(time.Millisecond), s.Opened, s.Evicted)
	require.Zero(t, s.Exhausted)
	require.Positive(t, s.Evicted)
	require.LessOrEqual(t, stop(), budget)
}

// dedicated adds tenants with a database each, two at a time.
func dedicated(t *testing.T, h *testhouse.House, n int) []tenant.ID {
	t.Helper()
	tenants := make([]tenant.ID, n)
	var work sync.WaitGroup
	for start := range 2 {
		work.Go(func() {
			for i := start; i < n; i += 2 {
				p, err := h.Service.Add(t.Context(), placement.Request{
					ID: h.NewID(t), Slug: tenant.Slug("dedicated-" + strconv.Itoa(i)), Model: placement.ModelDatabase, Cluster: "a",
				})
				if err != nil {
					t.Errorf("add tenant %d: %v", i, err)
					return
				}
				h.Forget(t, p)
				tenants[i] = p.Tenant
			}
		})
	}
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return tenants
}

// However many tenants there are, a router remembers as many as it was told to, and the rest cost one query each.
func TestMemoryIsBoundedByTheCacheNotByTheTenants(t *testing.T) {
	t.Parallel()
	tenants, size := scale(20_000, 1_000_000), scale(500, 10_000)
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	known := h.Add(t, "known", placement.ModelShared, "a")
	r := h.Router(t, func(cfg *router.Config) { cfg.CacheSize = size })
	require.NoError(t, r.Resolve(t.Context(), known.Tenant))

	catalog, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(t.Context())
	_, err = catalog.Exec(t.Context(), fmt.Sprintf(`
insert into landlord.tenants (id, slug, state) select md5(n::text)::uuid, 't' || n, 'active' from generate_series(1, %[1]d) n;
insert into landlord.placements (tenant, model, cluster, database, schema, epoch)
select md5(n::text)::uuid, model, cluster, database, schema, 1 from generate_series(1, %[1]d) n, (select * from landlord.placements) p;
analyze landlord.tenants, landlord.placements`, tenants))
	require.NoError(t, err)

	visit := func(n int) {
		for i := range n {
			id, err := tenant.UUID.Parse(uuid.UUID(md5.Sum([]byte(strconv.Itoa(i%tenants + 1)))).String())
			require.NoError(t, err)
			require.NoError(t, r.Resolve(t.Context(), id))
		}
	}
	visit(size)
	full := heapInUse()
	visit(tenants)
	after := heapInUse()
	t.Logf("%d tenants, %d remembered: heap %d KiB when the memory is full, %d KiB after all were visited", tenants, size, full>>10, after>>10)
	require.Equal(t, size, r.Stats().Cache.Entries)
	require.Less(t, after, full+uint64(1<<20)+full/4)
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a server process keeps of the schemas that it has met is bounded by the connection's retirement.
func TestBackendMemoryIsBoundedByRetirement(t *testing.T) {
	t.Parallel()
	schemas, limit := scale(24, 1000), scale(6, 200)
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	var tenants []tenant.ID
	for i := range schemas {
		tenants = append(tenants, h.Add(t, "schema-"+strconv.Itoa(i), placement.ModelSchema, "a").Tenant)
	}
	// The greatest catalog cache of a backend, in bytes, as each of them says itself at its last visit.
	largest := func(maxAffinities int) (bytes, backends int) {
		r := h.Router(t, one, func(cfg *router.Config) { cfg.Pools.MaxAffinities = maxAffinities })
		pids := make(map[int]bool)
		for _, id := range tenants {
			var pid, size int
			const q = `
select pg_backend_pid(), (select sum(total_bytes) from pg_backend_memory_contexts where name = 'CacheMemoryContext'),
       (select count(*) from customers), (select count(*) from orders)`
			require.NoError(t, r.Tenant(id).QueryRow(t.Context(), q).Scan(&pid, &size, nil, nil))
			bytes, pids[pid] = max(bytes, size), true
		}
		return bytes, len(pids)
	}
	h.SuperExec(t, databaseOf(t, h), "grant select on pg_backend_memory_contexts to public; grant execute on function pg_get_backend_memory_contexts to public")
	bounded, several := largest(limit)
	unbounded, single := largest(schemas + 1)
	t.Logf("%d schemas on one connection: %d KiB of catalog cache in its backend; retired after %d: %d KiB, %d backends",
		schemas, unbounded>>10, limit, bounded>>10, several)
	require.Equal(t, 1, single)
	require.Equal(t, (schemas+limit)/(limit+1), several)
	require.Less(t, bounded, unbounded)
}

// databaseOf is cluster a's shared database.
func databaseOf(t *testing.T, h *testhouse.House) string {
	t.Helper()
	c, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	return c.SharedDatabase
}
