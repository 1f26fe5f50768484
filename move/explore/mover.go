package explore

// sides are the home that a mover takes the tenant from, and the one it takes it to.
func (m *mover) sides() (from, to uint8) {
	if m.reverse {
		return target, source
	}
	return source, target
}

// expected is what the row of the home that is written to must be, until it is opened.
func (m *mover) expected() fence {
	if m.reverse {
		return moved
	}
	return importing
}

// epoch is the one that the tenant has when it is moved.
func (m *mover) epoch() uint8 {
	if m.reverse {
		return firstEpoch + 2
	}
	return firstEpoch + 1
}

// direction is the stream's.
func (m *mover) direction() uint8 {
	if m.reverse {
		return 1
	}
	return 0
}

// owns says whether the home that mover m writes to says that it is its own.
func (s *state) owns(m uint8) bool {
	mo := &s.movers[m]
	_, to := mo.sides()
	return s.homes[to].state == mo.expected() && s.homes[to].owner == m+1
}

// crash ends mover m. The server notices in its own time.
func (s *state) crash(m uint8) {
	mo := &s.movers[m]
	if mo.apply {
		_, to := mo.sides()
		s.homes[to].sharing &^= bit(clients + m)
	}
	*mo = mover{op: mo.op, on: mo.on, attempt: mo.attempt, back: mo.back}
	s.forget(m)
}

// forget takes away what no longer makes a difference.
func (s *state) forget(m uint8) {
	if mo := &s.movers[m]; mo.op == none {
		mo.on = 0
		if mo.at <= following {
			mo.attempt, mo.back = 0, 0
		}
	}
}

// applied is where the stream is applied up to when an applier has come to entry n: what messages it has passed does not count.
func (s *state) applied(direction, n uint8) uint8 {
	h, first := &s.homes[source], uint8(0)
	if direction == 1 {
		h, first = &s.homes[target], s.progress[1]
	}
	for n > first && h.log[n-1].isMessage() {
		n--
	}
	return n
}

// moverSteps are a mover's but for the cutover: whose the move is, the applier, the end.
var moverSteps = []step{
	{theMovers, "claims the move", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != gone {
			return false
		}
		switch s.catalog.phase {
		case aborted, done, reverted:
			return false
		case reversing, completing, reverting:
			mo.reverse = true
		}
		mo.at, mo.phase = claimed, s.catalog.phase
		s.catalog.owner = m + 1
		return true
	}},
	{theMovers, "takes over the home that is written to", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != claimed {
			return false
		}
		from, to := mo.sides()
		switch {
		case mo.phase == reverting:
			mo.at = dropping
		case s.homes[from].state == moved:
			mo.at = opening
		case s.homes[to].state == mo.expected():
			r := s.homes[to].row
			r.owner = m + 1
			if !s.change(to, r) {
				return false
			}
			mo.at = owning
		case mo.phase == aborting || mo.phase == completing:
			mo.at = dropping
		default:
			s.crash(m)
		}
		return true
	}},
	{theMovers, "looks at its claim again", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != owning {
			return false
		}
		switch {
		case s.catalog.owner != m+1 && !p.is(NoRecheck):
			s.crash(m)
		case mo.phase == aborting || mo.phase == completing:
			mo.at = dropping
		default:
			mo.at, mo.next = following, s.progress[mo.direction()]
		}
		return true
	}},
	{theMovers, "'s applier begins a transaction, or passes a message", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		from, to := mo.sides()
		if mo.at < following || mo.at > routing || mo.apply || mo.next == s.homes[from].len {
			return false
		}
		next := s.homes[from].log[mo.next]
		switch {
		case next.isMessage() && mo.at <= draining && mo.at > following && next == message(mo.attempt):
			return false // the mover goes on from here
		case next.isMessage():
			mo.next++
		case p.is(NoApplierFence):
			mo.apply = true
		case s.updating(to):
			return false
		case !s.owns(m):
			s.crash(m)
		default:
			mo.apply = true
			s.homes[to].sharing |= bit(clients + m)
		}
		return true
	}},
	{theMovers, "'s applier writes and commits", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if !mo.apply {
			return false
		}
		from, to := mo.sides()
		if d := mo.direction(); !p.is(NoProgress) && s.progress[d] != s.applied(d, mo.next) {
			s.crash(m)
			return true
		}
		s.homes[to].sharing &^= bit(clients + m)
		mo.apply = false
		s.homes[to].data = s.homes[from].log[mo.next]
		if mo.reverse { // the stream forward would bring it back
			s.write(to, s.homes[to].data)
		}
		mo.next++
		s.progress[mo.direction()] = mo.next
		return true
	}},
	{theMovers, "is asked to end the move, and makes sure that nobody can commit", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		from, _ := mo.sides()
		if mo.at != following || mo.apply || !p.is(BlindEnd) && s.updating(from) {
			return false
		}
		switch r := s.homes[from].row; {
		case p.is(BlindEnd) || r.state == open:
			mo.at = ending
		case s.lapsed(r):
			r.state, r.owner = open, 0
			mo.at = ending
			return s.change(from, r)
		case r.state == moved:
			mo.at = opening
		default:
			return false
		}
		return true
	}},
	{theMovers, "records the end, if the claim is still its own", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != ending {
			return false
		}
		if s.catalog.owner != m+1 {
			s.crash(m)
			return true
		}
		mo.phase = aborting
		if mo.reverse {
			mo.phase = completing
		}
		s.catalog.phase, mo.at = mo.phase, dropping
		return true
	}},
	{theMovers, "drops the home that is not the tenant's", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != dropping {
			return false
		}
		_, h := mo.sides()
		left, end := mo.expected(), aborted
		switch mo.phase {
		case completing:
			end = done
		case reverting:
			h, left, end = target, moved, reverted
		}
		if s.homes[h].state != left {
			if s.catalog.owner == m+1 {
				s.catalog.phase = end
			}
			s.crash(m)
			return true
		}
		if s.reader.in && s.reader.home == h || s.homes[h].inside != 0 { // the readers' key
			return false
		}
		s.homes[h].data = 0
		return s.change(h, row{})
	}},
	{theMovers, "crashes", func(_ *Protocol, s *state, m uint8) bool {
		if s.movers[m].at == gone {
			return false
		}
		s.crash(m)
		return true
	}},
}
