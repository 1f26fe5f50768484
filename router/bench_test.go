package router_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// BenchmarkCachedResolve is what a call costs to find its tenant's home. What the call costs beyond that is timed against
// plain pgx by `landlord bench`.
func BenchmarkCachedResolve(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	r := h.Router(b)
	p := h.Add(b, "cached", placement.ModelShared, "a")
	require.NoError(b, r.Resolve(b.Context(), p.Tenant))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Resolve(ctx, p.Tenant); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBesideABusyTenant is what a tenant's statement takes at the 99th percentile while another tenant of the same
// database keeps 200 slow queries under way, against what it takes alone. Both are measured by turns.
func BenchmarkBesideABusyTenant(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	quiet, busy := h.Add(b, "quiet", placement.ModelShared, "a"), h.Add(b, "busy", placement.ModelShared, "a")
	r := h.Router(b, func(cfg *router.Config) { cfg.Pools.AcquireTimeout = time.Minute })
	db := r.Tenant(quiet.Tenant)
	measure := func(into []time.Duration) []time.Duration {
		for range 200 {
			begun := time.Now()
			if _, err := db.Exec(b.Context(), "select count(*) from customers"); err != nil {
				b.Fatal(err)
			}
			into = append(into, time.Since(begun))
		}
		return into
	}
	measure(nil)
	var alone, beside []time.Duration
	for b.Loop() {
		alone = measure(alone)
		ctx, cancel := context.WithCancel(b.Context())
		var work sync.WaitGroup
		for range 200 {
			work.Go(func() {
				for ctx.Err() == nil {
					_, _ = r.Tenant(busy.Tenant).Exec(ctx, "select pg_sleep(0.05)")
				}
			})
		}
		for s := r.Stats().Pools; s[0].Waiting < 150; s = r.Stats().Pools {
			time.Sleep(time.Millisecond)
		}
		beside = measure(beside)
		cancel()
		work.Wait()
	}
	slices.Sort(alone)
	slices.Sort(beside)
	p99 := func(all []time.Duration) float64 { return float64(all[len(all)*99/100].Microseconds()) }
	b.ReportMetric(p99(alone), "µs-alone-p99")
	b.ReportMetric(p99(beside), "µs-beside-p99")
	b.ReportMetric(p99(beside)/p99(alone), "ratio-p99")
	b.ReportMetric(float64(beside[len(beside)/2])/float64(alone[len(alone)/2]), "ratio-median")
}
