package router

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

// Stats is what a router has counted since New. Whatever is not a size of now only grows. A call is one of a DB, or of Admin;
// the statements of a Tx are part of its call.
type Stats struct {
	Cache CacheStats
	Pools []pools.Stats // one per cluster that was used
	Calls []CallStats   // one per cluster and model that was used, and one of the calls that got nowhere
	// Tenants are those that take the most time, the heaviest of the last minutes first: about a thousand at most, however
	// many there are. All is the use of every tenant, those included. Calls that got nowhere are in neither: made-up ids
	// displace no tenant.
	Tenants []TenantUse
	All     Use
}

// CacheStats is the state of the placement cache.
type CacheStats struct {
	Entries int
	Hits    int64 // placements found in it
	Misses  int64 // placements that the catalog was asked for
	Stale   int64 // placements known to be old that were used all the same, because the catalog was down
}

// CallStats are the calls to one cluster's tenants of one model.
type CallStats struct {
	Cluster  string           // empty: the calls that got nowhere
	Model    placement.Model  // empty: those too, and work across tenants
	Outcomes map[string]int64 // calls by Outcome
	Retries  int64            // tries beyond each call's first
	Took     time.Duration    // sum of the calls' durations
	Buckets  []Bucket
}

// Bucket counts the calls that took no longer than UpTo.
type Bucket struct {
	UpTo  time.Duration
	Calls int64
}

// bounds of the buckets.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Stats returns what was counted until now.
func (r *Router) Stats() Stats {
	s := Stats{Cache: r.cache.counts(), Pools: r.pools.Stats()}
	r.stats.read(&s)
	return s
}

const (
	shards     = 16
	keptTenant = 1024 / shards // in each shard
)

// stats counts calls, in shards by tenant, so that calls wait for each other only if they are of the same tenant, or few.
type stats struct {
	epoch  time.Time
	seed   maphash.Seed
	shards [shards]shard

	mu   sync.Mutex // guards keys; taken before a shard's
	keys []seriesKey
}

type seriesKey struct {
	cluster string
	model   placement.Model
}

type shard struct {
	mu      sync.Mutex // guards what follows; held for a few counters
	series  []series   // by number, see stats.series
	all     Use
	tenants heavy
	_       [64]byte // keeps two shards off one cache line
}

type series struct {
	ok      int64
	failed  map[string]int64 // by outcome
	retries int64
	took    time.Duration
	buckets [len(bounds)]int64 // each of what the one before does not hold
}

func newStats() *stats {
	s := &stats{epoch: time.Now(), seed: maphash.MakeSeed(), keys: []seriesKey{{}}} // number 0: got nowhere
	for i := range s.shards {
		s.shards[i].tenants = newHeavy(keptTenant)
	}
	return s
}

// now returns the time since the statistics began: reading it costs half of time.Now.
func (s *stats) now() time.Duration { return time.Since(s.epoch) }

// series returns the number of a cluster's and model's series.
func (s *stats) series(cluster string, model placement.Model) int {
	key := seriesKey{cluster, model}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.keys, key)
	if i < 0 {
		i = len(s.keys)
		s.keys = append(s.keys, key)
	}
	return i
}

// add counts a call of id, which may be none. It ends now.
func (s *stats) add(id tenant.ID, w way, err error, started time.Duration) {
	now := s.now()
	took := now - started
	number, outcome := 0, ""
	if w.route != nil {
		number = w.route.series
	}
	if err != nil {
		outcome = Outcome(err)
	}
	bucket := 0
	for bucket < len(bounds) && took > bounds[bucket] {
		bucket++
	}
	sh := &s.shards[maphash.Comparable(s.seed, id)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for len(sh.series) <= number {
		sh.series = append(sh.series, series{})
	}
	c := &sh.series[number]
	if err == nil {
		c.ok++
	} else {
		if c.failed == nil {
			c.failed = make(map[string]int64)
		}
		c.failed[outcome]++
	}
	c.retries += int64(w.retries)
	c.took += took
	if bucket < len(bounds) {
		c.buckets[bucket]++
	}
	if w.route != nil && !id.IsZero() {
		sh.all.add(err != nil, took)
		sh.tenants.add(id, err != nil, now, took)
	}
}

// read fills into what was counted until now.
func (s *stats) read(into *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := make([]series, len(s.keys))
	for i := range sums {
		sums[i].failed = make(map[string]int64)
	}
	type candidate struct {
		use    TenantUse
		weight time.Duration
	}
	var heaviest []candidate
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for i := range sh.series {
			sums[i].add(&sh.series[i])
		}
		into.All.Calls += sh.all.Calls
		into.All.Errors += sh.all.Errors
		into.All.Busy += sh.all.Busy
		sh.tenants.age(s.now())
		for i, use := range sh.tenants.uses {
			heaviest = append(heaviest, candidate{use, sh.tenants.weights[i]})
		}
		sh.mu.Unlock()
	}
	for i, key := range s.keys {
		if c := sums[i].stats(key); len(c.Outcomes) > 0 {
			into.Calls = append(into.Calls, c)
		}
	}
	slices.SortStableFunc(heaviest, func(a, b candidate) int { return cmp.Compare(b.weight, a.weight) })
	for _, t := range heaviest {
		into.Tenants = append(into.Tenants, t.use)
	}
}

func (c *series) add(other *series) {
	c.ok += other.ok
	for outcome, n := range other.failed {
		c.failed[outcome] += n
	}
	c.retries += other.retries
	c.took += other.took
	for i, n := range other.buckets {
		c.buckets[i] += n
	}
}

// stats returns what c has counted, as Stats shows it.
func (c *series) stats(key seriesKey) CallStats {
	s := CallStats{Cluster: key.cluster, Model: key.model, Outcomes: maps.Clone(c.failed), Retries: c.retries, Took: c.took}
	if c.ok > 0 {
		s.Outcomes[Outcome(nil)] = c.ok
	}
	var calls int64
	for i, n := range c.buckets {
		calls += n
		s.Buckets = append(s.Buckets, Bucket{bounds[i], calls})
	}
	return s
}
