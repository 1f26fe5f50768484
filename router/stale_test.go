package router_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// move gives p the home of another tenant of its model, on the other cluster, as a mover does but for the rows: the new
// home has only the customer "moved@example.com". announce tells whether the catalog hears of it.
func (n *neighbours) move(t *testing.T, p placement.Placement, announce bool) (moved placement.Placement) {
	t.Helper()
	ctx := t.Context()
	to := "b"
	if p.Home.Cluster == to {
		to = "a"
	}
	donor := n.Add(t, fmt.Sprintf("donor-%d-of-%s", p.Epoch, p.Slug), p.Model, to)
	catalog, err := pgx.Connect(ctx, n.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(context.WithoutCancel(ctx))
	_, err = catalog.Exec(ctx, "delete from landlord.tenants where id = $1", donor.Tenant.String())
	require.NoError(t, err)

	moved = p
	moved.Home, moved.Epoch = donor.Home, p.Epoch+1
	source, target := n.Super(t, p.Home.Database), n.Super(t, moved.Home.Database)
	const out = `update landlord.fence set state = 'moved' where tenant = $1 and home = $2`
	_, err = source.Exec(ctx, out, p.Tenant.String(), p.Home.String())
	require.NoError(t, err)
	require.NoError(t, isolation.DropFence(ctx, target, p.Tenant.String(), moved.Home.String())) // of an earlier stay
	if _, owner := schemaOf(p); owner != nil {
		const q = `
do $$ declare r regclass; app name := (select app_login from landlord.identity); begin
    for r in select oid from pg_class where relkind = 'r' and relnamespace = '%s'::regnamespace and relrowsecurity loop
        call landlord.secure_table(r, app, '%s');
    end loop;
end $$`
		_, err = target.Exec(ctx, fmt.Sprintf(q, pgx.Identifier{moved.Home.Schema}.Sanitize(), *owner))
		require.NoError(t, err)
	}
	require.NoError(t, isolation.PutFence(ctx, target, isolation.Fence{
		Tenant: p.Tenant.String(), Slug: string(p.Slug), Model: string(p.Model), Home: moved.Home.String(), Epoch: moved.Epoch, State: isolation.Open,
	}))
	table := pgx.Identifier{moved.Home.Schema, "customers"}.Sanitize()
	_, err = target.Exec(ctx, "delete from "+table+" where tenant_id = $1", p.Tenant.String())
	require.NoError(t, err)
	_, err = target.Exec(ctx, "insert into "+table+" (tenant_id, email, name) values ($1, 'moved@example.com', '')", p.Tenant.String())
	require.NoError(t, err)
	if announce {
		require.NoError(t, n.Catalog.SetPlacement(ctx, p.Epoch, moved))
	}
	return moved
}

func (n *neighbours) setFence(t *testing.T, p placement.Placement, state isolation.FenceState) {
	t.Helper()
	conn := n.Super(t, p.Home.Database)
	const q = `
update landlord.fence set state = $3, fenced_until = clock_timestamp() + interval '1 minute' where tenant = $1 and home = $2`
	_, err := conn.Exec(t.Context(), q, p.Tenant.String(), p.Home.String(), string(state))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestAStaleRouterIsRefusedBySourceAndFollowsUnseen(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	const q = "select array_agg(email order by email) from customers"
	calls := map[string]func(*testing.T, *router.Router, placement.Placement) (seen []string, err error){
		"a single statement": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			return seen, r.Tenant(p.Tenant).QueryRow(t.Context(), q).Scan(&seen)
		},
		"a transaction": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			times := 0
			return seen, r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				times++
				require.Equal(t, 1, times, "the callback runs once")
				return tx.QueryRow(ctx, q).Scan(&seen)
			})
		},
		"a transaction that begins with a savepoint": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			return seen, r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				return tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error { return tx.QueryRow(ctx, q).Scan(&seen) })
			})
		},
		"a serializable transaction": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			return seen, r.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{Isolation: pgx.Serializable}, func(ctx context.Context, tx *router.Tx) error {
				return tx.QueryRow(ctx, q).Scan(&seen)
			})
		},
		"a read-only transaction": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			return seen, r.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
				return tx.QueryRow(ctx, q).Scan(&seen)
			})
		},
		"a batch": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			b := oneQuery("select 1")
			b.Queue(q)
			results := r.Tenant(p.Tenant).SendBatch(t.Context(), b)
			_, err = results.Exec()
			err = errors.Join(err, results.QueryRow().Scan(&seen))
			return seen, errors.Join(err, results.Close())
		},
		"a copy": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			_, err = r.Tenant(p.Tenant).CopyFrom(t.Context(), pgx.Identifier{"orders"}, []string{"customer_id"}, pgx.CopyFromRows(nil))
			return []string{"moved@example.com"}, err
		},
		"database/sql": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			std := r.SQL()
			defer std.Close()
			seen = make([]string, 1)
			return seen, std.QueryRowContext(withTenant(t, p), "select string_agg(email, ',') from customers").Scan(&seen[0])
		},
		"a transaction of database/sql": func(t *testing.T, r *router.Router, p placement.Placement) (seen []string, err error) {
			std := r.SQL()
			defer std.Close()
			tx, err := std.BeginTx(withTenant(t, p), nil)
			require.NoError(t, err)
			seen = make([]string, 1)
			err = tx.QueryRowContext(t.Context(), "select string_agg(email, ',') from customers").Scan(&seen[0])
			return seen, errors.Join(err, tx.Commit())
		},
	}
	there := n.Add(t, "there", placement.ModelShared, "b")
	for _, m := range models {
		for _, teller := range []string{"the catalog tells", "the old home tells, and the catalog is silent"} {
			t.Run(string(m)+", "+teller, func(t *testing.T) {
				t.Parallel()
				p := n.add(t, fmt.Sprintf("%s-%d", m, len(teller)), m)
				proxy, behind := n.behind(t)
				stale := make(map[string]*router.Router)
				for call := range calls {
					stale[call] = n.Router(t, behind)
					pid(t, stale[call].Tenant(p.Tenant))
					pid(t, stale[call].Tenant(there.Tenant))
				}
				fromCatalog := teller == "the catalog tells"
				moved := n.move(t, p, fromCatalog)
				if !fromCatalog {
					n.tell(t, p, moved)
					proxy.Blackhole()
					defer proxy.Restore()
				}
				for call, do := range calls {
					seen, err := do(t, stale[call], p)
					require.NoError(t, err, call)
					require.Equal(t, []string{"moved@example.com"}, seen, call)
				}
			})
		}
	}
}

