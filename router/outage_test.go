package router_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// behind puts a breakable network between a router and the catalog.
func (n *neighbours) behind(t *testing.T) (*faultnet.Proxy, func(*router.Config)) {
	t.Helper()
	proxy := faultnet.New(t, n.Server.Addr())
	dsn, err := proxy.Rewrite(n.CatalogDSN)
	require.NoError(t, err)
	return proxy, func(cfg *router.Config) { cfg.Catalog = n.OpenCatalog(t, dsn) }
}

func TestTheCatalogMayBeDown(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})

	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		proxy, behind := n.behind(t)
		proxy.Cut()
		r := n.Router(t, behind)
		for _, m := range models {
			_, err := r.Tenant(n.here[m].Tenant).Exec(t.Context(), "select 1")
			require.ErrorIs(t, err, router.ErrCatalogDown)
		}
		proxy.Restore()
		for _, m := range models {
			require.Contains(t, emails(t, r.Tenant(n.here[m].Tenant)), email(n.here[m]))
		}
	})

	t.Run("later, and cached tenants go on", func(t *testing.T) {
		t.Parallel()
		for _, fail := range []func(*faultnet.Proxy){(*faultnet.Proxy).Cut, (*faultnet.Proxy).Blackhole} {
			proxy, behind := n.behind(t)
			r := n.Router(t, behind)
			for _, m := range models {
				pid(t, r.Tenant(n.here[m].Tenant))
			}
			fail(proxy)
			for _, m := range models {
				require.Contains(t, emails(t, r.Tenant(n.here[m].Tenant)), email(n.here[m]))
				require.NoError(t, r.Tenant(n.here[m].Tenant).Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
					require.Contains(t, emails(t, tx), email(n.here[m]))
					return nil
				}))
			}
			_, err := r.Tenant(n.next(placement.ModelShared).Tenant).Exec(t.Context(), "select 1")
			require.ErrorIs(t, err, router.ErrCatalogDown, "not cached")
			proxy.Restore()
			pid(t, r.Tenant(n.next(placement.ModelShared).Tenant))
		}
	})

	t.Run("and a caller who leaves does not wait for it", func(t *testing.T) {
		t.Parallel()
		proxy, behind := n.behind(t)
		proxy.Blackhole()
		r := n.Router(t, behind)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.Tenant(n.here[placement.ModelShared].Tenant).Exec(ctx, "select 1")
		require.ErrorIs(t, err, context.Canceled)
		proxy.Restore()
	})
}

func TestAPlacementThatMayHaveChangedIsUsedWhileTheCatalogIsDown(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	proxy, behind := n.behind(t)
	r := n.Router(t, behind)
	pid(t, r.Tenant(p.Tenant))

	// The watch's first act is to distrust everything; then the catalog falls silent.
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error)
	go func() { watching <- r.Run(ctx) }()
	other := n.Super(t, "postgres")
	eventually(t, func() bool {
		var listening bool
		const q = `select exists (select from pg_stat_activity where query ~ 'placement_log' and state = 'idle' and datname = $1)`
		cfg, err := pgx.ParseConfig(n.CatalogDSN)
		require.NoError(t, err)
		require.NoError(t, other.QueryRow(t.Context(), q, cfg.Database).Scan(&listening))
		return listening
	}, "the watch has read the log")
	proxy.Blackhole()
	for range 20 {
		require.Contains(t, emails(t, r.Tenant(p.Tenant)), email(p))
	}
	proxy.Restore()
	cancel()
	require.NoError(t, <-watching)
}

func TestAServerThatIsDownComesBackWithoutARestart(t *testing.T) {
	t.Parallel()
	n, proxies := newProxied(t)
	quick := func(cfg *router.Config) {
		cfg.Pools.MaxConns = 3
		cfg.Pools.AcquireTimeout = 1500 * time.Millisecond
	}
	for _, fault := range []struct {
		name string
		fail func(*faultnet.Proxy)
	}{{"cut", (*faultnet.Proxy).Cut}, {"silent", (*faultnet.Proxy).Blackhole}} {
		for _, m := range models {
			t.Run(fault.name+"/"+string(m), func(t *testing.T) {
				p := n.here[m]
				warm, cold := n.Router(t, quick), n.Router(t, quick)
				db := warm.Tenant(p.Tenant)
				pid(t, db)
				fault.fail(proxies["a"])
				_, err := cold.Tenant(p.Tenant).Exec(t.Context(), "select 1")
				require.ErrorIs(t, err, router.ErrHomeDown)
				require.ErrorIs(t, cold.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
					_, err := tx.Exec(ctx, "select 1")
					return err
				}), router.ErrHomeDown)

				// Connections that were open do not know it yet. What they were sent may have arrived.
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					err := db.QueryRow(ctx, "select pg_backend_pid()").Scan(new(int))
					cancel()
					require.Error(t, err)
					require.NotErrorIs(t, err, router.ErrExhausted)
					if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, router.ErrOutcomeUnknown) {
						require.ErrorIs(t, err, router.ErrHomeDown)
					}
				}
				_, err = db.Exec(t.Context(), "select 'cold'")
				require.ErrorIs(t, err, router.ErrHomeDown)

				proxies["a"].Restore()
				for _, r := range []*router.Router{warm, cold} {
					eventually(t, func() bool {
						_, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1")
						return err == nil
					}, "it is back")
					var work sync.WaitGroup
					for range 6 { // all of the pool is usable again
						work.Go(func() { addOne(t, r.Tenant(p.Tenant)) })
					}
					work.Wait()
				}
			})
		}
	}
}

