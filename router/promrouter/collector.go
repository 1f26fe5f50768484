// Package promrouter shows what a router has counted to Prometheus.
//
// It guarantees that the number of series does not grow with the number of tenants: those that take the most time have a
// series of their own, the others share one. The caller registers the collector and serves it.
package promrouter

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/landlord-go/landlord/router"
)

// Options of a collector.
type Options struct {
	Tenants int // tenants with series of their own; 0: 20; at most 1,000
}

// none is the cluster of a call that got nowhere, and the model of that and of work across tenants.
const none = "-"

var (
	calls = desc("calls_total", "Calls of tenants' handles, by how they ended. The statements of a transaction are part of its call.",
		"cluster", "model", "outcome")
	seconds = desc("call_seconds", "Duration of calls: waits, rows and callbacks included.", "cluster", "model")
	retries = desc("retries_total", "Tries beyond a call's first, because the tenant was not, or not yet, where it was looked for.",
		"cluster", "model")

	connections = desc("connections", "Connections that are open, in use, and allowed (limit), and callers waiting for one.", "cluster", "state")
	opened      = desc("connections_opened_total", "Connections made.", "cluster")
	failed      = desc("connections_failed_total", "Connections that could not be made.", "cluster")
	evicted     = desc("connections_evicted_total", "Idle connections closed to make room for another database's.", "cluster")
	retired     = desc("connections_retired_total", "Connections closed for their age or the schemas they have served.", "cluster")
	exhausted   = desc("acquire_exhausted_total", "Callers that waited in vain for a connection.", "cluster")
	waited      = desc("acquire_wait_seconds_total", "Time that callers have waited for connections.", "cluster")

	cacheEntries = desc("placement_cache_entries", "Placements in the cache.")
	cacheHits    = desc("placement_cache_hits_total", "Placements found in the cache.")
	cacheMisses  = desc("placement_cache_misses_total", "Placements that the catalog was asked for.")
	cacheStale   = desc("placement_cache_stale_total", "Outdated placements used because the catalog was down.")

	tenantCalls   = desc("tenant_calls_total", "Calls of a tenant since it is among the busiest; of all the others together.", "tenant")
	tenantErrors  = desc("tenant_errors_total", "Calls of a tenant that failed.", "tenant")
	tenantSeconds = desc("tenant_seconds_total", "Time that a tenant's calls have taken.", "tenant")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("landlord_"+name, help, labels, nil)
}

type collector struct {
	router *router.Router

	mu      sync.Mutex // guards tenants; held over a whole collection, so that they follow one another
	tenants election
}

// NewCollector returns a collector of r's statistics, which the caller registers, once per registry.
func NewCollector(r *router.Router, opts Options) prometheus.Collector {
	if opts.Tenants <= 0 {
		opts.Tenants = 20
	}
	return &collector{router: r, tenants: newElection(opts.Tenants)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		calls, seconds, retries, connections, opened, failed, evicted, retired, exhausted, waited,
		cacheEntries, cacheHits, cacheMisses, cacheStale, tenantCalls, tenantErrors, tenantSeconds,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.router.Stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.CounterValue, v, labels...) }

	for _, s := range stats.Calls {
		cluster, model := orNone(s.Cluster), orNone(string(s.Model))
		var all int64
		for outcome, n := range s.Outcomes {
			count(calls, float64(n), cluster, model, outcome)
			all += n
		}
		buckets := make(map[float64]uint64, len(s.Buckets))
		for _, b := range s.Buckets {
			buckets[b.UpTo.Seconds()] = uint64(b.Calls)
		}
		to <- prometheus.MustNewConstHistogram(seconds, uint64(all), s.Took.Seconds(), buckets, cluster, model)
		count(retries, float64(s.Retries), cluster, model)
	}
	for _, s := range stats.Pools {
		for state, n := range map[string]int{"open": s.Open, "in_use": s.InUse, "waiting": s.Waiting, "limit": s.Limit} {
			send(connections, prometheus.GaugeValue, float64(n), s.Server, state)
		}
		count(opened, float64(s.Opened), s.Server)
		count(failed, float64(s.Failed), s.Server)
		count(evicted, float64(s.Evicted), s.Server)
		count(retired, float64(s.Retired), s.Server)
		count(exhausted, float64(s.Exhausted), s.Server)
		count(waited, s.Waited.Seconds(), s.Server)
	}
	send(cacheEntries, prometheus.GaugeValue, float64(stats.Cache.Entries))
	count(cacheHits, float64(stats.Cache.Hits))
	count(cacheMisses, float64(stats.Cache.Misses))
	count(cacheStale, float64(stats.Cache.Stale))
	for tenant, use := range c.tenants.hold(stats.Tenants, stats.All) {
		count(tenantCalls, float64(use.Calls), tenant)
		count(tenantErrors, float64(use.Errors), tenant)
		count(tenantSeconds, use.Busy.Seconds(), tenant)
	}
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
