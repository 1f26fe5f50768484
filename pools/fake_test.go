package pools_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// fake is as much of a PostgreSQL server as keeping books of connections needs, within the process: it lets everybody in,
// follows begin, and lets a connection go when told so.
type fake struct {
	cfg    *pgconn.Config
	open   peak          // connections that the client has not closed
	within peak          // connections that the server has not let go
	linger time.Duration // between Terminate and the end of a connection
}

// peak is a count that remembers the most that it has been.
type peak struct {
	atomic.Int32
	most atomic.Int32
}

func (p *peak) inc() {
	n := p.Add(1)
	for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
	}
}

// wire is the client's end of a connection.
type wire struct {
	net.Conn
	pool   string
	inHand atomic.Bool // of a caller
	mute   atomic.Bool // what is written goes nowhere
	gone   func()
}

func (w *wire) Write(b []byte) (int, error) {
	if w.mute.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.gone()
	return w.Conn.Close()
}

// forPool marks a call of DialFunc that makes a connection; the others cancel queries.
type forPool struct{}

func newFake(t require.TestingT) *fake {
	cfg, err := pgconn.ParseConfig("postgres://somebody@127.0.0.1/something?sslmode=disable")
	require.NoError(t, err)
	f := &fake{cfg: cfg}
	cfg.DialFunc = f.dial
	return f
}

func (f *fake) connect(ctx context.Context, pool string) (*pgconn.PgConn, error) {
	return pgconn.ConnectConfig(context.WithValue(ctx, forPool{}, pool), f.cfg)
}

func (f *fake) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	pool, counts := ctx.Value(forPool{}).(string)
	client, server := net.Pipe()
	if counts {
		f.open.inc()
	}
	w := &wire{Conn: client, pool: pool, gone: sync.OnceFunc(func() {
		if counts {
			f.open.Add(-1)
		}
	})}
	go f.serve(server)
	return w, nil
}

// serve is one server process.
func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	if m, err := b.ReceiveStartupMessage(); err != nil {
		return
	} else if _, ok := m.(*pgproto3.StartupMessage); !ok {
		return // CancelRequest
	}
	f.within.inc()
	defer f.within.Add(-1)
	status := byte('I')
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: status})
		if b.Flush() != nil {
			return
		}
		m, err := b.Receive()
		if err != nil {
			return
		}
		q, ok := m.(*pgproto3.Query)
		if !ok { // Terminate
			time.Sleep(f.linger)
			return
		}
		if strings.HasPrefix(q.String, "begin") {
			status = 'T'
		}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
	}
}
