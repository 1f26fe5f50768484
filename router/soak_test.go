package router_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// A server that is restarted and killed, and a network that is cut, silent and half open, while callers of every model read
// and write: every error says what it is, what was confirmed is there, what failed for certain is not, no row is ever
// another tenant's, and afterwards everything works without a restart.
func TestFaultsUnderLoad(t *testing.T) {
	t.Parallel()
	lasting := time.Duration(scale(10, 300)) * time.Second
	server := pgtest.OwnServer(t)
	var proxy *faultnet.Proxy
	n := newNeighbours(t, testhouse.Options{Own: server, Endpoint: func(_, host string, port int) (string, int) {
		proxy = faultnet.New(t, net.JoinHostPort(host, strconv.Itoa(port)))
		addr, err := netip.ParseAddrPort(proxy.Addr())
		require.NoError(t, err)
		return addr.Addr().String(), int(addr.Port())
	}})
	r := running(t, n.House, "soak", func(cfg *router.Config) { cfg.Pools.AcquireTimeout = 2 * time.Second })
	var writers []*writer
	for _, m := range models {
		for _, p := range []placement.Placement{n.here[m], n.next(m), n.here[m]} {
			writers = append(writers, &writer{db: r.Tenant(p.Tenant), slug: p.Slug})
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), lasting)
	defer cancel()
	var work sync.WaitGroup
	for _, w := range writers {
		work.Go(func() { w.run(ctx, t) })
	}
	faults := map[string]func(){
		"restart": func() { require.NoError(t, server.Restart(t.Context())) },
		"kill -9": func() {
			require.NoError(t, server.Kill(t.Context()))
			require.NoError(t, server.Restart(t.Context()))
		},
		"cut":        proxy.Cut,
		"silence":    proxy.Blackhole,
		"half open":  proxy.HoldReplies,
		"slow":       func() { proxy.Delay(20 * time.Millisecond) },
		"lost reply": func() { proxy.HoldReplies(); pause(t, 100*time.Millisecond); proxy.Cut() },
	}
	for ctx.Err() == nil {
		for name, fault := range faults { // in an order of its own each time
			fault()
			pause(t, rand.N(400*time.Millisecond))
			proxy.Restore()
			before := confirmed(writers)
			eventually(t, func() bool { return confirmed(writers) > before+10 || ctx.Err() != nil }, "work goes on after "+name)
		}
	}
	work.Wait()

	for _, w := range writers {
		w.check(t)
	}
	s := r.Stats().Pools[0]
	require.Zero(t, s.InUse)
	require.Zero(t, s.Waiting)
	t.Logf("%d transactions confirmed, %d in doubt, %d failed", confirmed(writers), sum(writers, func(w *writer) int { return len(w.doubtful) }),
		sum(writers, func(w *writer) int { return len(w.failed) }))
	super := n.Super(t, "postgres")
	eventually(t, func() bool { // what a fault has left behind is gone: nobody holds a connection that the router does not know
		var open int
		require.NoError(t, super.QueryRow(t.Context(), `select count(*) from pg_stat_activity where application_name = 'soak'`).Scan(&open))
		return open == r.Stats().Pools[0].Open
	}, "every connection is the pool's")
}

// writer inserts customers of one tenant and keeps a ledger of what became of each.
type writer struct {
	db   *router.DB
	slug tenant.Slug

	count    atomic.Int64 // of kept
	kept     []string     // confirmed
	doubtful []string     // there or not
	failed   []string     // certainly not there
}

func (w *writer) run(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		email := uuid.NewString()
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		var err error
		if rand.IntN(2) == 0 {
			_, err = w.db.Exec(call, insertCustomer, email)
		} else {
			err = w.db.Tx(call, func(ctx context.Context, tx *router.Tx) error {
				if _, err := tx.Exec(ctx, insertCustomer, email); err != nil {
					return err
				}
				var foreign int
				err := tx.QueryRow(ctx, "select count(*) from customers where tenant_id <> $1", w.db.Tenant().String()).Scan(&foreign)
				if err == nil && foreign > 0 {
					t.Errorf("%s sees %d rows of others", w.slug, foreign)
				}
				return err
			})
		}
		cancel()
		switch {
		case err == nil:
			w.kept = append(w.kept, email)
			w.count.Add(1)
		case errors.Is(err, router.ErrOutcomeUnknown):
			w.doubtful = append(w.doubtful, email)
		case typedError(err):
			w.failed = append(w.failed, email)
		default:
			t.Errorf("%s: an error without a type: %v", w.slug, err)
		}
	}
}

// typedError tells whether a caller can tell what err is, and that nothing was committed.
func typedError(err error) bool {
	for _, known := range []error{
		router.ErrHomeDown, router.ErrExhausted, router.ErrRolledBack, router.ErrMoving, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	var said *pgconn.PgError
	return errors.As(err, &said) && strings.HasPrefix(said.Code, "57P")
}

// check compares the ledger with the rows.
func (w *writer) check(t *testing.T) {
	t.Helper()
	var missing, wrong []string
	require.NoError(t, w.db.QueryRow(t.Context(), `
select array(select unnest($1::text[]) except select email from customers),
       array(select unnest($2::text[]) intersect select email from customers)`, w.kept, w.failed).Scan(&missing, &wrong))
	require.NotEmpty(t, w.kept)
	require.Empty(t, missing, "confirmed and lost")
	require.Empty(t, wrong, "failed and there")
}

func confirmed(writers []*writer) int {
	return sum(writers, func(w *writer) int { return int(w.count.Load()) })
}

func sum(writers []*writer, of func(*writer) int) (n int) {
	for _, w := range writers {
		n += of(w)
	}
	return n
}

// pause lets a fault last.
func pause(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
