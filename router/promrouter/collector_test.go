package promrouter_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/router/promrouter"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// crowd gives a house many tenants in shared tables at once.
func crowd(t *testing.T, h *testhouse.House, n int) []tenant.ID {
	t.Helper()
	p := h.Add(t, "first-of-many", placement.ModelShared, "a")
	catalog, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(context.WithoutCancel(t.Context()))
	ids, names := make([]tenant.ID, n), make([]string, n)
	for i := range ids {
		ids[i] = h.NewID(t)
		names[i] = ids[i].String()
	}
	const tenants = `insert into landlord.tenants (id, slug, state) select i, 't-' || i, 'active' from unnest($1::text[]) i`
	_, err = catalog.Exec(t.Context(), tenants, names)
	require.NoError(t, err)
	const placements = `
insert into landlord.placements (tenant, model, cluster, database, schema, epoch)
select i, model, cluster, database, schema, epoch from landlord.placements, unnest($1::text[]) i where tenant = $2`
	_, err = catalog.Exec(t.Context(), placements, names, p.Tenant.String())
	require.NoError(t, err)
	const fences = `
insert into landlord.fence (tenant, home, slug, model, epoch, state)
select i, home, 't-' || i, model, epoch, state from landlord.fence, unnest($1::text[]) i where tenant = $2`
	_, err = h.Super(t, p.Home.Database).Exec(t.Context(), fences, names, p.Tenant.String())
	require.NoError(t, err)
	return ids
}

// read collects, and returns every sample by its name and labels.
func read(t require.TestingT, reg *prometheus.Registry) map[string]float64 {
	families, err := reg.Gather()
	require.NoError(t, err)
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.Histogram != nil:
				all[name+" count"] = float64(m.Histogram.GetSampleCount())
				all[name+" sum"] = m.Histogram.GetSampleSum()
			case m.Counter != nil:
				all[name] = m.Counter.GetValue()
			default:
				all[name+" gauge"] = m.Gauge.GetValue()
			}
		}
	}
	return all
}

// of returns the samples of one metric.
func of(all map[string]float64, name string) map[string]float64 {
	some := make(map[string]float64)
	for n, v := range all {
		if strings.HasPrefix(n, name+"{") {
			some[n] = v
		}
	}
	return some
}

func TestMetricsFollowPrometheusConventions(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	p := h.Add(t, "one", placement.ModelSchema, "a")
	r := h.Router(t)
	c := promrouter.NewCollector(r, promrouter.Options{})
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	read(t, reg) // from now on the tenant is counted in other until it is elected
	_, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1")
	require.NoError(t, err)
	read(t, reg)
	for range 2 {
		_, _ = r.Tenant(p.Tenant).Exec(t.Context(), "insert into customers (email, name) values ('same', '')")
	}
	_, err = r.Tenant(h.NewID(t)).Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrUnknownTenant)

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	all := read(t, reg)
	for name, want := range map[string]float64{
		"landlord_calls_total{cluster=a,model=schema,outcome=ok}":          2,
		"landlord_calls_total{cluster=a,model=schema,outcome=sqlstate_23}": 1,
		"landlord_calls_total{cluster=-,model=-,outcome=unknown_tenant}":   1,
		"landlord_call_seconds{cluster=a,model=schema} count":              3,
		"landlord_retries_total{cluster=a,model=schema}":                   0,
		"landlord_placement_cache_entries{} gauge":                         1,
		"landlord_placement_cache_hits_total{}":                            2,
		"landlord_placement_cache_misses_total{}":                          2,
		"landlord_connections{cluster=a,state=open} gauge":                 1,
		"landlord_connections{cluster=a,state=in_use} gauge":               0,
		"landlord_connections_opened_total{cluster=a}":                     1,
		"landlord_tenant_calls_total{tenant=" + p.Tenant.String() + "}":    2,
		"landlord_tenant_errors_total{tenant=" + p.Tenant.String() + "}":   1,
		"landlord_tenant_calls_total{tenant=other}":                        1,
		"landlord_tenant_errors_total{tenant=other}":                       0,
	} {
		require.Contains(t, all, name)
		require.InDelta(t, want, all[name], 0, name)
	}
}

func TestSeriesAreFewHoweverManyTenantsThereAreAndOnlyGrow(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	ids := crowd(t, h, 10_000)
	r := h.Router(t)
	call := func(id tenant.ID, sql string) error {
		_, err := r.Tenant(id).Exec(t.Context(), sql)
		return err
	}
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(promrouter.NewCollector(r, promrouter.Options{})))
	var g errgroup.Group
	g.SetLimit(8)
	for i, id := range ids {
		if i%100 == 0 {
			read(t, reg)
		}
		g.Go(func() error { return call(id, "select 1") })
	}
	require.NoError(t, g.Wait())
	busy := ids[rand.N(len(ids))]
	read(t, reg)
	for range 5 {
		require.NoError(t, call(busy, "select pg_sleep(0.2)"))
		read(t, reg)
	}
	all := read(t, reg)
	require.Contains(t, all, "landlord_tenant_calls_total{tenant="+busy.String()+"}", "the busiest is shown")
	for _, name := range []string{"landlord_tenant_calls_total", "landlord_tenant_errors_total", "landlord_tenant_seconds_total"} {
		require.Len(t, of(all, name), 21)
	}
	require.Less(t, len(all), 120)
	require.InDelta(t, 10_005, all["landlord_calls_total{cluster=a,model=shared,outcome=ok}"], 0)

	rapid.Check(t, func(t *rapid.T) {
		seats := rapid.IntRange(1, 5).Draw(t, "seats")
		reg := prometheus.NewPedanticRegistry()
		require.NoError(t, reg.Register(promrouter.NewCollector(r, promrouter.Options{Tenants: seats})))
		last := read(t, reg)
		grown, began := 0.0, r.Stats().All.Calls
		for range rapid.IntRange(1, 12).Draw(t, "collections") {
			for range rapid.IntRange(0, 4).Draw(t, "calls") {
				// few of them often, so that they come, go and come back
				id := ids[rapid.OneOf(rapid.IntRange(0, 9), rapid.IntRange(0, len(ids)-1)).Draw(t, "tenant")]
				_ = call(id, rapid.SampledFrom([]string{"select 1", "select 1/0", "select pg_sleep(0.005)"}).Draw(t, "sql"))
			}
			now := read(t, reg)
			for name, v := range now {
				if before, there := last[name]; there && !strings.HasSuffix(name, " gauge") {
					require.GreaterOrEqual(t, v, before, name)
				}
			}
			for _, name := range []string{"landlord_tenant_calls_total", "landlord_tenant_errors_total", "landlord_tenant_seconds_total"} {
				require.LessOrEqual(t, len(of(now, name)), seats+1)
			}
			for name, v := range of(now, "landlord_tenant_calls_total") {
				grown += v - last[name]
			}
			last = now
		}
		require.InDelta(t, float64(r.Stats().All.Calls-began), grown, 0, "each call is in the growth of one series")
	})
}
