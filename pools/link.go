package pools

import (
	"context"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	pingAfter = time.Second // a connection idle for longer is looked at before it is given out
	closeWait = time.Second // a server that is silent for longer has let a closed connection go, or never will
	buckets   = 8           // affinities are spread over so many connections of a pool before any serves two buckets
)

// link is one connection to a server.
type link struct {
	server    *server
	pool      *pool
	pg        *pgconn.PgConn
	bucket    int // of the affinity that it was made for
	served    map[uint64]struct{}
	dies      time.Time
	idleSince time.Time
}

// Conn is a connection in the hands of a caller, who must release it.
type Conn struct {
	link   *link
	client *client
	old    bool // to be looked at first; guarded, like back, by the server's lock
	back   bool // released
}

// PgConn returns the server connection, which the caller must not use after Release.
func (c *Conn) PgConn() *pgconn.PgConn { return c.link.pg }

// Release gives the connection back, or closes it unless it is open and idle. Another call does nothing.
func (c *Conn) Release() { c.link.server.takeBack(c) }

// alive tells whether the server still answers on a connection that was idle for long.
func (c *Conn) alive(ctx context.Context) bool {
	if !c.old {
		return true
	}
	s := c.link.server
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AcquireTimeout/5) // leaves time to make another
	defer cancel()
	if c.link.pg.Ping(ctx) != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.old = false
	s.pinged--
	return true
}

func newLink(s *server, p *pool, pg *pgconn.PgConn, affinity string) *link {
	life := s.cfg.MaxLifetime
	return &link{
		server: s, pool: p, pg: pg, bucket: bucketOf(affinity), served: make(map[uint64]struct{}),
		dies: time.Now().Add(life - life/10 + rand.N(life/5+1)), // not all at once
	}
}

// fit tells whether the connection can be used again.
func (l *link) fit() bool { return !l.pg.IsClosed() && !l.pg.IsBusy() && l.pg.TxStatus() == 'I' }

// old tells whether the connection was idle for so long that it may be dead.
func (l *link) old() bool { return !l.idleSince.IsZero() && time.Since(l.idleSince) > pingAfter }

// worn tells whether the connection has served its time.
func (l *link) worn(cfg Config) bool {
	return len(l.served) > cfg.MaxAffinities || time.Now().After(l.dies)
}

// end closes the connection and returns when the server has let it go, or after closeWait.
func (l *link) end() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	h, err := l.pg.Hijack() // pgconn does not wait for the server's end of it
	if err != nil {
		_ = l.pg.Close(ctx) // it is broken: nothing to learn
		select {
		case <-l.pg.CleanupDone():
		case <-ctx.Done():
			_ = l.pg.Conn().Close() // pgconn would wait 15 s for it, while its place is free
			l.server.work.Go(func() { <-l.pg.CleanupDone() })
		}
		return
	}
	defer h.Conn.Close()
	deadline, _ := ctx.Deadline()
	_ = h.Conn.SetDeadline(deadline)
	h.Frontend.Send(&pgproto3.Terminate{})
	if h.Frontend.Flush() == nil {
		_, _ = io.Copy(io.Discard, h.Conn) // ends with the server process
	}
}

var seed = maphash.MakeSeed()

// bucketOf returns an affinity's bucket, and -1 for none.
func bucketOf(affinity string) int {
	if affinity == "" {
		return -1
	}
	return int(maphash.String(seed, affinity) % buckets)
}

// pick returns the idle connection of p that suits best, which stays idle; nil where another one is to be made.
func (s *server) pick(p *pool, bucket int) *link {
	if len(p.idle) == 0 {
		return nil
	}
	l := p.idle[len(p.idle)-1]
	for _, o := range slices.Backward(p.idle) {
		if o.bucket == bucket {
			l = o
			break
		}
	}
	if bucket >= 0 && l.bucket != bucket && s.open < s.limit && p.size < buckets {
		return nil
	}
	return l
}

func (s *server) putIdle(l *link) {
	l.idleSince = time.Now()
	l.pool.idle = append(l.pool.idle, l)
	s.idle.Add(l, struct{}{})
	if s.idle.Len() == 1 {
		s.reapIn(s.cfg.MaxIdleTime)
	}
}

func (s *server) removeIdle(l *link) {
	s.idle.Remove(l)
	i := slices.Index(l.pool.idle, l)
	l.pool.idle = slices.Delete(l.pool.idle, i, i+1)
}

// handOut gives a connection to a caller, whose client holds it already.
func (s *server) handOut(l *link, c *client, affinity string) *Conn {
	s.inUse++
	s.peak = max(s.peak, s.inUse+s.waiting)
	if affinity != "" {
		l.served[maphash.String(seed, affinity)] = struct{}{}
	}
	conn := &Conn{link: l, client: c, old: l.old()}
	if conn.old {
		s.pinged++
	}
	return conn
}

// distrust closes what was idle for long in a pool where such a connection was dead: what killed that one has most likely
// killed them all, and to look at each takes a caller's time.
func (s *server) distrust(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range slices.Clone(p.idle) {
		if l.old() {
			s.removeIdle(l)
			s.discard(l)
		}
	}
}

// offer gives a connection, if it is idle, to somebody who waits for a new one of its pool: this one is here first, and the
// new one is for whoever comes next.
func (s *server) offer(l *link) {
	i := slices.IndexFunc(l.pool.making, func(w *waiter) bool { return !w.done })
	if i < 0 || !s.idle.Contains(l) {
		return
	}
	s.removeIdle(l)
	s.answer(l.pool.making[i], l, nil)
}

// reapIn closes, after d, what has been idle for MaxIdleTime by then.
func (s *server) reapIn(d time.Duration) {
	if s.reaper != nil {
		s.reaper.Reset(d)
		return
	}
	s.reaper = time.AfterFunc(d, s.reap)
}

func (s *server) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.idle.Len() > 0 && !s.closed {
		l, _, _ := s.idle.GetOldest()
		if left := s.cfg.MaxIdleTime - time.Since(l.idleSince); left > 0 {
			s.reapIn(left)
			return
		}
		s.removeIdle(l)
		s.discard(l)
	}
}
