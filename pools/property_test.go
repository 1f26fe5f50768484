package pools_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/pools"
)

var errRefused = errors.New("refused")

// crowd is callers who do everything that callers can do to a set of pools, all at once.
type crowd struct {
	*pools.Pools
	cfg     pools.Config
	servers []*crowded
}

// crowded is a server of theirs.
type crowded struct {
	*fake
	name string

	mu      sync.Mutex // guards what follows
	limit   int
	highest int            // limit since everything was quiet
	held    map[string]int // connections of each client
}

// Whatever callers do, the books agree at every moment, no server sees more connections than its limit, no client has more
// than its part, no connection has two owners or is handed out unfit; and once all is quiet nothing is left over.
func TestBooksAgreeWhateverCallersDo(t *testing.T) {
	t.Parallel()
	for range 30 {
		seed := rand.Uint64() // what the goroutines make of it differs each time, so nothing is gained by shrinking
		c := newCrowd(t, rand.New(rand.NewPCG(seed, 0)))
		c.storm(t, seed)
		c.quiet(t)
		closed := make(chan struct{})
		time.AfterFunc(time.Duration(seed%uint64(5*time.Millisecond)), func() { // in the middle of it
			defer close(closed)
			c.Close()
		})
		c.storm(t, seed+1)
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "Close does not return", "%v", c)
		}
		for _, s := range c.servers {
			require.Zero(t, s.open.Load(), c)
		}
		for _, s := range c.Stats() {
			require.Zero(t, s.Open+s.InUse+s.Waiting, c)
		}
	}
}

func newCrowd(t *testing.T, rnd *rand.Rand) *crowd {
	t.Helper()
	ms := func(from, to int) time.Duration { return time.Duration(from+rnd.IntN(to-from)) * time.Millisecond }
	c := &crowd{cfg: pools.Config{
		MaxConns: 1 + rnd.IntN(9), MaxPerClient: rnd.IntN(5), MaxAffinities: rnd.IntN(7),
		AcquireTimeout: ms(1, 20), MaxIdleTime: ms(1, 20), MaxLifetime: ms(5, 500),
	}}
	var err error
	c.Pools, err = pools.New(c.cfg)
	require.NoError(t, err)
	for i := range 1 + rnd.IntN(3) {
		f := newFake(t)
		f.linger = time.Duration(rnd.IntN(300)) * time.Microsecond
		c.servers = append(c.servers, &crowded{
			fake: f, name: strconv.Itoa(i), limit: c.cfg.MaxConns, highest: c.cfg.MaxConns, held: make(map[string]int),
		})
	}
	return c
}

func (c *crowd) String() string { return fmt.Sprintf("%+v %+v", c.cfg, c.Stats()) }

// storm returns when every caller is done.
func (c *crowd) storm(t *testing.T, seed uint64) {
	t.Helper()
	const callers, calls = 12, 25
	wrong := make(chan error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range calls {
				if err := c.call(rnd); err != nil {
					wrong <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(wrong)
	require.NoError(t, <-wrong, c)
}

// call does one thing, and reports what must not be.
func (c *crowd) call(rnd *rand.Rand) error {
	s := c.servers[rnd.IntN(len(c.servers))]
	if rnd.IntN(10) == 0 {
		s.setLimit(c.Pools, rnd.IntN(10))
	}
	ctx := context.Background()
	switch rnd.IntN(6) {
	case 0: // leaves of its own accord
		limited, cancel := context.WithCancel(ctx)
		ctx = limited
		defer time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, cancel).Stop()
		defer cancel()
	case 1: // has little time
		limited, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(3000)-100)*time.Microsecond)
		ctx = limited
		defer cancel()
	}
	req := pools.Request{
		Server: s.name, Pool: strconv.Itoa(rnd.IntN(5)), Client: strconv.Itoa(rnd.IntN(4)),
		Connect: nil,
	}
	if req.Client == "0" {
		req.Client = ""
	}
	if rnd.IntN(2) == 0 {
		req.Affinity = strconv.Itoa(rnd.IntN(20))
	}
	req.Connect = s.connector(rnd, req.Pool)
	conn, err := c.Acquire(ctx, req)
	if err == nil {
		err = s.use(c, rnd, req, conn)
	} else if acceptable(err) {
		err = nil
	}
	return errors.Join(err, c.Inconsistent())
}