func addOne(t *testing.T, db *router.DB) {
	t.Helper()
	_, err := db.Exec(t.Context(), "insert into customers (email, name) values (gen_random_uuid()::text, '')")
	if err != nil {
		t.Errorf("insert: %v", err)
	}
}

// kill ends every backend of the router with this name.
func kill(t *testing.T, super *pgx.Conn, router string) {
	t.Helper()
	const q = `select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1`
	_, err := super.Exec(t.Context(), q, router)
	require.NoError(t, err)
}

func TestKilledConnections(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, _ *router.Router, p placement.Placement) {
		name := "killed " + string(p.Model)
		r := n.Router(t, one, func(cfg *router.Config) { cfg.AppName = name })
		db, super := r.Tenant(p.Tenant), n.Super(t, p.Home.Database)

		// While idle: nothing ran, so the next call does not notice.
		for _, sql := range []string{"select 'warm'", "select 'cold'"} {
			for way, try := range ways(db) {
				require.NoError(t, try(t.Context(), "select 'warm'"), way)
				kill(t, super, name)
				require.NoError(t, try(t.Context(), sql), "%s of %s", way, sql)
			}
			pid(t, db)
			kill(t, super, name)
			require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, sql)
				return err
			}))
		}

		// In a transaction: it is undone, and that is certain.
		err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "killed@example.com")
			kill(t, super, name)
			_, err := tx.Exec(ctx, "select 1")
			require.ErrorIs(t, err, router.ErrHomeDown)
			require.ErrorIs(t, tx.Savepoint(ctx, nil), router.ErrHomeDown)
			return nil // passed over
		})
		require.ErrorIs(t, err, router.ErrRolledBack)
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown)

		// Just before the commit: nobody can tell from the outside.
		err = db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "killed@example.com")
			kill(t, super, name)
			return nil
		})
		require.ErrorIs(t, err, router.ErrOutcomeUnknown)
		require.NotContains(t, emails(t, db), "killed@example.com")

		// While a single statement runs.
		lock, err := super.Begin(t.Context())
		require.NoError(t, err)
		_, err = lock.Exec(t.Context(), "select from "+pgx.Identifier{p.Home.Schema, "customers"}.Sanitize()+" for update")
		require.NoError(t, err)
		for _, warm := range []bool{false, true} {
			ended := make(chan error, 1)
			go func() {
				_, err := db.Exec(t.Context(), rename, "!", email(p))
				ended <- err
			}()
			onlooker := n.Super(t, p.Home.Database)
			eventually(t, func() bool { return waiting(t, onlooker, name) == 1 }, "it waits")
			kill(t, onlooker, name)
			require.ErrorIs(t, <-ended, router.ErrOutcomeUnknown, "warm: %v", warm)
		}
		require.NoError(t, lock.Rollback(t.Context()))
		n.requireClean(t, r, p)
	})
}

func TestACutAfterTheStatementWasSentLeavesItsOutcomeOpen(t *testing.T) {
	t.Parallel()
	n, proxies := newProxied(t)
	for _, m := range models {
		p := n.here[m]
		db, super := n.Router(t, one).Tenant(p.Tenant), n.Super(t, p.Home.Database)
		for way, insert := range map[string]func(email string, ready func()) error{
			"Exec": func(email string, ready func()) error {
				ready()
				_, err := db.Exec(t.Context(), insertCustomer, email)
				return err
			},
			"Query": func(email string, ready func()) error {
				ready()
				rows, err := db.Query(t.Context(), insertCustomer, email)
				rows.Close()
				return errors.Join(err, rows.Err())
			},
			"SendBatch": func(email string, ready func()) error {
				ready()
				return db.SendBatch(t.Context(), oneQuery(insertCustomer, email)).Close()
			},
			"commit": func(email string, ready func()) error {
				return db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
					_, err := tx.Exec(t.Context(), insertCustomer, email)
					ready()
					return err
				})
			},
		} {
			require.NoError(t, insert("warm-"+way, func() {}))
			ended := make(chan error, 1)
			go func() { ended <- insert("cut-"+way, proxies["a"].HoldReplies) }()
			eventually(t, func() bool { return n.seen(t, super, p, "cut-"+way) }, "committed")
			proxies["a"].Cut()
			err := <-ended
			proxies["a"].Restore()
			require.ErrorIs(t, err, router.ErrOutcomeUnknown, way)
		}
	}
}
