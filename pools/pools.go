// Package pools keeps one bounded pool of connections per key, opened on first use.
//
// It guarantees that opening one key never holds up another, that several callers of a new key open it once, that every
// wait for a connection ends, and that Close returns when every connection is back. What a key stands for (a server, a
// database, a login) is the caller's business: pools knows no tenant.
package pools

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"
)

var (
	// ErrExhausted reports that every connection of the key's pool stayed in use for the whole AcquireTimeout.
	ErrExhausted = errors.New("all connections are in use")
	// ErrClosed reports a call after Close.
	ErrClosed = errors.New("pools are closed")
)

// Config of Pools.
type Config struct {
	MaxConns       int32         // connections per key; 0: 10
	AcquireTimeout time.Duration // longest wait for a connection, opening it included; 0: 5 s
	MaxIdleTime    time.Duration // a connection idle for longer is closed; 0: 5 min
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	if c.MaxConns < 0 {
		errs = append(errs, errors.New("MaxConns is below 0"))
	}
	if c.AcquireTimeout < 0 {
		errs = append(errs, errors.New("AcquireTimeout is below 0"))
	}
	if c.MaxIdleTime < 0 {
		errs = append(errs, errors.New("MaxIdleTime is below 0"))
	}
	return errors.Join(errs...)
}

// Pools is a set of pools by key. It is safe for concurrent use.
type Pools struct {
	cfg     Config
	opening singleflight.Group

	mu     sync.RWMutex // guards what follows; held for map accesses only
	open   map[string]*pool
	closed bool
}

// pool is the pool of one key.
type pool struct {
	*pgxpool.Pool
	held   atomic.Int32 // connections that callers have
	served atomic.Int64 // connections given out so far
}

// Conn is a connection of a pool. Its caller must release it.
type Conn struct {
	conn *pgxpool.Conn
	pool *pool // nil once released
}

// PgConn returns the server connection, which the caller must not use after Release.
func (c *Conn) PgConn() *pgconn.PgConn { return c.conn.Conn().PgConn() }

// Release gives the connection back, or closes it unless it is open and idle. Another call does nothing.
func (c *Conn) Release() {
	if c.pool == nil {
		return
	}
	c.conn.Release()
	c.pool.held.Add(-1)
	c.pool = nil
}

// New returns an empty set.
func New(cfg Config) (*Pools, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure pools: %w", err)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 10
	}
	if cfg.AcquireTimeout == 0 {
		cfg.AcquireTimeout = 5 * time.Second
	}
	if cfg.MaxIdleTime == 0 {
		cfg.MaxIdleTime = 5 * time.Minute
	}
	return &Pools{cfg: cfg, open: make(map[string]*pool)}, nil
}

// Opener says how the connections of a key are made. It is called once per key, and again if it failed.
type Opener func() (*pgxpool.Config, error)

// Acquire returns a connection of key's pool, which the caller must release. The error is the opener's, the server's
// refusal, ctx's, or after AcquireTimeout ErrExhausted or context.DeadlineExceeded (the server does not answer).
func (p *Pools) Acquire(ctx context.Context, key string, open Opener) (*Conn, error) {
	pool, err := p.pool(key, open)
	if err != nil {
		return nil, err
	}
	served := pool.served.Load()
	limited, cancel := context.WithTimeout(ctx, p.cfg.AcquireTimeout)
	defer cancel()
	conn, err := pool.Acquire(limited)
	if err == nil {
		pool.held.Add(1)
		pool.served.Add(1)
		return &Conn{conn, pool}, nil
	}
	if _, closed := p.lookup(key); closed != nil {
		return nil, closed
	}
	if limited.Err() != nil && ctx.Err() == nil && pool.exhausted(served) {
		return nil, fmt.Errorf("acquire a connection within %v: %w", p.cfg.AcquireTimeout, ErrExhausted)
	}
	return nil, fmt.Errorf("acquire a connection: %w", err)
}

// exhausted tells why somebody waited in vain, since served connections had been given out: because callers have them all,
// or because the server does not answer. pgxpool counts a connection as in use also while it is pinged or being closed,
// which takes long when the network is silent.
func (p *pool) exhausted(served int64) bool {
	s := p.Stat()
	others := p.served.Load() > served // got one meanwhile, so the server answers
	return p.held.Load() >= s.MaxConns() || others && s.ConstructingConns() == 0
}

// Close closes every pool and returns when every connection is back. Acquire then fails with ErrClosed.
func (p *Pools) Close() {
	p.mu.Lock()
	pools := p.open
	p.open, p.closed = nil, true
	p.mu.Unlock()
	for _, pool := range pools {
		pool.Close()
	}
}

func (p *Pools) pool(key string, open Opener) (*pool, error) {
	if pool, err := p.lookup(key); pool != nil || err != nil {
		return pool, err
	}
	v, err, _ := p.opening.Do(key, func() (any, error) {
		if pool, err := p.lookup(key); pool != nil || err != nil {
			return pool, err
		}
		cfg, err := open()
		if err != nil {
			return nil, err
		}
		cfg.MaxConns = p.cfg.MaxConns
		cfg.MaxConnIdleTime = p.cfg.MaxIdleTime
		cfg.PingTimeout = p.cfg.AcquireTimeout / 5 // a connection that died unnoticed leaves time to open another
		cfg.ConnConfig.ConnectTimeout = p.cfg.AcquireTimeout
		opened, err := pgxpool.NewWithConfig(context.Background(), cfg) // makes no connection yet
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			opened.Close()
			return nil, ErrClosed
		}
		p.open[key] = &pool{Pool: opened}
		return p.open[key], nil
	})
	if err != nil {
		return nil, fmt.Errorf("open a pool: %w", err)
	}
	return v.(*pool), nil
}

func (p *Pools) lookup(key string) (*pool, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return nil, ErrClosed
	}
	return p.open[key], nil
}
