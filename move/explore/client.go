package explore

// clientSteps are what those do who use the tenant: landlord.enter, a write, the commit.
var clientSteps = []step{
	{theClients, "begins", func(p *Protocol, s *state, c uint8) bool {
		cl := &s.clients[c]
		if cl.at != outside || cl.wrote == p.Writes || c != repeatable && !p.is(LockAfterRow) {
			return false
		}
		cl.at, cl.saw = begun, s.homes[cl.home].row
		return true
	}},
	{theClients, "shares the lock and reads the row", func(p *Protocol, s *state, c uint8) bool {
		cl := &s.clients[c]
		h := &s.homes[cl.home]
		waits := begun
		if c != repeatable && !p.is(LockAfterRow) {
			waits = outside
		}
		if cl.at != waits || cl.wrote == p.Writes || !p.is(NoLock) && h.alone != 0 {
			return false
		}
		r := h.row
		switch {
		case p.is(LockAfterRow), c == repeatable && p.is(NoShare):
			r = cl.saw
		case c != repeatable:
		case s.updating(cl.home):
			return false
		case cl.behind: // 40001
			s.leave(c)
			return true
		}
		if !p.admits(s, r, cl.epoch) {
			s.refuse(c, r)
			return true
		}
		h.inside |= bit(c)
		if c == repeatable && !p.is(NoShare) {
			h.sharing |= bit(c)
		}
		cl.at, cl.saw, cl.behind = entered, row{}, false
		return true
	}},
	{theClients, "writes and commits", func(p *Protocol, s *state, c uint8) bool {
		cl := &s.clients[c]
		if cl.at != entered {
			return false
		}
		h := &s.homes[cl.home]
		if !p.admits(s, h.row, cl.epoch) {
			s.broken = oneOpen
		}
		h.seq++
		id := image(0x10) << (h.seq - 1)
		if h.data&id != 0 {
			s.broken = onceAtHome
		}
		mark := image(1) << (c*p.Writes + cl.wrote)
		h.data |= id | mark
		s.acked |= mark
		s.write(cl.home, h.data)
		cl.wrote++
		s.leave(c)
		return true
	}},
	{[]string{"the reader"}, "enters", func(p *Protocol, s *state, _ uint8) bool {
		if !p.Reader || s.reader.in {
			return false
		}
		r := s.homes[s.reader.home].row
		switch {
		case (r.state == open || r.state == fenced) && r.epoch == s.reader.epoch:
			s.reader.in = true
		case r.state == moved:
			s.reader.home, s.reader.epoch = 1-s.reader.home, r.epoch+1
		case r.state == absent || r.epoch != s.reader.epoch:
			s.reader.home, s.reader.epoch = s.catalog.home, s.catalog.epoch
		}
		return true
	}},
	{[]string{"the reader"}, "ends", func(_ *Protocol, s *state, _ uint8) bool {
		s.reader.in = false
		return true
	}},
}

// leave ends a client's transaction.
func (s *state) leave(c uint8) {
	cl := &s.clients[c]
	s.homes[cl.home].inside &^= bit(c)
	s.homes[cl.home].sharing &^= bit(c)
	cl.at, cl.saw, cl.behind = outside, row{}, false
}

// refuse sends a client away, to where the row says, or the catalog.
func (s *state) refuse(c uint8, r row) {
	s.leave(c)
	cl := &s.clients[c]
	switch {
	case r.state == moved:
		cl.home, cl.epoch = 1-cl.home, r.epoch+1
	case r.state == absent || r.epoch != cl.epoch:
		cl.home, cl.epoch = s.catalog.home, s.catalog.epoch
	}
}
