// Package faultnet puts a breakable network between a client and its server, for tests and benchmarks.
//
// A Proxy passes bytes in both directions, in order and unchanged, until it is told to cut them off, to hold them back
// or to slow them down. Bytes that are held back are not lost, as in a network that comes back in time. It knows nothing
// of the protocol spoken through it. How much longer a round trip takes than the delays asked for, whoever times
// something through it has to measure.
package faultnet

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// Proxy listens on the loopback interface and connects each client to the target.
type Proxy struct {
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex // guards what follows; nothing waits while holding it
	refuse  bool
	held    [2]bool // by direction: nothing passes
	delay   time.Duration
	links   map[*link]struct{}
	changed chan struct{} // closed and replaced at each change of held
}

// Listen starts a proxy before target (host:port). The caller closes it.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultnet: listen: %w", err)
	}
	p := &Proxy{
		target:   target,
		listener: l,
		links:    map[*link]struct{}{},
		changed:  make(chan struct{}),
	}
	p.work.Go(p.accept)
	return p, nil
}

// test is what New uses of a testing.TB. It keeps package testing out of programs that listen outside tests.
type test interface {
	Helper()
	Fatal(args ...any)
	Cleanup(fn func())
}

// New starts a proxy before target (host:port) that is closed when the test ends.
func New(t test, target string) *Proxy {
	t.Helper()
	p, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Addr is the address that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Rewrite returns the DSN (a URL) with the proxy's address in place of the server's.
func (p *Proxy) Rewrite(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		return "", errors.New("faultnet: rewrite a DSN: it is not a URL with a host")
	}
	u.Host = p.Addr()
	return u.String(), nil
}

// Cut breaks all connections with a reset and resets every new one, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	p.breakAll()
}

// Blackhole keeps connections open, and accepts new ones, but lets nothing pass in either direction, until Restore.
func (p *Proxy) Blackhole() { p.hold(true, true) }

// HoldReplies lets requests through and keeps the answers back, until Restore. Followed by Cut, it makes a client that
// cannot know whether its request was carried out.
func (p *Proxy) HoldReplies() { p.hold(false, true) }

// Delay makes every byte arrive d later in each direction: a round trip takes 2d longer. Zero ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Restore heals the network: new connections pass, what was held back is delivered, and nothing is delayed.
func (p *Proxy) Restore() {
	p.mu.Lock()
	p.refuse = false
	p.delay = 0
	p.mu.Unlock()
	p.hold(false, false)
}

// Close breaks all connections, stops listening and waits until the proxy's goroutines have ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	_ = p.listener.Close() // the accept loop ends by it
	p.breakAll()
	p.work.Wait()
}

func (p *Proxy) hold(requests, replies bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = [2]bool{toServer: requests, toClient: replies}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) breakAll() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // Close closed it
		}
		p.work.Go(func() { p.serve(client) })
	}
}

// serve carries one connection to its end.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		reset(client)
		return
	}
	l := &link{client: client, server: server, broken: make(chan struct{})}
	if !p.add(l) {
		l.reset()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, toServer, client, server) })
	pumps.Go(func() { p.pump(l, toClient, server, client) })
	pumps.Wait()
	p.remove(l)
	_ = client.Close() // both sides have said their last word, or were reset
	_ = server.Close()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// state is what holds now for one direction; changed is closed when that changes.
func (p *Proxy) state(d direction) (held bool, delay time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[d], p.delay, p.changed
}
