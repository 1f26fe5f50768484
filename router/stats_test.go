package router_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// callsOf returns the calls of a model in s.
func callsOf(t *testing.T, s router.Stats, cluster string, m placement.Model) router.CallStats {
	t.Helper()
	for _, c := range s.Calls {
		if c.Cluster == cluster && c.Model == m {
			return c
		}
	}
	require.Failf(t, "no calls", "of %s on %q in %+v", m, cluster, s.Calls)
	return router.CallStats{}
}

func TestStatsCountEveryCallOnceByClusterModelAndOutcome(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, nil, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		require.Contains(t, emails(t, db), email(p))                     // query
		_, err := db.Exec(t.Context(), insertCustomer, "new@"+email(p))  // exec
		require.NoError(t, err)                                          //
		_, err = db.Exec(t.Context(), insertCustomer, "new@"+email(p))   // 23505
		require.Error(t, err)                                            //
		_, err = db.Exec(t.Context(), "set local lock_timeout = '1min'") // a block of its own
		require.NoError(t, err)
		var batch pgx.Batch
		batch.Queue("select 1")
		batch.Queue("select 2")
		require.NoError(t, db.SendBatch(t.Context(), &batch).Close())
		rows := [][]any{{"copied@" + email(p), "a name"}}
		_, err = db.CopyFrom(t.Context(), pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows(rows))
		require.NoError(t, err)
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error { // one, whatever it does
			emails(t, tx)
			_, err := tx.Exec(ctx, "select pg_sleep(0.03)")
			return err
		}))
		require.ErrorIs(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			emails(t, tx)
			return context.Canceled
		}), context.Canceled)
		require.PanicsWithValue(t, "caller's", func() {
			_ = db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				emails(t, tx)
				panic("caller's")
			})
		})
		_, err = db.Exec(t.Context(), "drop table customers") // got nowhere
		require.ErrorIs(t, err, router.ErrRefused)

		s := r.Stats()
		calls := callsOf(t, s, p.Home.Cluster, p.Model)
		require.Equal(t, map[string]int64{"ok": 6, "sqlstate_23": 1, "canceled": 1, "panic": 1}, calls.Outcomes)
		require.Zero(t, calls.Retries)
		require.GreaterOrEqual(t, calls.Took, 30*time.Millisecond)
		within := func(d time.Duration) (calls int64) {
			for _, b := range callsOf(t, s, p.Home.Cluster, p.Model).Buckets {
				if b.UpTo <= d {
					calls = b.Calls
				}
			}
			return calls
		}
		require.LessOrEqual(t, within(25*time.Millisecond), int64(8), "the one that slept is not among the fast ones")
		require.Equal(t, int64(9), within(10*time.Second))
		require.Equal(t, map[string]int64{"refused": 1}, callsOf(t, s, "", "").Outcomes)

		require.Len(t, s.Tenants, 1)
		require.Equal(t, p.Tenant, s.Tenants[0].Tenant)
		require.Equal(t, router.Use{Calls: 9, Errors: 3, Busy: calls.Took}, s.Tenants[0].Use)
		require.Equal(t, s.All, s.Tenants[0].Use)
		require.Equal(t, int64(1), s.Cache.Misses)
		require.Equal(t, int64(8), s.Cache.Hits)
		require.Equal(t, 1, s.Cache.Entries)
		require.Len(t, s.Pools, 1)
		require.Equal(t, p.Home.Cluster, s.Pools[0].Server)
		require.Positive(t, s.Pools[0].Opened)
	})
}

func TestStatsCountRetriesAndStalePlacements(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	for _, m := range models {
		p := n.here[m]
		r := n.Router(t)
		db := r.Tenant(p.Tenant)
		emails(t, db)
		n.move(t, p, true)
		require.Equal(t, []string{"moved@example.com"}, emails(t, db))
		s := r.Stats()
		require.Zero(t, callsOf(t, s, "a", m).Retries)
		require.Equal(t, int64(1), callsOf(t, s, "b", m).Retries)
		require.Equal(t, map[string]int64{"ok": 1}, callsOf(t, s, "b", m).Outcomes)
	}
}

func TestTenantsThatDoNotExistDisplaceNone(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	r := n.Router(t)
	emails(t, r.Tenant(p.Tenant))
	for range 100 {
		_, err := r.Tenant(n.NewID(t)).Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, router.ErrUnknownTenant)
	}
	s := r.Stats()
	require.Equal(t, map[string]int64{"unknown_tenant": 100}, callsOf(t, s, "", "").Outcomes)
	require.Len(t, s.Tenants, 1)
	require.Equal(t, int64(1), s.All.Calls)
}

func TestStatsOfManyTenantsStaySmallAndKeepTheHeaviest(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	r := h.Router(t)
	count := r.Counter("a")
	heavy := make(map[tenant.ID]int64)
	for range 20 {
		heavy[h.NewID(t)] = 0
	}
	const light = 200_000
	for i := range light {
		if i%1000 == 0 {
			for id := range heavy {
				count(t.Context(), id, time.Second)
				heavy[id]++
			}
		}
		count(t.Context(), h.NewID(t), time.Millisecond)
	}
	s := r.Stats()
	require.LessOrEqual(t, len(s.Tenants), 1024)
	for _, use := range s.Tenants[:len(heavy)] {
		require.Equal(t, heavy[use.Tenant], use.Calls, "what a heavy tenant took is counted exactly")
	}
	require.Equal(t, int64(light+len(heavy)*light/1000), s.All.Calls, "and nothing is lost of the others")
	var kept int64
	for _, use := range s.Tenants {
		kept += use.Calls
	}
	require.LessOrEqual(t, kept, s.All.Calls)
}

// BenchmarkCountedCall is what observing a call costs beyond the call itself.
func BenchmarkCountedCall(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{Clusters: []string{"a"}})
	for name, tenants := range map[string]int{"one-tenant": 1, "500-tenants": 500, "100000-tenants": 100_000} {
		ids := make([]tenant.ID, tenants)
		for i := range ids {
			ids[i] = h.NewID(b)
		}
		b.Run(name, func(b *testing.B) {
			r := h.Router(b)
			count := r.Counter("a")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				count(b.Context(), ids[i%len(ids)], 0)
				i++
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			r := h.Router(b)
			count := r.Counter("a")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				for i := 0; pb.Next(); i++ {
					count(ctx, ids[i%len(ids)], 0)
				}
			})
		})
	}
}
