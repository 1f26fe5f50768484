package faultnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	chunkSize   = 32 << 10
	chunks      = 64 // under way in one direction, before the sender is made to wait
)

// timerError is how much later than asked for a timer may fire, so the end of a delay is slept through instead. An idle
// Go program on Linux waits for its timers in whole milliseconds.
const timerError = 3 * time.Millisecond

type direction int

const (
	toServer direction = iota
	toClient
)

// link is one client's connection and the one to the target that belongs to it.
type link struct {
	client, server net.Conn

	once   sync.Once
	broken chan struct{} // closed by reset
}

// reset ends both connections at once, as a network does that is torn: what was not yet delivered never is.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.broken)
		reset(l.client)
		reset(l.server)
	})
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // makes Close send a reset
	}
	_ = c.Close()
}

// chunk is a piece of the stream and the moment at which it arrives. No data: the sender has closed its side.
type chunk struct {
	data []byte
	due  time.Time
}

// pump carries one direction to its end. Reading goes on while chunks wait, so that a delay does not slow the stream.
func (p *Proxy) pump(l *link, d direction, from, to net.Conn) {
	queue := make(chan chunk, chunks)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		p.read(l, d, from, queue)
	})
	p.write(l, d, to, queue)
	reader.Wait()
}

func (p *Proxy) read(l *link, d direction, from net.Conn, queue chan<- chunk) {
	for {
		buf := make([]byte, chunkSize)
		n, err := from.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			l.reset()
			return
		}
		_, delay, _ := p.state(d)
		select {
		case queue <- chunk{data: buf[:n], due: time.Now().Add(delay)}:
		case <-l.broken:
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) write(l *link, d direction, to net.Conn, queue <-chan chunk) {
	for c := range queue {
		if !p.await(l, d, c.due) {
			continue // broken: the reader ends too, and what it queued is lost
		}
		if len(c.data) == 0 {
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			continue
		}
		if _, err := to.Write(c.data); err != nil {
			l.reset()
		}
	}
}

// await returns when a chunk due then may pass; false means that the link broke first.
func (p *Proxy) await(l *link, d direction, due time.Time) bool {
	if left := time.Until(due); left > timerError {
		late := time.NewTimer(left - timerError)
		defer late.Stop()
		select {
		case <-late.C:
		case <-l.broken:
			return false
		}
	}
	for left := time.Until(due); left > 0; left = time.Until(due) {
		sleep(left)
	}
	for {
		held, _, changed := p.state(d)
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-l.broken:
			return false
		}
	}
}
