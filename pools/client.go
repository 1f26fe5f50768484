package pools

import (
	"container/heap"
	"time"
)

// client is one of those who share a server.
type client struct {
	key     string // empty: stands for one caller only, and is in no map
	held    int    // connections that it has, or that are being made for it
	waiting int
	queue   []*waiter // those who wait for their turn, the longest first
	place   int       // in turns, from 1; 0: not there
}

// waiter is a caller that waits.
type waiter struct {
	req    Request
	pool   *pool
	client *client
	turn   uint64
	since  time.Time
	state  state
	done   bool        // answered, or gone
	answer chan answer // takes one without waiting
}

type state int

const (
	queued state = iota // for its turn
	parked              // for the outcome of its pool's first connection
	making              // for a connection of its own
)

type answer struct {
	conn *Conn
	err  error
}

func (s *server) client(key string) *client {
	if key == "" {
		return &client{}
	}
	c := s.clients[key]
	if c == nil {
		c = &client{key: key}
		s.clients[key] = c
	}
	return c
}

// forgetClient drops a client without connections and waiters.
func (s *server) forgetClient(c *client) {
	if c.key != "" && c.held == 0 && c.waiting == 0 {
		delete(s.clients, c.key)
	}
}

// clientLimit is how many connections one client may have: not all, unless there is one.
func (s *server) clientLimit() int {
	if s.cfg.MaxPerClient > 0 {
		return s.cfg.MaxPerClient
	}
	return max(1, (s.limit+1)/2)
}

// hold changes how many connections c has.
func (s *server) hold(c *client, n int) {
	c.held += n
	s.turns.update(c, s.clientLimit())
	s.forgetClient(c)
}

// turns is a heap of the clients that wait and may have another connection. The one with the fewest comes first, and of
// those the one that has waited longest.
type turns []*client

func (t *turns) update(c *client, limit int) {
	may := len(c.queue) > 0 && c.held < limit
	switch {
	case may && c.place == 0:
		heap.Push(t, c)
	case may:
		heap.Fix(t, c.place-1)
	case c.place > 0:
		heap.Remove(t, c.place-1)
	}
}

func (t turns) Len() int { return len(t) }

func (t turns) Less(i, j int) bool {
	if t[i].held != t[j].held {
		return t[i].held < t[j].held
	}
	return t[i].queue[0].turn < t[j].queue[0].turn
}

func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (t *turns) Push(x any) {
	c := x.(*client)
	*t = append(*t, c)
	c.place = len(*t)
}

// Pop implements heap.Interface.
func (t *turns) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	c.place = 0
	return c
}
