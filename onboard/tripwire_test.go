package onboard_test

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// tripwire passes everything between clients and a server, and counts requests that carry SQL. It can break the connection
// on which the n-th one comes: before the server has seen it, or after the server has carried it out.
type tripwire struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup
	accepted chan struct{} // one for each connection, as far as it has room

	mu    sync.Mutex // guards what follows
	seen  int
	at    int // the request that pulls; 0: none
	after bool
	pull  func()
	links map[net.Conn]net.Conn
}

func newTripwire(t testing.TB, target string) *tripwire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &tripwire{listener: l, target: target, accepted: make(chan struct{}, 100), links: make(map[net.Conn]net.Conn)}
	w.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case w.accepted <- struct{}{}:
			default:
			}
			w.work.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		for client, server := range w.links {
			_, _ = client.Close(), server.Close()
		}
		w.mu.Unlock()
		w.work.Wait()
	})
	return w
}

func (w *tripwire) addr() (host string, port int) {
	a := w.listener.Addr().(*net.TCPAddr)
	return a.IP.String(), a.Port
}

// arm counts anew, and calls pull as the n-th request breaks its connection.
func (w *tripwire) arm(n int, after bool, pull func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.at, w.after, w.pull = 0, n, after, pull
}

// count returns how many requests have passed since arm.
func (w *tripwire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func (w *tripwire) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	w.mu.Lock()
	w.links[client] = server
	w.mu.Unlock()

	tripped := make(chan struct{})
	var replies sync.WaitGroup
	replies.Go(func() {
		defer client.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-tripped: // carried out, and nobody hears of it
				w.mu.Lock()
				pull := w.pull
				w.mu.Unlock()
				pull()
				return
			default:
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	w.requests(client, server, tripped)
	replies.Wait()
	w.mu.Lock()
	delete(w.links, client)
	w.mu.Unlock()
}

// requests carries one direction, up to the request that pulls.
func (w *tripwire) requests(client, server net.Conn, tripped chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			_ = server.Close()
			return
		}
		if strings.IndexByte("QPB", buf[0]) >= 0 {
			w.mu.Lock()
			w.seen++
			pull := w.pull
			now, after := w.seen == w.at, w.after
			w.mu.Unlock()
			if now {
				if !after {
					pull()
					_ = server.Close()
					return
				}
				close(tripped)
				_, _ = server.Write(buf[:n])
				_, _ = client.Read(buf) // until the answer has come and the connection is closed
				_ = server.Close()
				return
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// readdress names another server in a DSN that is a URL.
func readdress(dsn, host string, port int) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		return "", errors.New("not a URL with a host")
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	return u.String(), nil
}

func split(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}