// tell has p's home say where the tenant is now.
func (n *neighbours) tell(t *testing.T, p, moved placement.Placement) {
	t.Helper()
	id, err := isolation.ReadIdentity(t.Context(), n.Super(t, moved.Home.Database))
	require.NoError(t, err)
	n.say(t, p, isolation.Address{
		Home: moved.Home.String(), Model: string(moved.Model), Epoch: moved.Epoch, Stamp: id.Stamp, Login: id.AppLogin,
	})
}

func (n *neighbours) say(t *testing.T, p placement.Placement, to isolation.Address) {
	t.Helper()
	const q = `update landlord.fence set state = 'moved', moved_to = $3 where tenant = $1 and home = $2`
	_, err := n.Super(t, p.Home.Database).Exec(t.Context(), q, p.Tenant.String(), p.Home.String(), to)
	require.NoError(t, err)
}

// What a home says is followed even against the catalog, which is told last; and is kept when the catalog still says otherwise.
func TestAHomesWordIsKeptUntilTheCatalogKnows(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	n.each(t, nil, func(t *testing.T, r *router.Router, p placement.Placement) {
		pid(t, r.Tenant(p.Tenant))
		moved := n.move(t, p, false)
		n.tell(t, p, moved)
		// The catalog is up, and knows the cluster, where the router has not been.
		require.Equal(t, []string{"moved@example.com"}, emails(t, r.Tenant(p.Tenant)))
		stats := r.Stats().Cache
		r.Invalidate(p.Tenant)
		n.setFence(t, p, isolation.Suspended) // so that going there shows
		require.Equal(t, []string{"moved@example.com"}, emails(t, r.Tenant(p.Tenant)), "the catalog still names the old home")
		require.Greater(t, r.Stats().Cache.Misses, stats.Misses)
		// The tenant comes back, and goes again: the home where it was says at which epoch.
		back, home := p, n.Super(t, p.Home.Database)
		back.Epoch = moved.Epoch + 1
		n.say(t, moved, isolation.Address{Home: p.Home.String(), Model: string(p.Model), Epoch: back.Epoch})
		_, err := home.Exec(t.Context(), "update landlord.fence set state = 'open', epoch = $3 where tenant = $1 and home = $2",
			p.Tenant.String(), p.Home.String(), back.Epoch)
		require.NoError(t, err)
		require.Equal(t, []string{email(p)}, emails(t, r.Tenant(p.Tenant)))
		stale := n.Router(t)
		require.Equal(t, []string{email(p)}, emails(t, stale.Tenant(p.Tenant)), "which the catalog sends there at the first epoch")
	})
}

