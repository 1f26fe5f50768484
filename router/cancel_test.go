package router_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// newProxied is newNeighbours with a network that can be broken between routers and each cluster.
func newProxied(t *testing.T) (*neighbours, map[string]*faultnet.Proxy) {
	t.Helper()
	proxies := make(map[string]*faultnet.Proxy)
	n := newNeighbours(t, testhouse.Options{Endpoint: func(cluster, host string, port int) (string, int) {
		proxies[cluster] = faultnet.New(t, net.JoinHostPort(host, strconv.Itoa(port)))
		addr, err := net.ResolveTCPAddr("tcp", proxies[cluster].Addr())
		require.NoError(t, err)
		return addr.IP.String(), addr.Port
	}})
	return n, proxies
}

// cancelling is one way of ending a call early, on a router whose pool is of one.
type cancelling struct {
	*neighbours
	proxy *faultnet.Proxy
	r     *router.Router
	p     placement.Placement
	db    *router.DB
	super *pgx.Conn // at p's home
}

func TestCancelling(t *testing.T) {
	t.Parallel()
	n, proxies := newProxied(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, cancelling)
	}{
		{"before anything was sent changes nothing", cancelBefore},
		{"while waiting for a connection is the caller's error", cancelInAcquire},
		{"a single statement that runs leaves its outcome open", cancelRunning},
		{"a statement of a transaction undoes the transaction", cancelRunningInTx},
		{"between statements keeps the connection", cancelBetween},
		{"before the commit is sent undoes the transaction", cancelBeforeCommit},
		{"during the commit leaves the outcome open", cancelCommit},
		{"a statement whose answer is on its way leaves its outcome open", cancelAnswer},
		{"a statement that was only prepared is certain not to have run", cancelPrepare},
		{"while rows are read closes them", cancelRows},
	} {
		for _, m := range models {
			t.Run(c.name+"/"+string(m), func(t *testing.T) {
				r := n.Router(t, one)
				p := n.here[m]
				c.test(t, cancelling{n, proxies["a"], r, p, r.Tenant(p.Tenant), n.Super(t, p.Home.Database)})
				n.requireClean(t, r, p)
			})
		}
	}
}

func cancelBefore(t *testing.T, c cancelling) {
	before := pid(t, c.db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for way, try := range ways(c.db) {
		err := try(ctx, "select 1")
		require.ErrorIs(t, err, context.Canceled, way)
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown, way)
	}
	require.ErrorIs(t, c.db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "select 1")
		return err
	}), context.Canceled)
	_, err := c.db.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email"}, pgx.CopyFromRows(nil))
	require.ErrorIs(t, err, context.Canceled)
	_, err = c.db.Exec(ctx, insertCustomer, "a", "bad argument")
	require.Error(t, err)
	require.Equal(t, before, pid(t, c.db))
}

func cancelInAcquire(t *testing.T, c cancelling) {
	require.NoError(t, c.db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
		_, err := tx.Exec(t.Context(), "select 1")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err = c.db.Exec(ctx, "select 1")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for _, not := range []error{router.ErrExhausted, router.ErrHomeDown, router.ErrOutcomeUnknown} {
			require.NotErrorIs(t, err, not)
		}
		return nil
	}))
}

const rename = "update customers set name = name || $1 where email = $2"

// lockCustomer keeps p's customer locked until the returned function is called.
func (c cancelling) lockCustomer(t *testing.T) (unlock func()) {
	t.Helper()
	tx, err := c.super.Begin(t.Context())
	require.NoError(t, err)
	table := pgx.Identifier{c.p.Home.Schema, "customers"}.Sanitize()
	_, err = tx.Exec(t.Context(), "select from "+table+" where email = $1 for update", email(c.p))
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

func (c cancelling) cancelWaiting(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	unlock := c.lockCustomer(t)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer close(ended) // a failed requirement ends the goroutine
		ended <- call(ctx)
	}()
	onlooker := c.Super(t, c.p.Home.Database)
	eventually(t, func() bool { return waiting(t, onlooker, "landlord") == 1 }, "it waits")
	cancel()
	err := <-ended
	eventually(t, func() bool { return waiting(t, onlooker, "landlord") == 0 }, "the server was told")
	return err
}

