package fleet_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// moment is when, about one message, a process dies.
type moment string

const (
	before moment = "before it is sent"
	during moment = "while the server works on it"
	after  moment = "before its answer is read"
)

// cut says where a process dies: at the nth message that it sends on connections of one kind.
type cut struct {
	catalog bool // to the catalog, or else to homes
	n       int  // from 1; 0: it lives
	when    moment
}

func (c cut) String() string {
	to := map[bool]string{true: "the catalog", false: "a home"}[c.catalog]
	return fmt.Sprintf("cut at message %d to %s, %s", c.n, to, c.when)
}

// wire carries all connections of a process, knows where the messages that it sends begin and end, and breaks all connections
// at once at one of them.
type wire struct {
	target   string // the server
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	cut     cut
	catalog string       // the database that is the catalog
	sent    map[bool]int // messages so far, to the catalog and to homes
	dead    bool
	fell    chan struct{} // closed at the cut
	links   map[*strand]bool
}

// strand is one connection.
type strand struct {
	client, server net.Conn
	mute           bool          // guarded by wire.mu: answers are swallowed
	answered       chan struct{} // has room for one
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{
		target: target, listener: listener, sent: map[bool]int{}, fell: make(chan struct{}), links: map[*strand]bool{},
	}
	w.work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.breakAll()
		w.work.Wait()
	})
	return w
}

// arm begins to count, and to wait for c. catalog is the database that is one.
func (w *wire) arm(c cut, catalog string) (fell <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.catalog, w.sent, w.dead, w.fell = c, catalog, map[bool]int{}, false, make(chan struct{})
	return w.fell
}

// heal lets everything pass again.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.dead = cut{}, false
}

// cutOff tells whether the cut is being made, or has been.
func (w *wire) cutOff() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// counts are how many messages were sent since arm.
func (w *wire) counts() (catalog, homes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[true], w.sent[false]
}

func (w *wire) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for s := range w.links {
		_ = s.client.(*net.TCPConn).SetLinger(0)
		_ = s.client.Close()
		_ = s.server.Close()
	}
}

// serve carries one connection to its end.
func (w *wire) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	s := &strand{client: client, server: server, answered: make(chan struct{}, 1)}
	w.mu.Lock()
	if w.dead {
		w.mu.Unlock()
		return
	}
	w.links[s] = true
	w.mu.Unlock()
	w.work.Go(func() {
		w.answers(s)
		_ = client.Close()
	})
	w.requests(s)
	w.mu.Lock()
	delete(w.links, s)
	w.mu.Unlock()
}

// answers passes on what the server says, until nobody may hear it.
func (w *wire) answers(s *strand) {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.server.Read(buf)
		w.mu.Lock()
		mute := s.mute
		w.mu.Unlock()
		if mute {
			select {
			case s.answered <- struct{}{}:
			default:
			}
		} else if n > 0 {
			if _, err := s.client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// requests passes messages on, one by one.
func (w *wire) requests(s *strand) {
	first, err := message(s.client, 0)
	if err != nil {
		return
	}
	var startup pgproto3.StartupMessage
	if startup.Decode(first[4:]) != nil { // a request to cancel a statement
		_, _ = s.server.Write(first)
		return
	}
	w.mu.Lock()
	catalog := startup.Parameters["database"] == w.catalog
	w.mu.Unlock()
	for text := first; err == nil; text, err = message(s.client, 1) {
		if !w.pass(s, catalog, text) {
			return
		}
	}
}

// message reads one message: a type, but in the first of a connection, and a length that counts itself.
func message(r io.Reader, typ int) ([]byte, error) {
	head := make([]byte, typ+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	text := make([]byte, typ+int(binary.BigEndian.Uint32(head[typ:])))
	copy(text, head)
	_, err := io.ReadFull(r, text[len(head):])
	return text, err
}

// pass sends one message on and reports whether more may follow.
func (w *wire) pass(s *strand, catalog bool, text []byte) bool {
	w.mu.Lock()
	if w.dead {
		w.mu.Unlock()
		return false
	}
	w.sent[catalog]++
	here := catalog == w.cut.catalog && w.sent[catalog] == w.cut.n
	w.dead = here
	s.mute = here && w.cut.when == after
	when, fell := w.cut.when, w.fell
	w.mu.Unlock()

	if !here || when != before {
		if _, err := s.server.Write(text); err != nil && !here {
			return false
		}
	}
	if !here {
		return true
	}
	if when == after {
		select {
		case <-s.answered:
		case <-time.After(50 * time.Millisecond): // one that has no answer of its own
		}
	}
	close(fell)
	w.breakAll()
	return false
}
