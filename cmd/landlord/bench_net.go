package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pglocal"
)

// benchNet is a network to the servers: theirs, the same with a longer way, or one on which a pooler is in between.
type benchNet struct {
	name   string
	added  time.Duration    // to a round trip; 0: none
	pooler *pglocal.Bouncer // where every way leads; nil: to the servers

	mu      sync.Mutex // guards what follows
	delay   time.Duration
	proxies map[string]*faultnet.Proxy // by the address that they stand before
}

type benchNetList []*benchNet

// benchNets are the network as it is and, if added is above 0, one that is that much slower.
func benchNets(added time.Duration) benchNetList {
	nets := benchNetList{{name: "as it is"}}
	if added > 0 {
		nets = append(nets, &benchNet{
			name: "+" + added.String(), added: added, delay: added / 2, proxies: map[string]*faultnet.Proxy{},
		})
	}
	return nets
}

// benchPoolSize is how many backends a login of the pooled network has in each database: more than are needed at once.
const benchPoolSize = 4

// pooledNet is the network on which a PgBouncer of its own stands before a server, to which all tenants' homes belong.
func pooledNet(ctx context.Context, server string) (*benchNet, error) {
	b, err := pglocal.StartBouncer(ctx, pglocal.BouncerConfig{Server: server, PoolSize: benchPoolSize})
	if err != nil {
		return nil, err
	}
	return &benchNet{name: "through " + b.Version, pooler: b}, nil
}

func (l benchNetList) close() (err error) {
	for _, n := range l {
		if n.pooler != nil {
			err = errors.Join(err, n.pooler.Close())
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, p := range n.proxies {
			p.Close()
		}
	}
	return err
}

// dial connects to a server.
func (n *benchNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	switch {
	case n == nil || n.added == 0 && n.pooler == nil:
		return d.DialContext(ctx, network, addr)
	case n.pooler != nil:
		return d.DialContext(ctx, "tcp", n.pooler.Addr())
	}
	if network == "unix" {
		return nil, errors.New("only TCP can be delayed, and the endpoint is a socket: leave out --delay")
	}
	p, err := n.proxy(addr)
	if err != nil {
		return nil, err
	}
	return d.DialContext(ctx, "tcp", p.Addr())
}

func (n *benchNet) proxy(addr string) (*faultnet.Proxy, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.proxies[addr]; p != nil {
		return p, nil
	}
	p, err := faultnet.Listen(addr)
	if err != nil {
		return nil, err
	}
	p.Delay(n.delay)
	n.proxies[addr] = p
	return p, nil
}

const (
	calibrations   = 12
	calibratedWell = 0.02 // off by at most this share, and no more is tried
)

// calibrate corrects the delay until an empty query over through takes as much longer than over direct as it should. The
// way through a proxy takes time of its own, and nobody sleeps for exactly as long as he is asked to.
func (n *benchNet) calibrate(ctx context.Context, direct, through *pgx.Conn) error {
	for range calibrations {
		r, err := pairs.Run(ctx, pairs.Config{Rounds: 25, WarmUp: 2, Block: 5},
			pairs.Way{Name: wayDirect, Do: direct.Ping}, pairs.Way{Name: wayRoundTrip, Do: through.Ping})
		if err != nil {
			return fmt.Errorf("measure the round trip: %w", err)
		}
		off := r[1].Median - r[0].Median - n.added
		if off.Abs() <= time.Duration(calibratedWell*float64(n.added)) {
			return nil
		}
		n.setDelay(max(0, n.delay-off/2))
	}
	return nil // what was achieved is part of the result
}

func (n *benchNet) setDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
	for _, p := range n.proxies {
		p.Delay(d)
	}
}
