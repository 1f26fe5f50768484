package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// everyCall makes every kind of call on db and checks its error.
func everyCall(t *testing.T, ctx context.Context, db *router.DB, check func(err error, way string)) { //nolint:revive // t comes first
	t.Helper()
	for way, try := range ways(db) {
		check(try(ctx, "select count(*) from customers"), way)
	}
	check(db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "select count(*) from customers")
		return err
	}), "Tx")
	_, err := db.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email"}, pgx.CopyFromRows(nil))
	check(err, "CopyFrom")
}

func TestACallOfNoTenantIsRefused(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	std := n.r.SQL()
	defer std.Close()
	for _, db := range []*router.DB{n.r.Tenant(tenant.ID{}), n.r.FromContext(t.Context())} {
		everyCall(t, t.Context(), db, func(err error, way string) { require.ErrorIs(t, err, router.ErrNoTenant, way) })
	}
	_, err := std.ExecContext(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrNoTenant)
	_, err = std.BeginTx(t.Context(), nil)
	require.ErrorIs(t, err, router.ErrNoTenant)
	require.NoError(t, std.PingContext(t.Context()), "asks nobody")

	// SQL that goes round the router gets an error too, and never zero rows.
	for _, m := range models {
		p := n.here[m]
		route, err := n.Catalog.Route(t.Context(), p.Tenant)
		require.NoError(t, err)
		cfg, err := route.Cluster.LoginConfig(route.Database.Login, route.Database.Name)
		require.NoError(t, err)
		raw, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		defer raw.Close(context.WithoutCancel(t.Context()))
		_, err = raw.Exec(t.Context(), "select * from "+pgx.Identifier{p.Home.Schema, "customers"}.Sanitize())
		require.True(t, pgerr.Is(err, pgerr.NoTenant), "%v", err)
	}
	// Where the router itself meets it, it is typed.
	admin, err := n.r.Admin("a test")
	require.NoError(t, err)
	err = admin.Tx(t.Context(), "a", n.here[placement.ModelShared].Home.Database, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, insertCustomer, "nobody@example.com")
		return err
	})
	require.ErrorIs(t, err, router.ErrNoTenant)
	require.True(t, pgerr.Is(err, pgerr.NoTenant))
}

func TestAContextOfAnotherTenantIsRefused(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	std := n.r.SQL()
	defer std.Close()
	for _, m := range models {
		theirs, ours := withTenant(t, n.next(m)), withTenant(t, n.here[m])
		db := n.r.Tenant(n.here[m].Tenant)
		conflict := func(err error, way string) {
			require.ErrorIs(t, err, router.ErrConflict, way)
			var both *tenant.ConflictError
			require.ErrorAs(t, err, &both, way)
			require.Equal(t, tenant.ConflictError{Have: n.next(m).Tenant, Given: n.here[m].Tenant}, *both, way)
		}
		everyCall(t, theirs, db, conflict)
		require.NoError(t, db.Tx(ours, func(_ context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "ours@example.com")
			for way, try := range ways(tx) {
				conflict(try(theirs, "select 1"), way)
			}
			_, err := tx.CopyFrom(theirs, pgx.Identifier{"customers"}, []string{"email"}, pgx.CopyFromRows(nil))
			conflict(err, "CopyFrom")
			return nil
		}))
		tx, err := std.BeginTx(ours, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(theirs, "select 1")
		conflict(err, "sql.Tx")
		require.NoError(t, tx.Rollback())

		require.Equal(t, n.here[m].Tenant, n.r.FromContext(ours).Tenant())
		require.Contains(t, emails(t, n.r.FromContext(ours)), "ours@example.com")
	}
}

