package explore

// cutoverSteps are an attempt of a mover's, either way: from the lock to the catalog.
var cutoverSteps = []step{
	{theMovers, "takes the position before the lock", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if !p.is(PositionFirst) || mo.at != following || s.attempts == p.Attempts || mo.op != none || mo.reverse && !p.Rollback {
			return false
		}
		from, _ := mo.sides()
		s.attempts++
		mo.attempt, mo.at = s.attempts, locking
		s.write(from, message(mo.attempt))
		return true
	}},
	{theMovers, "takes the lock alone, sets the fence and takes the position", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		from, _ := mo.sides()
		h := &s.homes[from]
		switch {
		case p.is(PositionFirst) && mo.at != locking,
			!p.is(PositionFirst) && (mo.at != following || s.attempts == p.Attempts || mo.reverse && !p.Rollback),
			mo.op != none,
			!p.is(NoLock) && (h.alone != 0 || h.inside != 0),
			s.updating(from):
			return false
		}
		switch {
		case h.state == moved:
			mo.at = opening
			return true
		case h.state != open && !s.lapsed(h.row):
			if p.is(PositionFirst) {
				mo.at = following
			}
			return p.is(PositionFirst)
		}
		if !p.is(NoLock) {
			h.alone = m + 1
		}
		if !p.is(PositionFirst) {
			s.attempts++
			mo.attempt = s.attempts
			s.write(from, message(mo.attempt))
		}
		mo.op, mo.on, mo.at = idle, from, draining
		return s.change(from, row{state: fenced, epoch: h.epoch, owner: mo.attempt + firstAttempt})
	}},
	{theMovers, "'s applier has come to the position", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		from, _ := mo.sides()
		if mo.at != draining || mo.apply || mo.next == s.homes[from].len || s.homes[from].log[mo.next] != message(mo.attempt) {
			return false
		}
		mo.at = counting
		mo.next++
		return true
	}},
	{theMovers, "sets sequences, if the target is its own", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != counting {
			return false
		}
		from, to := mo.sides()
		seq := &s.homes[to].seq
		switch {
		case p.is(BareSequences):
			*seq = s.homes[from].seq
		case s.updating(to):
			return false
		case !s.owns(m):
			mo.at = undoing
			return true
		case !p.is(NoSequences):
			*seq = max(*seq, s.homes[from].seq)
		}
		mo.at = deciding
		if !mo.reverse {
			mo.back = s.homes[to].len
		}
		return true
	}},
	{theMovers, "gives the attempt up", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != draining && mo.at != counting && mo.at != deciding {
			return false
		}
		mo.at = undoing
		return true
	}},
	{theMovers, "sends the commit", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != deciding {
			return false
		}
		switch from, _ := mo.sides(); {
		case mo.op == idle:
			mo.op, mo.at = asked, awaiting
		case p.is(AnySession):
			mo.op, mo.on, mo.at = asked, from, awaiting
		default:
			mo.at = undoing
		}
		return true
	}},
	{theMovers, "'s fence session finds the row its own and in time, or not", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.op != asked || s.updating(mo.on) {
			return false
		}
		r := s.homes[mo.on].row
		late := s.passed&bit(mo.attempt) != 0
		if (r.state != fenced || r.owner != mo.attempt+firstAttempt) && !p.is(NoCompare) || late && !p.is(NoDeadline) {
			mo.op = refused
			return true
		}
		if s.homes[mo.on].sharing != 0 {
			return false
		}
		if late {
			s.broken = inTime
		}
		mo.op = passing
		return true
	}},
	{theMovers, "'s fence session commits", func(p *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.op != passing {
			return false
		}
		mo.op = accepted
		h := &s.homes[mo.on]
		s.put(mo.on, row{state: moved, epoch: h.epoch, owner: m + 1})
		if mo.on == source && !p.is(OpenFirst) {
			s.progress[1] = mo.back
		}
		after := false
		for _, e := range h.log[:h.len] {
			if after && !e.isMessage() {
				s.broken = nothingAfter
			}
			after = after || e == message(mo.attempt)
		}
		return true
	}},
	{theMovers, "'s fence session ends", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.op == none {
			return false
		}
		if h := &s.homes[mo.on]; h.alone == m+1 {
			h.alone = 0
		}
		mo.op = none
		s.forget(m)
		return true
	}},
	{theMovers, "hears how the commit went", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != awaiting || mo.op != accepted && mo.op != refused {
			return false
		}
		mo.at = undoing
		if mo.op == accepted {
			mo.at = opening
		}
		return true
	}},
	{theMovers, "loses its session while it waits", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != awaiting {
			return false
		}
		mo.at = doubting
		return true
	}},
	{theMovers, "asks the row how the commit went", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != doubting {
			return false
		}
		from, _ := mo.sides()
		switch r := s.homes[from].row; {
		case r.state == moved:
			mo.at = opening
		case r.state == fenced && r.owner == mo.attempt+firstAttempt:
			mo.at = undoing
		default:
			mo.at = following
		}
		s.forget(m)
		return true
	}},
	{theMovers, "undoes its attempt", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != undoing {
			return false
		}
		from, _ := mo.sides()
		r := s.homes[from].row
		mo.at = following
		switch {
		case r.state == moved:
			mo.at = opening
		case r.state == fenced && r.owner == mo.attempt+firstAttempt:
			r.state, r.owner = open, 0
			if !s.change(from, r) {
				return false
			}
		}
		s.forget(m)
		return true
	}},
	{theMovers, "opens the target", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != opening {
			return false
		}
		mo.at = routing
		return s.openTarget(mo)
	}},
	{theMovers, "tells the catalog", func(_ *Protocol, s *state, m uint8) bool {
		mo := &s.movers[m]
		if mo.at != routing {
			return false
		}
		if s.progress[1] == noStream {
			s.progress[1] = s.homes[target].len // that is all that is known by now
		}
		s.route(mo)
		s.crash(m) // it goes on like one that comes anew
		return true
	}},
}

// openTarget opens the home that the tenant was moved to. Whoever has seen that it was may do so, and more than once.
func (s *state) openTarget(mo *mover) bool {
	_, to := mo.sides()
	if s.homes[to].state != mo.expected() {
		return true
	}
	if mo.epoch() <= s.highest {
		s.broken = epochsRise
	}
	s.highest = mo.epoch()
	return s.change(to, row{state: open, epoch: mo.epoch()})
}

// route makes the catalog follow, unless it knows of something newer.
func (s *state) route(mo *mover) {
	if s.catalog.epoch >= mo.epoch() {
		return
	}
	_, s.catalog.home = mo.sides()
	s.catalog.epoch = mo.epoch()
	s.catalog.phase = reversing
	if mo.reverse {
		s.catalog.phase = reverting
	}
}
