package explore

import "slices"

// Protocol is what is explored, and how far.
type Protocol struct {
	Writes   uint8 // of each of the two clients: 1 or 2
	Attempts uint8 // at a cutover or a roll-back, all told: up to 3
	Rollback bool  // a roll-back may be tried; otherwise only forward, and then to complete
	Reader   bool  // there is one
	Variant  Variant
}

// Variant is a set of deviations from the protocol as it is. Most of them break it, which is what they are for.
type Variant uint32

// The variants.
const (
	LockAfterRow   Variant = 1 << iota // enter reads the row, then waits for the lock
	NoLock                             // the cutover does not take the writers' key
	NoShare                            // a REPEATABLE READ writer reads the row of its snapshot, without "for share"
	PositionFirst                      // the message goes before the drain
	NoCompare                          // the commit point does not ask whose attempt the row is of
	NoDeadline                         // nor whether its time has passed
	AnySession                         // a mover that has lost the session with the lock commits from another one
	NoLapse                            // enter refuses a fence whose time has passed
	LapseAtOnce                        // enter takes every fence for open that it meets under the shared lock
	NoApplierFence                     // whoever applies does not look at the row
	NoProgress                         // and moves its position whatever it was
	NoSequences                        // sequences stay as they are
	BareSequences                      // they are set to what the source has, whoever owns the target by now
	NoRecheck                          // whoever takes over does not look at its claim again
	BlindEnd                           // an abort or complete does not ask the fence of the home that stays
	OpenFirst                          // where the stream back begins is recorded after the target is open
)

func (p *Protocol) is(v Variant) bool { return p.Variant&v != 0 }

// step is one thing that somebody does at once.
type step struct {
	who  []string
	what string
	do   func(p *Protocol, s *state, actor uint8) bool // false: not now; s is spoilt then
}

var (
	theMovers  = []string{"mover 1", "mover 2"}
	theClients = []string{"the READ COMMITTED client", "the REPEATABLE READ client"}
)

// table is the protocol.
var table = slices.Concat(clientSteps, moverSteps, cutoverSteps, worldSteps)

// begin is a tenant at the source, whose rows are copied.
func (p *Protocol) begin() state {
	var s state
	s.homes[source].row = row{state: open, epoch: firstEpoch}
	s.homes[target].row = row{state: importing, epoch: firstEpoch + 1}
	s.progress[1] = noStream
	s.highest = firstEpoch
	s.catalog.home, s.catalog.epoch = source, firstEpoch
	for c := range s.clients {
		s.clients[c].home, s.clients[c].epoch = source, firstEpoch
	}
	s.reader.home, s.reader.epoch = source, firstEpoch
	return s
}

// admits says whether a writer of this epoch may enter by what it has read of the row.
func (p *Protocol) admits(s *state, r row, epoch uint8) bool {
	switch {
	case r.epoch != epoch:
		return false
	case r.state == fenced:
		return p.is(LapseAtOnce) || !p.is(NoLapse) && s.lapsed(r)
	}
	return r.state == open
}

// lapsed says whether the time of a fence has passed.
func (s *state) lapsed(r row) bool {
	return r.state == fenced && s.passed&bit(r.owner-firstAttempt) != 0
}

func bit(n uint8) uint8 { return 1 << n }

// updating says whether a commit that is under way has the row of home h locked.
func (s *state) updating(h uint8) bool {
	for m := range s.movers {
		if s.movers[m].op == passing && s.movers[m].on == h {
			return true
		}
	}
	return false
}

// change updates a fence row, unless somebody has it locked.
func (s *state) change(h uint8, r row) bool {
	if s.updating(h) || s.homes[h].sharing != 0 {
		return false
	}
	s.put(h, r)
	return true
}

// put commits a fence row.
func (s *state) put(h uint8, r row) {
	s.homes[h].row = r
	for c := range s.clients {
		if cl := &s.clients[c]; c == repeatable && cl.home == h && cl.at == begun {
			cl.behind = true
		}
	}
}

// write appends to what the stream of home h brings.
func (s *state) write(h uint8, i image) {
	s.homes[h].log[s.homes[h].len] = i
	s.homes[h].len++
}

// check is what has to hold in every state, and between two of them.
func (p *Protocol) check(before, after *state) property {
	opened := 0
	for h := range after.homes {
		o := &after.homes[h]
		if o.state == open || after.lapsed(o.row) && !p.is(NoLapse) {
			opened++
			if o.data&0xf != after.acked {
				return onceAtHome
			}
		}
	}
	switch r := after.reader; {
	case opened > 1:
		return oneOpen
	case after.catalog.epoch < before.catalog.epoch:
		return epochsRise
	case r.in && (after.homes[r.home].state == importing || after.homes[r.home].state == absent):
		return notImporting
	}
	return holds
}

// rests says whether the move is over, and the tenant open where the catalog says, and nowhere else is anything left.
func (p *Protocol) rests(s *state) bool {
	h := s.homes[s.catalog.home]
	return (s.catalog.phase == aborted || s.catalog.phase == done || s.catalog.phase == reverted) &&
		h.state == open && h.epoch == s.catalog.epoch && s.homes[1-s.catalog.home].state == absent
}