func TestAnUnknownTenantIsRememberedForASecondAtMost(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	proxy, behind := n.behind(t)
	r := n.Router(t, behind)
	id := n.NewID(t)
	everyCall(t, t.Context(), r.Tenant(id), func(err error, way string) { require.ErrorIs(t, err, router.ErrUnknownTenant, way) })
	proxy.Cut() // while it is remembered the catalog is not asked again
	eventually(t, func() bool {
		_, err := r.Tenant(id).Exec(t.Context(), "select 1")
		require.Error(t, err)
		return errors.Is(err, router.ErrCatalogDown)
	}, "the memory ends")
	proxy.Restore()
	for i, m := range models {
		id := n.NewID(t)
		eventually(t, func() bool {
			_, err := r.Tenant(id).Exec(t.Context(), "select 1")
			return errors.Is(err, router.ErrUnknownTenant)
		}, "the catalog is back")
		p, err := n.Service.Add(t.Context(), placement.Request{ID: id, Slug: tenant.Slug("late-" + string(rune('a'+i))), Model: m, Cluster: "a"})
		require.NoError(t, err)
		n.Forget(t, p)
		eventually(t, func() bool {
			_, err := r.Tenant(id).Exec(t.Context(), "select 1")
			return err == nil
		}, "the tenant is known now")
	}
}

func TestATenantThatIsStillBeingMadeIsRefused(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	for i, m := range models {
		id := n.NewID(t)
		_, _, err := n.Catalog.Place(t.Context(), placement.Request{ID: id, Slug: tenant.Slug("half-" + string(rune('a'+i))), Model: m, Cluster: "a"})
		require.NoError(t, err)
		everyCall(t, t.Context(), n.r.Tenant(id), func(err error, way string) { require.ErrorIs(t, err, router.ErrProvisioning, way) })
	}
}

func TestASuspendedTenantIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	for _, m := range models {
		p := n.here[m]
		proxy, behind := n.behind(t)
		stale := n.Router(t, behind) // hears of nothing, and cannot ask
		pid(t, stale.Tenant(p.Tenant))
		proxy.Cut()
		row, err := n.Catalog.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)

		// One that is open runs to its end.
		require.NoError(t, stale.Tenant(p.Tenant).Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "last@example.com")
			require.NoError(t, n.Service.Suspend(t.Context(), row))
			return nil
		}))
		for _, r := range []*router.Router{stale, n.r} {
			everyCall(t, t.Context(), r.Tenant(p.Tenant), func(err error, way string) { require.ErrorIs(t, err, router.ErrSuspended, way) })
			require.ErrorIs(t, r.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select 1")
				return err
			}), router.ErrSuspended)
			require.Equal(t, []string{email(n.next(m))}, emails(t, n.r.Tenant(n.next(m).Tenant)), "the neighbour goes on")
		}
		row, err = n.Catalog.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.NoError(t, n.Service.Resume(t.Context(), row))
		require.Contains(t, emails(t, stale.Tenant(p.Tenant)), "last@example.com")
	}
}

func TestAWrongSealIsRefused(t *testing.T) {
	t.Parallel()
	wrong, err := isolation.NewKey(1)
	require.NoError(t, err)
	strange, err := isolation.NewKey(7)
	require.NoError(t, err)
	for _, mode := range []isolation.Mode{isolation.Sealed, isolation.SealedMAC} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			n := newNeighbours(t, testhouse.Options{Mode: mode})
			for _, ring := range []isolation.Keyring{{wrong}, {strange}} {
				r := n.Router(t, one, func(cfg *router.Config) { cfg.Keys = ring })
				for _, m := range models {
					everyCall(t, t.Context(), r.Tenant(n.here[m].Tenant), func(err error, way string) {
						require.ErrorIs(t, err, router.ErrBadSeal, way)
						require.True(t, pgerr.Is(err, pgerr.BadSeal), way)
					})
				}
			}
			r := n.Router(t, func(cfg *router.Config) { cfg.Keys = nil })
			_, err := r.Tenant(n.here[placement.ModelShared].Tenant).Exec(t.Context(), "select 1")
			require.ErrorContains(t, err, "no seal key")
		})
	}
}

