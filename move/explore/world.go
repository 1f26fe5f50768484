package explore

// worldSteps are what happens to everybody.
var worldSteps = []step{
	{[]string{"attempt 1", "attempt 2", "attempt 3"}, "runs out of time", func(_ *Protocol, s *state, n uint8) bool {
		n++
		for h := range s.homes {
			if r := s.homes[h].row; r.state == fenced && r.owner == n+firstAttempt {
				s.passed |= bit(n)
				return true
			}
		}
		return false
	}},
	{[]string{"a recoverer at the source", "a recoverer at the target"}, "sets the fence back", func(_ *Protocol, s *state, h uint8) bool {
		r := s.homes[h].row
		if !s.lapsed(r) || s.homes[h].alone != 0 || s.homes[h].inside != 0 {
			return false
		}
		r.state, r.owner = open, 0
		return s.change(h, r)
	}},
	{[]string{"a recoverer"}, "sees that the tenant has moved, and opens its new home", func(_ *Protocol, s *state, _ uint8) bool {
		mo := &mover{reverse: s.catalog.phase == reversing}
		from, _ := mo.sides()
		return (s.catalog.phase == moving || mo.reverse) && s.homes[from].state == moved && s.openTarget(mo)
	}},
	{[]string{"the source's server", "the target's server"}, "crashes and starts again", func(_ *Protocol, s *state, h uint8) bool {
		o := &s.homes[h]
		o.sharing, o.alone, o.inside = 0, 0, 0
		for c := range s.clients {
			if s.clients[c].home == h {
				s.leave(uint8(c))
			}
		}
		for m := range s.movers {
			mo := &s.movers[m]
			if _, to := mo.sides(); to == h {
				mo.apply = false
			}
			if mo.on == h && mo.op != none {
				mo.op = none
				s.forget(uint8(m))
			}
		}
		if s.reader.home == h {
			s.reader.in = false
		}
		return true
	}},
}
