package pools

import "fmt"

// Inconsistent reports what is wrong with the books of any server, at any time: whatever changes them does so under one
// lock, and leaves nobody waiting for what is there.
func (p *Pools) Inconsistent() (err error) {
	p.each(func(name string, s *server) {
		if wrong := s.inconsistent(); wrong != "" && err == nil {
			err = fmt.Errorf("server %s: %s", name, wrong)
		}
	})
	return err
}

// Kept says how many idle connections, pools and clients a server remembers.
func (p *Pools) Kept(of string) (idle, ofPools, clients int) {
	p.each(func(name string, s *server) {
		if name == of {
			idle, ofPools, clients = s.idle.Len(), len(s.pools), len(s.clients)
		}
	})
	return idle, ofPools, clients
}

func (s *server) inconsistent() string {
	var size, idle, making, parked, forSomebody, waiting int
	for key, p := range s.pools {
		size, idle, making, parked, waiting = size+p.size, idle+len(p.idle), making+len(p.making), parked+len(p.parked), waiting+p.waiting
		for _, w := range p.making {
			if w.done {
				continue
			}
			forSomebody++
			if len(p.idle) > 0 && bucketOf(w.req.Affinity) < 0 {
				return "somebody waits for a connection being made while an idle one of its pool is there"
			}
		}
		if p.size == 0 && p.waiting == 0 && !s.closed {
			return "pool " + key + " is remembered for nothing"
		}
		if len(p.parked) > 0 && len(p.making) == 0 {
			return "pool " + key + " has parked callers whom nobody will wake"
		}
	}
	queued := 0
	seen := make(map[*client]bool)
	for i, c := range s.turns {
		seen[c] = true
		queued += len(c.queue)
		switch {
		case c.place != i+1:
			return "a client does not know its place"
		case i > 0 && s.turns.Less(i, (i-1)/2):
			return "turns are out of order"
		case len(c.queue) == 0 || c.held >= s.clientLimit():
			return "a client has a turn that must not have one"
		}
	}
	for key, c := range s.clients {
		if c.held == 0 && c.waiting == 0 && !s.closed || c.held < 0 {
			return fmt.Sprintf("client %s is remembered with %d connections", key, c.held)
		}
		if !seen[c] {
			queued += len(c.queue)
			if len(c.queue) > 0 && c.held < s.clientLimit() {
				return "client " + key + " has no turn"
			}
		}
	}
	switch {
	case idle != s.idle.Len():
		return fmt.Sprintf("%d idle in the pools, %d on the server", idle, s.idle.Len())
	case size != idle+making+s.inUse:
		return fmt.Sprintf("pools of %d connections: %d idle, %d being made, %d in use", size, idle, making, s.inUse)
	case size+s.closing != s.open:
		return fmt.Sprintf("%d open: %d in pools, %d being closed", s.open, size, s.closing)
	case waiting != s.waiting || waiting != queued+parked+forSomebody:
		return fmt.Sprintf("%d wait: %d in pools, %d queued, %d parked, %d for their own", s.waiting, waiting, queued, parked, forSomebody)
	case len(s.turns) > 0 && (s.open < s.limit || idle > 0):
		return fmt.Sprintf("%d clients wait for nothing: %d of %d open, %d idle", len(s.turns), s.open, s.limit, idle)
	case idle > 0 && s.open-s.closing > s.limit:
		return fmt.Sprintf("%d idle although %d are open and the limit is %d", idle, s.open-s.closing, s.limit)
	case s.pinged < 0 || s.pinged > s.inUse:
		return fmt.Sprintf("%d of %d in use are being looked at", s.pinged, s.inUse)
	}
	return ""
}
