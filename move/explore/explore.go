// Package explore walks every state that the cutover of a move can be in, and shows what holds in all of them.
//
// Tests show that the mover survives the faults that somebody thought of, at the moments that they happened to hit. Here two movers,
// two clients that write, one that reads, recoverers, both servers and the clock take turns in every order there is. A process
// may be held up for ever between any two of its steps, which is what a pause, a slow network and a zombie are; it may crash; a
// session may end under it, or outlive it with a commit in its buffer; a server may crash. Lock queues are left out: whoever
// could be granted a lock may be, which allows more than PostgreSQL does.
//
// What holds (the names are those of the tests of moves):
//
//   - I1: every acknowledged write is in the open home exactly once, and none is acknowledged after the position was taken of
//     an attempt that succeeds. Keys come from sequences, so one that was not advanced shows as a key used twice. The tenant's
//     rows are one value that each write changes and each entry of the stream replaces: one applied late takes something back.
//   - I2: never are two homes open, and nobody writes where the tenant is not open at the writer's epoch.
//   - I3: epochs only rise.
//   - I7: no attempt passes its commit point after its time.
//   - I9: nobody reads in a home that is being filled, or is gone.
//   - From every state some way leads to the end of the move, with the tenant open in one home and the other one gone.
//
// How the steps stand for the code:
//
//	client.go    landlord.enter: the lock, then the row (for share in REPEATABLE READ), then the transaction
//	mover.go     the claim, the take-over of the row that is written to, the claim again; the applier: that row for share, the
//	             tenant's rows and the position in one transaction; abort and complete: the other home's row under its lock,
//	             the record under the claim, the drop
//	cutover.go   the cutover in its order: the lock, the fence with the position, the applier at the position, sequences under
//	             the target's row, the commit point in two steps (its where clause, its commit), the target, the catalog
//	world.go     time, recoverers, servers
//
// A roll-back is the same steps with the homes exchanged; where Protocol.Rollback is set it follows the move forward.
//
// Each deviation that breaks something is a [Variant], and is found. It leaves the copy to the tests, and the order in which
// PostgreSQL makes commits visible to PostgreSQL.
package explore

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// Result is what an exploration has found.
type Result struct {
	States int
	Steps  int      // from one state to another, all told
	Broken string   // the property that does not hold; empty: all do
	Trace  []string // a shortest way to where it does not
}

func (r Result) String() string {
	size := fmt.Sprintf("%d states, %d steps: ", r.States, r.Steps)
	if r.Broken == "" {
		return size + "every property holds"
	}
	return size + r.Broken + "\n    " + strings.Join(r.Trace, "\n    ")
}

// explorer walks breadth first, so that the first violation it meets has a shortest trace. States are kept whole: two of them are
// never taken for one because their hashes are alike.
type explorer struct {
	p      Protocol
	states []state
	from   []uint32 // the state that each was first reached from
	by     []taken  // and how
	slots  []uint32 // hash table of indices + 1
	seed   maphash.Seed
	edges  []uint32 // all successors, state after state
	ends   []uint32 // where each state's edges end
}

// taken is a step that somebody took.
type taken struct{ step, who uint8 }

// Explore looks at everything that p can do. It stops at the first violation. It needs about 300 bytes for each state.
func Explore(p Protocol) Result {
	e := &explorer{p: p, slots: make([]uint32, 1<<16), seed: maphash.MakeSeed()}
	e.add(p.begin(), 0, taken{})
	for i := uint32(0); int(i) < len(e.states); i++ {
		if broken, way := e.expand(i); broken != holds {
			return e.result(broken, way)
		}
	}
	if i, ok := e.wedged(); ok {
		return e.result(neverWedged, e.way(i))
	}
	return e.result(holds, nil)
}

// expand takes every step that is possible in state i. Where one breaks a property, it returns the way there.
func (e *explorer) expand(i uint32) (property, []taken) {
	for n := range table {
		for who := range table[n].who {
			by := taken{uint8(n), uint8(who)}
			next := e.states[i]
			if !table[n].do(&e.p, &next, by.who) {
				continue
			}
			broken := next.broken
			if broken == holds {
				broken = e.p.check(&e.states[i], &next)
			}
			if broken != holds {
				return broken, append(e.way(i), by)
			}
			next.canonical()
			if next != e.states[i] {
				e.edges = append(e.edges, e.add(next, i, by))
			}
		}
	}
	e.ends = append(e.ends, uint32(len(e.edges)))
	return holds, nil
}

// add gives a state its number, a new one the first time.
func (e *explorer) add(s state, from uint32, by taken) uint32 {
	if 2*len(e.states) >= len(e.slots) {
		e.slots = make([]uint32, 4*len(e.slots))
		for i := range e.states {
			e.slots[e.slot(&e.states[i])] = uint32(i) + 1
		}
	}
	at := e.slot(&s)
	if e.slots[at] == 0 {
		e.states, e.from, e.by = append(e.states, s), append(e.from, from), append(e.by, by)
		e.slots[at] = uint32(len(e.states))
	}
	return e.slots[at] - 1
}

// slot is where s stands in the hash table, or where it belongs.
func (e *explorer) slot(s *state) int {
	mask := len(e.slots) - 1
	at := int(maphash.Comparable(e.seed, *s)) & mask
	for e.slots[at] != 0 && e.states[e.slots[at]-1] != *s {
		at = (at + 1) & mask
	}
	return at
}

// wedged finds a state from which the tenant cannot come to rest, whoever comes and helps.
func (e *explorer) wedged() (uint32, bool) {
	good := make([]bool, len(e.states))
	for changed := true; changed; {
		changed = false
		for i := len(e.states) - 1; i >= 0; i-- {
			if good[i] {
				continue
			}
			var begin uint32
			if i > 0 {
				begin = e.ends[i-1]
			}
			good[i] = e.p.rests(&e.states[i]) || slices.ContainsFunc(e.edges[begin:e.ends[i]], func(j uint32) bool { return good[j] })
			changed = changed || good[i]
		}
	}
	i := slices.Index(good, false)
	return uint32(i), i >= 0
}

// way is how state i was first reached.
func (e *explorer) way(i uint32) []taken {
	var way []taken
	for ; i != 0; i = e.from[i] {
		way = append(way, e.by[i])
	}
	slices.Reverse(way)
	return way
}

// result tells a way with the names that the movers had from its beginning: two states are one where only these are exchanged.
func (e *explorer) result(broken property, way []taken) Result {
	r := Result{States: len(e.states), Steps: len(e.edges)}
	if broken == holds {
		return r
	}
	r.Broken = broken.String()
	s := e.p.begin()
	exchanged := false
	for _, by := range way {
		st := &table[by.step]
		name := st.who[by.who]
		if i := slices.Index(theMovers, name); i >= 0 && exchanged {
			name = theMovers[1-i]
		}
		if !strings.HasPrefix(st.what, "'") {
			name += " "
		}
		r.Trace = append(r.Trace, name+st.what)
		st.do(&e.p, &s, by.who)
		s.broken = holds
		exchanged = s.canonical() != exchanged
	}
	return r
}