// connector returns a way to connect that is good, or late, or bad.
func (s *crowded) connector(rnd *rand.Rand, pool string) func(context.Context) (*pgconn.PgConn, error) {
	delay := time.Duration(rnd.IntN(2000)) * time.Microsecond
	switch rnd.IntN(12) {
	case 0:
		return func(context.Context) (*pgconn.PgConn, error) { return nil, errRefused }
	case 1: // is deaf to its context
		return func(ctx context.Context) (*pgconn.PgConn, error) {
			time.Sleep(10 * delay)
			return s.connect(context.WithoutCancel(ctx), pool)
		}
	case 2: // never gets through
		return func(ctx context.Context) (*pgconn.PgConn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	case 3, 4, 5:
		return func(ctx context.Context) (*pgconn.PgConn, error) {
			time.Sleep(delay)
			return s.connect(ctx, pool)
		}
	}
	return func(ctx context.Context) (*pgconn.PgConn, error) { return s.connect(ctx, pool) }
}

func acceptable(err error) bool {
	for _, e := range []error{pools.ErrExhausted, pools.ErrClosed, errRefused, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// use has a connection for a while, and leaves it in some state.
func (s *crowded) use(c *crowd, rnd *rand.Rand, req pools.Request, conn *pools.Conn) error {
	defer conn.Release()
	pg := conn.PgConn()
	w := pg.Conn().(*wire)
	if w.inHand.Swap(true) {
		return errors.New("a connection has two owners")
	}
	defer w.inHand.Store(false)
	if w.pool != req.Pool || pg.IsClosed() || pg.IsBusy() || pg.TxStatus() != 'I' {
		return fmt.Errorf("pool %s was given a connection of %s in state %c", req.Pool, w.pool, pg.TxStatus())
	}
	if err := s.take(req.Client, c.cfg.MaxPerClient); err != nil {
		return err
	}
	defer s.giveBack(req.Client)
	time.Sleep(time.Duration(rnd.IntN(300)) * time.Microsecond)
	var err error
	switch rnd.IntN(12) {
	case 0:
		err = pg.Close(context.Background())
	case 1:
		_, err = pg.Exec(context.Background(), "begin").ReadAll()
	case 2:
		if rnd.IntN(10) == 0 {
			pg.Exec(context.Background(), "select") // and does not read the answer
		}
	case 3, 4:
		err = pg.Ping(context.Background())
	}
	return err
}

func (s *crowded) take(client string, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[client]++
	if most == 0 {
		most = max(1, (s.highest+1)/2)
	}
	if client != "" && s.held[client] > most {
		return fmt.Errorf("client %s has %d, and may have %d", client, s.held[client], most)
	}
	if n := int(s.open.Load()); n > s.highest {
		return fmt.Errorf("%d connections within a limit of %d", n, s.highest)
	}
	return nil
}

func (s *crowded) giveBack(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[client]--
}

func (s *crowded) setLimit(p *pools.Pools, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.highest = limit, max(s.highest, limit)
	p.SetLimit(s.name, limit)
}

// quiet checks what is left once everybody is done.
func (c *crowd) quiet(t *testing.T) {
	t.Helper()
	for _, s := range c.servers {
		require.LessOrEqual(t, int(s.open.most.Load()), s.highest)
		s.setLimit(c.Pools, 1) // idle ones over it are closed, and room is for one
		conn := c.last(t, s)
		conn.Release()
		require.Eventually(t, func() bool {
			st := c.stats(s.name)
			idle, ofPools, clients := c.Kept(s.name)
			return st.InUse == 0 && st.Waiting == 0 && st.Open == idle && int(s.open.Load()) == idle && st.Open <= 1 &&
				ofPools == idle && clients == 0
		}, 20*time.Second, 100*time.Microsecond, c)
		s.highest = 1
		s.open.most.Store(s.open.Load())
	}
	require.NoError(t, c.Inconsistent(), c)
}

// last asks until what the others began is over: it may hold up one caller for as long as the last of them had to wait.
func (c *crowd) last(t *testing.T, s *crowded) *pools.Conn {
	t.Helper()
	req := pools.Request{Server: s.name, Pool: "last", Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
		return s.connect(ctx, "last")
	}}
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		var conn *pools.Conn
		if conn, err = c.Acquire(context.Background(), req); err == nil {
			return conn
		}
	}
	require.FailNow(t, "the server is lost", "%v %v", err, c)
	return nil
}

func (c *crowd) stats(server string) pools.Stats {
	for _, s := range c.Stats() {
		if s.Server == server {
			return s
		}
	}
	return pools.Stats{}
}