func cancelRunning(t *testing.T, c cancelling) {
	for _, warm := range []bool{false, true} {
		if warm {
			_, err := c.db.Exec(t.Context(), rename, "", email(c.p))
			require.NoError(t, err)
		}
		err := c.cancelWaiting(t, func(ctx context.Context) error {
			_, err := c.db.Exec(ctx, rename, "!", email(c.p))
			return err
		})
		require.ErrorIs(t, err, context.Canceled, "warm: %v", warm)
		require.ErrorIs(t, err, router.ErrOutcomeUnknown, "warm: %v", warm)
		err = c.cancelWaiting(t, func(ctx context.Context) error {
			b := oneQuery("select 1")
			b.Queue(rename, "!", email(c.p))
			return c.db.SendBatch(ctx, b).Close()
		})
		require.ErrorIs(t, err, context.Canceled, "warm: %v", warm)
		require.ErrorIs(t, err, router.ErrOutcomeUnknown, "warm: %v", warm)
	}
	var name string
	require.NoError(t, c.db.QueryRow(t.Context(), "select name from customers where email = $1", email(c.p)).Scan(&name))
	require.NotContains(t, name, "!")
}

func cancelRunningInTx(t *testing.T, c cancelling) {
	for _, first := range []bool{true, false} {
		err := c.cancelWaiting(t, func(ctx context.Context) error {
			return c.db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				if !first {
					addCustomer(t, tx, "lost@example.com")
				}
				_, err := tx.Exec(ctx, rename, "!", email(c.p))
				require.ErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, router.ErrHomeDown)
				return nil // passed over
			})
		})
		require.ErrorIs(t, err, router.ErrRolledBack)
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
	}
	require.NotContains(t, emails(t, c.db), "lost@example.com")
}

func cancelBetween(t *testing.T, c cancelling) {
	before := pid(t, c.db)
	err := c.db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		addCustomer(t, tx, "between@example.com")
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := tx.Exec(ctx, insertCustomer, "after@example.com")
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
		_, err = tx.Exec(ctx, "select 'cold'")
		require.ErrorIs(t, err, context.Canceled)
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, emails(t, c.db), "between@example.com")
	require.Equal(t, before, pid(t, c.db))
}

func cancelBeforeCommit(t *testing.T, c cancelling) {
	before := pid(t, c.db)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.db.Tx(ctx, func(_ context.Context, tx *router.Tx) error {
		addCustomer(t, tx, "uncommitted@example.com")
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
	require.NotErrorIs(t, err, router.ErrDirty)
	require.NotContains(t, emails(t, c.db), "uncommitted@example.com")
	require.Equal(t, before, pid(t, c.db))
}

func cancelCommit(t *testing.T, c cancelling) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		ended <- c.db.Tx(ctx, func(_ context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "committed@example.com")
			c.proxy.HoldReplies()
			return nil
		})
	}()
	eventually(t, func() bool { return c.seen(t, c.super, c.p, "committed@example.com") }, "committed")
	cancel()
	err := <-ended
	c.proxy.Restore()
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, router.ErrOutcomeUnknown)
}

func cancelAnswer(t *testing.T, c cancelling) {
	addCustomer(t, c.db, "warm@example.com")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.proxy.HoldReplies()
	ended := make(chan error)
	go func() {
		_, err := c.db.Exec(ctx, insertCustomer, "answer@example.com")
		ended <- err
	}()
	eventually(t, func() bool { return c.seen(t, c.super, c.p, "answer@example.com") }, "committed")
	cancel()
	err := <-ended
	c.proxy.Restore()
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, router.ErrOutcomeUnknown)
}

func cancelPrepare(t *testing.T, c cancelling) {
	pid(t, c.db)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.proxy.HoldReplies()
	_, err := c.db.Exec(ctx, insertCustomer, "prepared@example.com")
	c.proxy.Restore()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
	require.NotContains(t, emails(t, c.db), "prepared@example.com")
}

func cancelRows(t *testing.T, c cancelling) {
	const many = "select generate_series(1, 10000000)"
	read := func(rows pgx.Rows, cancel func()) error {
		require.True(t, rows.Next())
		cancel()
		for rows.Next() {
			require.NotEmpty(t, rows.RawValues())
		}
		require.Error(t, rows.Scan(new(int)))
		require.Nil(t, rows.RawValues())
		require.Nil(t, rows.FieldDescriptions())
		return rows.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := c.db.Query(ctx, many)
	require.NoError(t, err)
	defer rows.Close()
	err = read(rows, cancel)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, router.ErrOutcomeUnknown)

	err = c.db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		ctx, cancel := context.WithCancel(ctx)
		rows, err := tx.Query(ctx, many)
		require.NoError(t, err)
		defer rows.Close()
		return read(rows, cancel)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
}
