package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// patience is how long a caller lets others go first for whom no connection has to be closed: about what making one takes
// on a busy server, so that a wait at most doubles.
const patience = 50 * time.Millisecond

// server is one server's connections. Whatever changes what may happen next ends with dispatch.
type server struct {
	cfg     Config
	starved chan<- struct{}
	making  context.Context // ends with the server
	cancel  context.CancelFunc
	drained chan struct{}  // closed when the server is closed and has no connections
	work    sync.WaitGroup // goroutines that make and close connections

	mu      sync.Mutex // guards what follows and all that hangs on it; no network call is made while holding it
	limit   int
	open    int // connections that are there, being made or being closed
	inUse   int // connections that callers have
	pinged  int // those of them that are being looked at first
	closing int // connections that are being closed, to be replaced by nothing
	waiting int // callers that wait
	peak    int // most of inUse + waiting since the last Demands
	serial  uint64
	closed  bool
	pools   map[string]*pool   // those with connections or waiters
	clients map[string]*client // those with connections or waiters
	turns   turns
	idle    *simplelru.LRU[*link, struct{}] // every idle connection, whatever its pool
	reaper  *time.Timer
	counts  counts
}

// pool is the connections that may stand in for each other.
type pool struct {
	key     string
	idle    []*link   // the one used last stands last
	size    int       // connections that are there, or being made
	making  []*waiter // for whom a connection is being made
	parked  []*waiter // waiting for the outcome of the first connection
	waiting int
}

func newServer(cfg Config, starved chan<- struct{}) *server {
	idle, err := simplelru.NewLRU[*link, struct{}](math.MaxInt, nil)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &server{
		cfg: cfg, starved: starved, making: ctx, cancel: cancel, drained: make(chan struct{}), limit: cfg.MaxConns,
		pools: make(map[string]*pool), clients: make(map[string]*client), idle: idle,
	}
}

// tryIdle returns an idle connection if one is at hand that was used of late, and nobody's turn comes first.
func (s *server) tryIdle(req Request) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pools[req.Pool]
	if s.closed || p == nil || len(p.idle) == 0 || len(s.turns) > 0 {
		return nil
	}
	l := s.pick(p, bucketOf(req.Affinity))
	if l == nil || l.old() {
		return nil
	}
	c := s.client(req.Client)
	if c.held >= s.clientLimit() {
		return nil
	}
	s.removeIdle(l)
	s.hold(c, 1)
	return s.handOut(l, c, req.Affinity)
}

// queue lets a caller wait for its turn.
func (s *server) queue(req Request) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	p := s.pools[req.Pool]
	if p == nil {
		p = &pool{key: req.Pool}
		s.pools[req.Pool] = p
	}
	s.serial++
	w := &waiter{req: req, pool: p, client: s.client(req.Client), turn: s.serial, since: time.Now(), answer: make(chan answer, 1)}
	p.waiting++
	s.waiting++
	w.client.waiting++
	w.client.queue = append(w.client.queue, w)
	s.turns.update(w.client, s.clientLimit())
	s.dispatch()
	s.peak = max(s.peak, s.inUse+s.waiting)
	return w, nil
}

