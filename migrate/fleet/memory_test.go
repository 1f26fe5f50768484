package fleet_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// bareHomes makes n schema homes at once, without tables, that say they have the sample's files.
func bareHomes(t *testing.T, h *testhouse.House, n int) {
	t.Helper()
	c, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	const page = 1000 // a transaction's locks have their limits
	for from := 1; from <= n; from += page {
		h.SuperExec(t, c.SharedDatabase, fmt.Sprintf(`
do $$ begin
    for i in %d..%d loop
        execute format('create schema %%1$I authorization landlord_owner; grant usage, create on schema %%1$I to landlord_migrator', 't_' || i);
        insert into landlord.schema_version (schema, version, checksum, phase)
        select 't_' || i, version, checksum, phase from landlord.schema_version where schema = 'public';
    end loop;
end $$`, from, min(n, from+page-1)))
	}
	send(t, h.CatalogDSN, fmt.Sprintf(`
insert into landlord.tenants (id, slug, state) select md5(i::text)::uuid, 't-' || i, 'active' from generate_series(1, %[1]d) i;
insert into landlord.placements (tenant, model, cluster, database, schema, epoch)
select md5(i::text)::uuid, 'schema', 'a', '%[2]s', 't_' || i, 1 from generate_series(1, %[1]d) i`, n, c.SharedDatabase))
}

// However many homes there are, a run holds little of them, and a look at them that finds nothing to do is one query.
func TestTheClientsMemoryIsBoundedOverManyHomes(t *testing.T) { //nolint:paralleltest // it measures this process
	n := scale(200, 10_000)
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	bareHomes(t, h, n)
	f := newFleet(t, h, with(t, "00004_note.sql", "select 1;"), func(c *fleet.Config) { c.Workers = 4 })

	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	start := time.Now()
	s, err := f.Up(t.Context(), fleet.Options{})
	took := time.Since(start)
	close(stop)
	most := <-peak
	require.NoError(t, err)
	require.Equal(t, n+1, s.Counts[placement.TargetVerified])
	t.Logf("%d homes: a file that does nothing in %v, at most %d MB of heap", n, took.Round(time.Millisecond), most>>20)
	require.Less(t, most>>20, uint64(100))

	for range 3 {
		start = time.Now()
		s, err = f.Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, n+1, s.UpToDate)
		t.Logf("%d homes: nothing to do in %v", n, time.Since(start).Round(time.Millisecond))
	}
}
