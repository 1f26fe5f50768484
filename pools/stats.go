package pools

import "time"

// counts are what has happened on one server so far.
type counts struct {
	opened, failed, exhausted, evicted, retired int64
	waited                                      time.Duration
}

// Stats is the state of one server's connections, and what has happened since the start.
type Stats struct {
	Server  string
	Limit   int // connections that there may be
	Open    int // connections that are there, being made or being closed
	InUse   int // connections that callers have
	Waiting int // callers that wait

	Opened    int64         // connections made
	Failed    int64         // connections that could not be made
	Exhausted int64         // callers that waited in vain for one
	Evicted   int64         // idle connections closed to make room for another pool's
	Retired   int64         // connections closed because of their affinities or their age
	Waited    time.Duration // sum over all callers
}

// Stats returns the state of every server, in no particular order.
func (p *Pools) Stats() []Stats {
	var all []Stats
	p.each(func(name string, s *server) {
		all = append(all, Stats{
			Server: name, Limit: s.limit, Open: s.open, InUse: s.inUse, Waiting: s.waiting,
			Opened: s.counts.opened, Failed: s.counts.failed, Exhausted: s.counts.exhausted, Evicted: s.counts.evicted,
			Retired: s.counts.retired, Waited: s.counts.waited,
		})
	})
	return all
}

// Demand is what a server's callers need.
type Demand struct {
	Server  string
	Limit   int // connections that there may be
	Open    int // connections that are there, being made or being closed
	Waiting int // callers that wait
	Peak    int // most callers, with a connection or waiting, since the last call of Demands
}

// Demands returns what each server's callers have needed since the last call.
func (p *Pools) Demands() []Demand {
	var all []Demand
	p.each(func(name string, s *server) {
		all = append(all, Demand{Server: name, Limit: s.limit, Open: s.open, Waiting: s.waiting, Peak: s.peak})
		s.peak = s.inUse + s.waiting
	})
	return all
}

// each calls fn for every server, with its lock held.
func (p *Pools) each(fn func(name string, s *server)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for name, s := range p.servers {
		s.mu.Lock()
		fn(name, s)
		s.mu.Unlock()
	}
}