// wait returns w's connection.
func (s *server) wait(ctx context.Context, w *waiter) (*Conn, error) {
	select {
	case a := <-w.answer:
		return a.conn, a.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.done {
		a := <-w.answer
		return a.conn, a.err
	}
	err := ctx.Err()
	full := s.limit == 0 || s.inUse > s.pinged // else it is the server that does not answer
	if w.state == queued && full && errors.Is(err, context.DeadlineExceeded) {
		s.counts.exhausted++
		err = s.exhausted(w.client)
	}
	s.leave(w)
	s.dispatch()
	return nil, err
}

// exhausted says why c waited in vain.
func (s *server) exhausted(c *client) error {
	if s.limit == 0 {
		return fmt.Errorf("%w: other processes have all that the server may have", ErrExhausted)
	}
	if c.held >= s.clientLimit() {
		return fmt.Errorf("%w: this client has the %d of the server's %d that it may have", ErrExhausted, c.held, s.limit)
	}
	return fmt.Errorf("%w: %d of %d that this process may have on the server", ErrExhausted, s.inUse, s.limit)
}

// dispatch gives out what there is, to whose turn it is, until nothing is left or nobody waits.
func (s *server) dispatch() {
	for len(s.turns) > 0 {
		w := s.next()
		p := w.pool
		l := s.pick(p, bucketOf(w.req.Affinity))
		var instead *link
		switch {
		case l != nil:
			s.removeIdle(l)
		case p.size > 0 && p.size == len(p.making): // nobody knows yet whether it can be reached
			s.unqueue(w)
			w.state = parked
			p.parked = append(p.parked, w)
			continue
		case s.open < s.limit:
			s.open++
		case s.idle.Len() > 0:
			instead, _, _ = s.idle.GetOldest()
			s.removeIdle(instead)
			s.leavePool(instead)
			s.counts.evicted++
		default:
			select {
			case s.starved <- struct{}{}:
			default: // somebody has said so already
			}
			return
		}
		s.unqueue(w)
		s.hold(w.client, 1)
		if l != nil {
			s.answer(w, l, nil)
			continue
		}
		w.state = making
		p.making = append(p.making, w)
		p.size++
		s.work.Go(func() { s.make(w, instead) })
	}
}

// next returns the waiter whose turn it is. Where a connection of another pool would have to be closed for it, one whose
// pool has an idle connection goes first, if its client has no more connections and the wait is not long yet: closing and
// making connections costs all of them more than the wait.
func (s *server) next() *waiter {
	first := s.turns[0]
	w := first.queue[0]
	if s.open < s.limit || s.idle.Len() == 0 || len(w.pool.idle) > 0 || time.Since(w.since) > patience {
		return w
	}
	quick := w
	for _, c := range s.turns {
		o := c.queue[0]
		if c.held == first.held && len(o.pool.idle) > 0 && (quick == w || o.turn < quick.turn) {
			quick = o
		}
	}
	return quick
}

// unqueue takes w out of its client's queue.
func (s *server) unqueue(w *waiter) {
	c := w.client
	i := slices.Index(c.queue, w)
	c.queue = slices.Delete(c.queue, i, i+1)
	s.turns.update(c, s.clientLimit())
}

// requeue lets a parked waiter wait for its turn again, where it stood.
func (s *server) requeue(w *waiter) {
	c := w.client
	w.state = queued
	i, _ := slices.BinarySearchFunc(c.queue, w.turn, func(w *waiter, turn uint64) int { return cmp.Compare(w.turn, turn) })
	c.queue = slices.Insert(c.queue, i, w)
	s.turns.update(c, s.clientLimit())
}

// answer ends w's wait. For a connection, its client holds it already.
func (s *server) answer(w *waiter, l *link, err error) {
	s.served(w)
	if err != nil {
		w.answer <- answer{err: err}
		s.forgetClient(w.client)
		return
	}
	w.answer <- answer{conn: s.handOut(l, w.client, w.req.Affinity)}
}

// leave ends w's wait without an answer.
func (s *server) leave(w *waiter) {
	s.served(w)
	switch w.state {
	case queued:
		s.unqueue(w)
	case parked:
		w.pool.parked = slices.DeleteFunc(w.pool.parked, func(o *waiter) bool { return o == w })
	case making: // the connection is made all the same, for whoever comes next
		s.hold(w.client, -1)
	}
	s.forgetClient(w.client)
	s.forgetPool(w.pool)
}

// served counts w as no longer waiting.
func (s *server) served(w *waiter) {
	w.done = true
	w.pool.waiting--
	w.client.waiting--
	s.waiting--
	s.counts.waited += time.Since(w.since)
}

// make makes a connection for w, after closing another one in its place.
func (s *server) make(w *waiter, instead *link) {
	if instead != nil {
		instead.end()
	}
	ctx, cancel := context.WithTimeout(s.making, s.cfg.AcquireTimeout)
	defer cancel()
	pg, err := w.req.Connect(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	p := w.pool
	p.making = slices.DeleteFunc(p.making, func(o *waiter) bool { return o == w })
	others := p.parked
	p.parked = nil
	if err != nil {
		s.counts.failed++
		s.open--
		p.size--
		for _, o := range others {
			s.answer(o, nil, err)
		}
		s.fail(w, err)
		s.forgetPool(p)
		s.dispatch()
		s.finished()
		return
	}
	s.counts.opened++
	for _, o := range others {
		s.requeue(o)
	}
	l := newLink(s, p, pg, w.req.Affinity)
	if !w.done {
		s.answer(w, l, nil)
	} else {
		s.keep(l)
	}
	s.dispatch()
	s.offer(l)
}

// fail tells w that no connection could be made for it, unless its pool has one that was only not the best for it.
func (s *server) fail(w *waiter, err error) {
	if w.done {
		return
	}
	if n := len(w.pool.idle); n > 0 {
		l := w.pool.idle[n-1]
		s.removeIdle(l)
		s.answer(w, l, nil)
		return
	}
	s.hold(w.client, -1)
	s.answer(w, nil, err)
}

// takeBack gets a connection back from a caller.
func (s *server) takeBack(c *Conn) {
	l := c.link
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.back {
		return
	}
	c.back = true
	s.inUse--
	if c.old {
		s.pinged--
	}
	s.hold(c.client, -1)
	switch {
	case !l.fit():
		s.discard(l)
	case l.worn(s.cfg):
		s.counts.retired++
		s.discard(l)
	default:
		s.keep(l)
	}
	s.dispatch()
	s.offer(l)
}

// keep makes a connection idle, or closes it where there is one too many.
func (s *server) keep(l *link) {
	if s.closed || s.open-s.closing > s.limit {
		s.discard(l)
		return
	}
	s.putIdle(l)
}

// discard closes a connection, whose place is free once the server has let it go.
func (s *server) discard(l *link) {
	s.leavePool(l)
	s.closing++
	s.work.Go(func() {
		l.end()
		s.mu.Lock()
		s.closing--
		s.open--
		s.dispatch()
		s.finished()
		s.mu.Unlock()
	})
}

func (s *server) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = max(limit, 0)
	for excess := s.open - s.closing - s.limit; excess > 0 && s.idle.Len() > 0; excess-- {
		l, _, _ := s.idle.GetOldest()
		s.removeIdle(l)
		s.discard(l)
	}
	for _, c := range s.clients { // how much each may have depends on it
		s.turns.update(c, s.clientLimit())
	}
	s.dispatch()
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.cancel()
	if s.reaper != nil {
		s.reaper.Stop()
	}
	for s.idle.Len() > 0 {
		l, _, _ := s.idle.GetOldest()
		s.removeIdle(l)
		s.discard(l)
	}
	for _, p := range s.pools {
		for _, w := range slices.Concat(p.parked, p.making) {
			s.refuse(w)
		}
		p.parked = nil
	}
	for _, c := range slices.AppendSeq(slices.Clone(s.turns), maps.Values(s.clients)) { // who may go on, and who has all
		for _, w := range c.queue {
			s.refuse(w)
		}
		c.queue = nil
		s.turns.update(c, s.clientLimit())
	}
	s.finished()
}

// refuse tells w that the pools are closed.
func (s *server) refuse(w *waiter) {
	if !w.done {
		s.answer(w, nil, ErrClosed)
	}
}

// finished tells Close that the last connection is gone.
func (s *server) finished() {
	if s.closed && s.open == 0 {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// leavePool takes a connection that is about to be closed out of its pool.
func (s *server) leavePool(l *link) {
	l.pool.size--
	s.forgetPool(l.pool)
}

// forgetPool drops a pool without connections and waiters.
func (s *server) forgetPool(p *pool) {
	if p.size == 0 && p.waiting == 0 && s.pools[p.key] == p {
		delete(s.pools, p.key)
	}
}