// A home that points to an older epoch, or in a circle, is not followed: the caller hears that the tenant is not there.
func TestAHomesWordIsNeverFollowedBackwards(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	n.each(t, func(cfg *router.Config) { cfg.MoveWait = 50 * time.Millisecond }, func(t *testing.T, r *router.Router, p placement.Placement) {
		pid(t, r.Tenant(p.Tenant))
		refused := func(what string) {
			t.Helper()
			_, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1")
			require.ErrorIs(t, err, router.ErrNotHere, what)
		}
		moved := n.move(t, p, false)
		older := isolation.Address{Home: moved.Home.String(), Model: string(p.Model), Epoch: p.Epoch}
		n.say(t, p, older)
		refused("an epoch that is no newer")
		for _, odd := range []isolation.Address{
			{Home: "not a home", Model: string(p.Model), Epoch: 9},
			{Home: moved.Home.String(), Model: "cloud", Epoch: 9},
			{Home: "nowhere/x/public", Model: string(p.Model), Epoch: 9},
			{Home: moved.Home.Cluster + "/nowhere/public", Model: string(p.Model), Epoch: 9},
		} {
			n.say(t, p, odd)
			refused(odd.Home + " " + odd.Model)
		}
		n.tell(t, p, moved)
		n.say(t, moved, isolation.Address{Home: p.Home.String(), Model: string(p.Model), Epoch: moved.Epoch})
		refused("a circle")
	})
}

func TestATenantThatHasLeftIsNotFoundWhereTheCatalogSays(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	n.each(t, nil, func(t *testing.T, r *router.Router, p placement.Placement) {
		proxy, behind := n.behind(t)
		short := func(cfg *router.Config) { cfg.MoveWait = 30 * time.Millisecond }
		cut := n.Router(t, behind, short)
		hasty := n.Router(t, short)
		for _, r := range []*router.Router{r, cut, hasty} {
			pid(t, r.Tenant(p.Tenant))
		}
		moved := n.move(t, p, false)
		proxy.Cut()
		for _, r := range []*router.Router{hasty, cut} {
			everyCall(t, t.Context(), r.Tenant(p.Tenant), func(err error, way string) {
				require.ErrorIs(t, err, router.ErrNotHere, way)
				require.True(t, pgerr.Is(err, pgerr.NotHere), way)
			})
		}
		// A caller who waits long enough follows as soon as the catalog knows.
		seen := make(chan []string, 1)
		go func() {
			defer close(seen)
			seen <- emails(t, r.Tenant(p.Tenant))
		}()
		require.NoError(t, n.Catalog.SetPlacement(t.Context(), p.Epoch, moved))
		require.Equal(t, []string{"moved@example.com"}, <-seen)
		proxy.Restore()
		eventually(t, func() bool {
			_, err := cut.Tenant(p.Tenant).Exec(t.Context(), "select 1")
			return err == nil
		}, "the one that was cut off follows too")
		require.Equal(t, []string{"moved@example.com"}, emails(t, cut.Tenant(p.Tenant)))
	})
}

