package explore

// canonical takes out of a state what makes no difference any more, so that states are the same that behave alike. It
// reports whether it has exchanged the movers.
func (s *state) canonical() bool {
	for m := range s.movers {
		mo := &s.movers[m]
		if mo.op == none {
			mo.on = 0
			if mo.at < locking || mo.at > doubting {
				mo.attempt, mo.back = 0, 0
			}
		}
		if mo.at < following || mo.at > routing {
			mo.next = 0
		}
		if mo.at > owning && mo.at < ending {
			mo.phase = 0
		}
	}
	for d := range s.progress {
		s.trim(uint8(d))
	}
	for n := range s.attempts {
		if n++; !s.current(n) && s.homes[source].owner != n+firstAttempt && s.homes[target].owner != n+firstAttempt {
			s.passed &^= bit(n)
		}
	}
	a, b := &s.movers[0], &s.movers[1]
	if a.rank() <= b.rank() {
		return false
	}
	*a, *b = *b, *a
	for h := range s.homes {
		o := &s.homes[h]
		o.owner, o.alone = other(o.owner), other(o.alone)
		o.sharing = o.sharing&3 | o.sharing&4<<1 | o.sharing&8>>1
	}
	for c := range s.clients {
		s.clients[c].saw.owner = other(s.clients[c].saw.owner)
	}
	s.catalog.owner = other(s.catalog.owner)
	return true
}

// other is the other mover's token.
func other(owner uint8) uint8 {
	if owner == 1 || owner == 2 {
		return 3 - owner
	}
	return owner
}

// rank puts movers into an order.
func (m *mover) rank() uint64 {
	r := uint64(m.at)
	for _, n := range []uint8{uint8(m.phase), m.attempt, m.next, uint8(m.op), m.on, m.back} {
		r = r<<8 | uint64(n)
	}
	r <<= 1
	if m.apply {
		r |= 1
	}
	r <<= 1
	if m.reverse {
		r |= 1
	}
	return r
}

// current says whether somebody is still about attempt n.
func (s *state) current(n uint8) bool {
	return s.movers[0].attempt == n || s.movers[1].attempt == n
}

// trim takes off a stream what everybody has applied, and messages that nobody waits for.
func (s *state) trim(d uint8) {
	h := &s.homes[d]
	drop := func(at uint8) {
		copy(h.log[at:], h.log[at+1:h.len])
		h.len--
		h.log[h.len] = 0
		for m := range s.movers {
			mo := &s.movers[m]
			if mo.direction() == d && mo.next > at && mo.at >= following && mo.at <= routing {
				mo.next--
			}
			if d == 1 && mo.back > at {
				mo.back--
			}
		}
		if s.progress[d] != noStream && s.progress[d] > at {
			s.progress[d]--
		}
	}
	for i := uint8(0); i < h.len; {
		if h.log[i].isMessage() && !s.current(uint8(h.log[i]>>4)) {
			drop(i)
		} else {
			i++
		}
	}
	first := s.progress[d]
	if first == noStream {
		first = 0
	}
	for m := range s.movers {
		if mo := &s.movers[m]; mo.direction() == d && mo.at >= following && mo.at <= routing {
			first = min(first, mo.next)
		}
	}
	for range min(first, h.len) {
		drop(0)
	}
}
