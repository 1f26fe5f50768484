package router_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// Whatever becomes of connections, statements and goroutines, nobody is given another's row, in any mode. That the same storm
// finds leaks where there are some is shown below.
func TestAStormLeaksNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var proxy *faultnet.Proxy
			n := newNeighbours(t, testhouse.Options{Mode: mode, Endpoint: func(_, host string, port int) (string, int) {
				proxy = faultnet.New(t, net.JoinHostPort(host, strconv.Itoa(port)))
				addr := netip.MustParseAddrPort(proxy.Addr())
				return addr.Addr().String(), int(addr.Port())
			}})
			app := "storm " + string(mode)
			s := newStorm(t, proxy, n.Super(t, "postgres"), app)
			s.known = func(err error) bool { return errors.Is(err, errBoom) || router.Outcome(err) != "other" }
			var routers []*router.Router
			for _, conns := range []int{1, 3} {
				routers = append(routers, n.Router(t, func(cfg *router.Config) {
					cfg.Pools.MaxConns, cfg.Pools.AcquireTimeout, cfg.AppName = conns, time.Minute, app
				}))
			}
			s.forgetful = func(ctx context.Context, fn func(context.Context, door) error) error {
				err := fn(ctx, routers[rand.IntN(2)].FromContext(ctx))
				if !errors.Is(err, router.ErrNoTenant) {
					s.leak("a caller who named no tenant was told %v", err)
				}
				return nil
			}
			var homes []placement.Placement
			for _, m := range models {
				homes = append(homes, n.here[m], n.next(m))
			}
			for _, p := range homes {
				_, err := n.r.Tenant(p.Tenant).Exec(t.Context(), "delete from customers")
				require.NoError(t, err)
				db := func() *router.DB { return routers[rand.IntN(2)].Tenant(p.Tenant) }
				s.citizens = append(s.citizens, &citizen{
					id:   p.Tenant.String(),
					at:   p.Home.Database,
					each: func(ctx context.Context, fn func(context.Context, door) error) error { return fn(ctx, db()) },
					tx: func(ctx context.Context, fn func(context.Context, door) error) error {
						return db().Tx(ctx, func(ctx context.Context, tx *router.Tx) error { return fn(ctx, tx) })
					},
				})
			}

			s.rage(scale(400, 100_000), 8)
			t.Log(s.summary())
			s.requireAll()
			require.Zero(t, s.leaks.Load())
			for _, p := range homes { // whatever was written is its writer's, as somebody sees it whom no policy holds up
				var rows, foreign int
				q := "select count(*), count(*) filter (where name <> tenant_id::text) from " + pgx.Identifier{p.Home.Schema, "customers"}.Sanitize()
				require.NoError(t, n.Super(t, p.Home.Database).QueryRow(t.Context(), q).Scan(&rows, &foreign))
				require.Positive(t, rows)
				require.Zero(t, foreign, "rows of %s that were written for others", p.Slug)
			}
			for _, r := range routers {
				for _, pool := range r.Stats().Pools {
					require.Zero(t, pool.InUse)
					require.Zero(t, pool.Waiting)
				}
			}
		})
	}
}

// newStorm returns a storm that strikes at the connections of this name, and at the network that they go through.
func newStorm(t *testing.T, proxy *faultnet.Proxy, super *pgx.Conn, app string) *storm {
	t.Helper()
	var mu sync.Mutex // guards super, and keeps the network's faults apart
	onOne := func(function string) func(context.Context) {
		return func(ctx context.Context) {
			mu.Lock()
			defer mu.Unlock()
			_, err := super.Exec(ctx, "select "+function+"(pid) from pg_stat_activity where application_name = $1 order by random() limit 1", app)
			if err != nil {
				t.Errorf("%s: %v", function, err)
			}
		}
	}
	onAll := func(fault func()) func(context.Context) {
		return func(context.Context) {
			mu.Lock()
			defer mu.Unlock()
			fault()
			proxy.Restore()
		}
	}
	return &storm{
		t: t,
		faults: []fault{
			{"cancelled by the server", onOne("pg_cancel_backend")},
			{"terminated by the server", onOne("pg_terminate_backend")},
			{"cut", onAll(proxy.Cut)},
			{"answers lost", onAll(func() { proxy.HoldReplies(); pause(t, 3*time.Millisecond); proxy.Cut() })},
			{"answers late", onAll(func() { proxy.HoldReplies(); pause(t, 3*time.Millisecond) })},
		},
		// A lock of a session would be waited for by all others, and rows by chance have no writer.
		litter: slices.DeleteFunc(slices.Clone(littering), func(s string) bool {
			return strings.Contains(s, "advisory") || strings.Contains(s, "insert into") || strings.Contains(s, "_seq")
		}),
	}
}

// The controls: what landlord is instead of. A tenant that is set for the session, without a reset, on a pool that tenants
// share, must be caught by the storm: by callers who forget to set it, and where it is set on one connection and used on another.
func TestAStormFindsTheLeaksOfASessionSetting(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"set on the connection that is used": false, "set on the pool": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newControl(t, apart)
			s.rage(scale(400, 10_000), 8)
			t.Log(s.summary())
			s.requireAll()
			require.Positive(t, s.leaks.Load(), "the storm sees no leak where there must be some")
		})
	}
}

// newControl returns a storm over four tenants of a table with ordinary row-level security.
func newControl(t *testing.T, apart bool) *storm {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	super, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	role := "control_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		_, err := super.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		require.NoError(t, err)
		require.NoError(t, super.Close(context.Background()))
	})
	_, err = super.Exec(t.Context(), `
create table customers (tenant_id uuid not null default current_setting('app.tenant')::uuid, email text, name text, primary key (tenant_id, email));
alter table customers enable row level security;
create policy own on customers using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
create role `+role+` login password 'control';
grant select, insert, delete on customers to `+role)
	require.NoError(t, err)

	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	proxy := faultnet.New(t, net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port))))
	addr := netip.MustParseAddrPort(proxy.Addr())
	cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.User, cfg.ConnConfig.Password = addr.Addr().String(), addr.Port(), role, "control"
	cfg.ConnConfig.RuntimeParams["application_name"] = role
	cfg.MaxConns = 3
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	s := newStorm(t, proxy, super, role)
	s.litter = []string{"select 1 / 0", "select from nowhere", "commit"}
	// with runs fn on a connection; set: for a tenant.
	with := func(ctx context.Context, id string, fn func(*pgxpool.Conn) error) error {
		const set = "select set_config('app.tenant', $1, false)"
		if id != "" && apart {
			if _, err := pool.Exec(ctx, set, id); err != nil {
				return err
			}
		}
		return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			if id != "" && !apart {
				if _, err := conn.Exec(ctx, set, id); err != nil {
					return err
				}
			}
			return fn(conn)
		})
	}
	s.forgetful = func(ctx context.Context, fn func(context.Context, door) error) error {
		return with(ctx, "", func(conn *pgxpool.Conn) error { return fn(ctx, conn) })
	}
	for range 4 {
		id := uuid.NewString()
		s.citizens = append(s.citizens, &citizen{
			id: id,
			each: func(ctx context.Context, fn func(context.Context, door) error) error {
				return with(ctx, id, func(conn *pgxpool.Conn) error { return fn(ctx, conn) })
			},
			tx: func(ctx context.Context, fn func(context.Context, door) error) error {
				return with(ctx, id, func(conn *pgxpool.Conn) error {
					return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return fn(ctx, tx) })
				})
			},
		})
	}
	return s
}