func TestAnotherProcessChangesAPlacementAndTheWatchTells(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() { watching <- n.r.Run(ctx) }()
	n.each(t, nil, func(t *testing.T, _ *router.Router, p placement.Placement) {
		for range 3 {
			p = n.move(t, p, true)
			require.Equal(t, []string{"moved@example.com"}, emails(t, n.r.Tenant(p.Tenant)))
		}
	})
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-watching)
	})
}

func TestATenantThatIsBeingMoved(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	n.each(t, nil, func(t *testing.T, r *router.Router, p placement.Placement) {
		hasty := n.Router(t, func(cfg *router.Config) { cfg.MoveWait = 20 * time.Millisecond })
		n.setFence(t, p, isolation.Fenced)

		everyCall(t, t.Context(), hasty.Tenant(p.Tenant), func(err error, way string) {
			require.ErrorIs(t, err, router.ErrMoving, way)
			var moving *router.MovingError
			require.ErrorAs(t, err, &moving, way)
			require.Positive(t, moving.RetryAfter, way)
			require.True(t, pgerr.Is(err, pgerr.Fenced), way)
		})
		require.NoError(t, hasty.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{ReadOnly: true}, func(_ context.Context, tx *router.Tx) error {
			require.Equal(t, []string{email(p)}, emails(t, tx), "readers go on")
			return nil
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := r.Tenant(p.Tenant).Exec(ctx, "select 1")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// A writer waits, and holds no connection over it.
		waited := make(chan error, 1)
		go func() {
			_, err := r.Tenant(p.Tenant).Exec(t.Context(), insertCustomer, "waited@example.com")
			waited <- err
		}()
		moved := p
		if p.Model == placement.ModelShared {
			n.setFence(t, p, isolation.Open) // the move is aborted
		} else {
			moved = n.move(t, p, true)
		}
		require.NoError(t, <-waited)
		require.True(t, n.seen(t, n.Super(t, moved.Home.Database), moved, "waited@example.com"))
	})
}

// TestAFenceRaisedBehindASnapshotIsSeen drains a tenant as a mover does: it takes the tenant's lock, so that a transaction
// arrives, gets its snapshot and waits; raises the fence; and lets go.
func TestAFenceRaisedBehindASnapshotIsSeen(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{Clusters: []string{"a", "b"}})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
			mover := n.Super(t, p.Home.Database)
			const lock, unlock = "select pg_advisory_lock(landlord.lock_key($1, $2, false))", "select pg_advisory_unlock_all()"
			_, err := mover.Exec(t.Context(), lock, p.Tenant.String(), p.Home.String())
			require.NoError(t, err)
			seen := make(chan []string, 1)
			runs := 0
			go func() {
				defer close(seen)
				err := r.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{Isolation: level}, func(_ context.Context, tx *router.Tx) error {
					runs++
					seen <- emails(t, tx)
					return nil
				})
				if err != nil {
					t.Errorf("%s: %v", level, err)
				}
			}()
			onlooker := n.Super(t, p.Home.Database)
			eventually(t, func() bool {
				var queued bool
				const q = `select exists (select from pg_locks where locktype = 'advisory' and not granted
					and (classid::bigint << 32 | objid::bigint) = landlord.lock_key($1, $2, false))`
				require.NoError(t, onlooker.QueryRow(t.Context(), q, p.Tenant.String(), p.Home.String()).Scan(&queued))
				return queued
			}, "it waits for the tenant's lock")
			moved := n.move(t, p, true)
			_, err = mover.Exec(t.Context(), unlock)
			require.NoError(t, err)
			require.Equal(t, []string{"moved@example.com"}, <-seen, "%s", level)
			<-seen
			require.Equal(t, 1, runs, "%s", level)
			p = moved
		}
	})
}
