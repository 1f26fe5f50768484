// Package pools keeps connections: one budget per server over any number of pools, opened when first asked for.
//
// It guarantees that no server gets more connections than its budget, those being made and being closed included; that a
// connection in use is never closed to make room, only the one that has been idle longest; that clients take turns, the
// one with the fewest connections first, and none takes all; that opening one pool never holds up another; that every wait
// ends; and that Close returns when every connection is back. What servers, pools and clients are is the caller's business:
// pools knows no tenant.
package pools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrExhausted reports that no connection came free within AcquireTimeout.
	ErrExhausted = errors.New("all connections are in use")
	// ErrClosed reports a call after Close.
	ErrClosed = errors.New("pools are closed")
)

// DefaultMaxConns is Config.MaxConns where that is 0.
const DefaultMaxConns = 10

// Config of Pools.
type Config struct {
	MaxConns       int           // connections per server until SetLimit says otherwise; 0: DefaultMaxConns
	MaxPerClient   int           // connections that one client may have of a server; 0: half of those, rounded up
	MaxAffinities  int           // a connection that has served more affinities than this is closed; 0: 200
	AcquireTimeout time.Duration // longest wait for a connection, making it included; 0: 5 s
	MaxIdleTime    time.Duration // a connection idle for longer is closed; 0: 5 min
	MaxLifetime    time.Duration // a connection older than this, give or take a tenth, is closed when it comes back; 0: 1 h
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	for name, below := range map[string]bool{
		"MaxConns": c.MaxConns < 0, "MaxPerClient": c.MaxPerClient < 0, "MaxAffinities": c.MaxAffinities < 0,
		"AcquireTimeout": c.AcquireTimeout < 0, "MaxIdleTime": c.MaxIdleTime < 0, "MaxLifetime": c.MaxLifetime < 0,
	} {
		if below {
			errs = append(errs, errors.New(name+" is below 0"))
		}
	}
	return errors.Join(errs...)
}

// Request says what a connection is for. Its strings are opaque: equal ones mean the same.
type Request struct {
	Server string // whose budget it counts against
	Pool   string // connections that may stand in for each other: the same server, database and login
	Client string // who asks, for limits and turns; empty: somebody without either
	// Affinity prefers a connection that has served it before. Each one costs memory in the server process that never comes
	// back, so a connection ends after MaxAffinities of them. Empty: none.
	Affinity string
	// Connect makes a connection of Pool. It runs on a goroutine of its own, and must end with its context, after
	// AcquireTimeout at the longest: its place in the budget is taken until then, and Close waits for it.
	Connect func(context.Context) (*pgconn.PgConn, error)
}

// Pools is a set of pools. It is safe for concurrent use.
type Pools struct {
	cfg     Config
	starved chan struct{}

	mu      sync.RWMutex // guards what follows; held for map accesses only
	servers map[string]*server
	closed  bool
}

// New returns an empty set. It starts nothing.
func New(cfg Config) (*Pools, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure pools: %w", err)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.MaxAffinities == 0 {
		cfg.MaxAffinities = 200
	}
	if cfg.AcquireTimeout == 0 {
		cfg.AcquireTimeout = 5 * time.Second
	}
	if cfg.MaxIdleTime == 0 {
		cfg.MaxIdleTime = 5 * time.Minute
	}
	if cfg.MaxLifetime == 0 {
		cfg.MaxLifetime = time.Hour
	}
	return &Pools{cfg: cfg, starved: make(chan struct{}, 1), servers: make(map[string]*server)}, nil
}

// Acquire returns a connection, which the caller must release. The error is Connect's, ctx's, ErrClosed, or after
// AcquireTimeout ErrExhausted or context.DeadlineExceeded (the server does not answer).
func (p *Pools) Acquire(ctx context.Context, req Request) (*Conn, error) {
	s, err := p.server(req.Server)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // nothing is to be made for somebody who has left
		return nil, fmt.Errorf("acquire a connection: %w", err)
	}
	if c := s.tryIdle(req); c != nil {
		return c, nil
	}
	limited, cancel := context.WithTimeout(ctx, p.cfg.AcquireTimeout)
	defer cancel()
	for {
		w, err := s.queue(req)
		if err != nil {
			return nil, err
		}
		c, err := s.wait(limited, w)
		switch {
		case err == nil && c.alive(limited):
			return c, nil
		case err == nil: // it died while it was idle
			if c.link.pg.IsClosed() && limited.Err() == nil {
				s.distrust(c.link.pool)
			}
			c.Release()
			continue
		case ctx.Err() == nil && errors.Is(err, ErrExhausted):
			return nil, fmt.Errorf("acquire a connection within %v: %w", p.cfg.AcquireTimeout, err)
		case ctx.Err() != nil:
			err = ctx.Err()
		}
		return nil, fmt.Errorf("acquire a connection: %w", err)
	}
}

// SetLimit gives a server's connections a new limit. Idle ones over it are closed at once, others when they come back.
func (p *Pools) SetLimit(name string, limit int) {
	if s, err := p.server(name); err == nil {
		s.setLimit(limit)
	}
}

// Starved is sent to when somebody begins to wait because a server's limit is reached.
func (p *Pools) Starved() <-chan struct{} { return p.starved }

// Close closes every connection and returns when the last one is back. Acquire then fails with ErrClosed, for those who
// wait already too.
func (p *Pools) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, s := range p.servers { // no server is added any more
		s.close()
	}
	for _, s := range p.servers {
		<-s.drained
		s.work.Wait()
	}
}

func (p *Pools) server(name string) (*server, error) {
	p.mu.RLock()
	s, closed := p.servers[name], p.closed
	p.mu.RUnlock()
	if s != nil || closed {
		return s, closedIf(closed)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.servers[name]; s == nil && !p.closed {
		s = newServer(p.cfg, p.starved)
		p.servers[name] = s
	}
	return s, closedIf(p.closed)
}

func closedIf(closed bool) error {
	if closed {
		return ErrClosed
	}
	return nil
}