func TestAPoolInUseIsExhausted(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	quick := func(cfg *router.Config) { cfg.Pools.AcquireTimeout = 50 * time.Millisecond }
	for _, m := range models {
		r := n.Router(t, one, quick)
		db := r.Tenant(n.here[m].Tenant)
		var rows pgx.Rows
		eventually(t, func() (ok bool) { // opening the connection may take longer than quick
			var err error
			rows, err = db.Query(t.Context(), "select 1")
			return err == nil
		}, "a connection")
		defer rows.Close()
		everyCall(t, t.Context(), db, func(err error, way string) {
			require.ErrorIs(t, err, router.ErrExhausted, way)
			require.NotErrorIs(t, err, router.ErrHomeDown, way)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := db.Exec(ctx, "select 1")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, router.ErrExhausted)
		rows.Close()
		require.NoError(t, rows.Err())
		eventually(t, func() bool {
			_, err := db.Exec(t.Context(), "select 1")
			return err == nil
		}, "it is free again")
	}
}

func TestADatabaseThatIsNotTheRightOneIsRefused(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	catalog, err := pgx.Connect(t.Context(), n.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(context.WithoutCancel(t.Context()))
	here, next := n.here[placement.ModelDatabase], n.next(placement.ModelDatabase)
	refused := func(r *router.Router, p placement.Placement, want error) {
		t.Helper()
		everyCall(t, t.Context(), r.Tenant(p.Tenant), func(err error, way string) { require.ErrorIs(t, err, want, way) })
	}

	// The databases have changed their names: each DSN leads to the other.
	swap := func() {
		n.SuperExec(t, "postgres", `do $$ begin perform pg_terminate_backend(pid, 5000) from pg_stat_activity where datname in ('`+
			here.Home.Database+`', '`+next.Home.Database+`'); end $$`)
		for _, names := range [][2]string{{here.Home.Database, "swap"}, {next.Home.Database, here.Home.Database}, {"swap", next.Home.Database}} {
			n.SuperExec(t, "postgres", "alter database "+pgx.Identifier{names[0]}.Sanitize()+" rename to "+pgx.Identifier{names[1]}.Sanitize())
		}
	}
	used := n.Router(t)
	for _, p := range []placement.Placement{here, next} {
		pid(t, used.Tenant(p.Tenant))
	}
	swap()
	for _, r := range []*router.Router{used, n.Router(t)} {
		refused(r, here, router.ErrWrongDatabase)
		refused(r, next, router.ErrWrongDatabase)
	}
	swap()
	require.Equal(t, []string{email(here)}, emails(t, used.Tenant(here.Tenant)), "without a restart")

	// The catalog's rows were swapped by hand: the stamps fit, and the fence refuses.
	const exchange = `update landlord.placements set database = $1, schema = $2 where tenant = $3`
	for _, step := range [][3]string{{"x", "y", here.Tenant.String()}, {here.Home.Database, "public", next.Tenant.String()}, {next.Home.Database, "public", here.Tenant.String()}} {
		_, err := catalog.Exec(t.Context(), exchange, step[0], step[1], step[2])
		require.NoError(t, err)
	}
	hasty := n.Router(t, func(cfg *router.Config) { cfg.MoveWait = time.Millisecond })
	refused(hasty, here, router.ErrNotHere)
	refused(hasty, next, router.ErrNotHere)
	for _, step := range [][3]string{{"x", "y", here.Tenant.String()}, {next.Home.Database, "public", next.Tenant.String()}, {here.Home.Database, "public", here.Tenant.String()}} {
		_, err := catalog.Exec(t.Context(), exchange, step[0], step[1], step[2])
		require.NoError(t, err)
	}
	require.Equal(t, []string{email(here)}, emails(t, hasty.Tenant(here.Tenant)))

	// Dropped, and made again under the same name.
	name := pgx.Identifier{here.Home.Database}.Sanitize()
	n.SuperExec(t, "postgres", "drop database "+name+" with (force)")
	refused(used, here, router.ErrHomeDown)
	n.SuperExec(t, "postgres", "create database "+name+" template "+pgx.Identifier{cleanTemplate(t, n, next)}.Sanitize())
	for _, r := range []*router.Router{used, n.Router(t)} {
		refused(r, here, router.ErrWrongDatabase)
	}
	n.SuperExec(t, "postgres", "drop database "+name+" with (force)")
	n.SuperExec(t, "postgres", "create database "+name)
	refused(used, here, router.ErrWrongDatabase)
	n.SuperExec(t, "postgres", "drop database "+name)
}

// cleanTemplate returns p's database with nobody connected to it.
func cleanTemplate(t *testing.T, n *neighbours, p placement.Placement) string {
	t.Helper()
	n.SuperExec(t, "postgres", `do $$ begin perform pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '`+p.Home.Database+`'; end $$`)
	return p.Home.Database
}
