package onboard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func (e estate) refused(t testing.TB, r *router.Router, p placement.Placement) error {
	t.Helper()
	_, err := r.Tenant(p.Tenant).Exec(t.Context(), "insert into customers (email, name) values (gen_random_uuid()::text, 'x')")
	return err
}

func TestSuspendAndResumeInEveryModel(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	r := e.Router(t)
	for _, m := range models {
		p, next := e.Add(t, "here-"+string(m), m, "a"), e.Add(t, "next-"+string(m), m, "a")
		require.NoError(t, e.refused(t, r, p))
		for range 2 { // again is no error
			require.NoError(t, e.Service.Suspend(t.Context(), e.tenant(t, p.Tenant)))
			require.ErrorIs(t, e.refused(t, r, p), router.ErrSuspended)
			require.NoError(t, e.refused(t, r, next))
			require.Equal(t, placement.StateSuspended, e.tenant(t, p.Tenant).State)
		}
		for range 2 {
			require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, p.Tenant)))
			require.NoError(t, e.refused(t, r, p))
			require.Equal(t, placement.StateActive, e.tenant(t, p.Tenant).State)
		}
	}
}

func TestSuspendWithTheHomeDownChangesNothing(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelShared, "a")
	proxy := faultnet.New(t, e.Server.Addr())
	host, port, err := split(proxy.Addr())
	require.NoError(t, err)
	e.through(t, host, port)

	proxy.Cut()
	acme := e.tenant(t, p.Tenant)
	require.Error(t, e.Service.Suspend(t.Context(), acme))
	require.Error(t, e.Service.Remove(t.Context(), acme, 0))
	require.Equal(t, acme, e.tenant(t, p.Tenant))
	proxy.Restore()
	require.Equal(t, "open", e.fence(t, acme))

	// A resume that does not reach the home says so, and can be repeated.
	require.NoError(t, e.Service.Suspend(t.Context(), acme))
	proxy.Cut()
	require.ErrorContains(t, e.Service.Resume(t.Context(), e.tenant(t, p.Tenant)), "try again")
	proxy.Restore()
	require.Equal(t, "suspended", e.fence(t, acme), "the data has the last word")
	require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, p.Tenant)))
	e.works(t, p.Tenant)
}

// A tenant that somebody is making or moving is nobody else's business.
func TestHomesThatAreBeingMadeOrMovedAreLeftAlone(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelShared, "a")
	require.NoError(t, e.Catalog.SetState(t.Context(), p.Tenant, placement.StateMoving))
	moving := e.tenant(t, p.Tenant)
	require.ErrorIs(t, e.Service.Suspend(t.Context(), moving), placement.ErrState)
	require.ErrorIs(t, e.Service.Remove(t.Context(), moving, 0), placement.ErrState)
	require.ErrorIs(t, e.Service.Purge(t.Context(), moving), placement.ErrState)
	require.ErrorIs(t, e.Service.Resume(t.Context(), moving), placement.ErrState)
	require.Equal(t, "open", e.fence(t, moving))

	request, _ := e.request(t, "new", placement.ModelSchema)
	reached, proceed := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	tables := sample(t)
	slow := e.service(t, e.Catalog, builder(func(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
		close(reached)
		<-proceed
		return tables.Build(ctx, conn, schema, tenant)
	}))
	go func() {
		_, err := slow.Add(t.Context(), request)
		done <- err
	}()
	<-reached
	require.ErrorIs(t, e.Service.Suspend(t.Context(), e.tenant(t, request.ID)), placement.ErrState)
	close(proceed)
	require.NoError(t, <-done)
	e.works(t, request.ID)
}

func TestRemovalHasAGracePeriodAndThenNoWayBack(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	r := e.Router(t)
	for _, m := range models {
		request, home := e.request(t, "acme-"+string(m), m)
		p, err := e.Service.Add(t.Context(), request)
		require.NoError(t, err)
		require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, p.Tenant), time.Hour))
		require.ErrorIs(t, e.refused(t, r, p), router.ErrSuspended, "it is closed at once")
		require.ErrorIs(t, e.Service.Purge(t.Context(), e.tenant(t, p.Tenant)), placement.ErrState)
		require.NotEmpty(t, e.traces(t, request, home))
		require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, p.Tenant)))
		e.works(t, p.Tenant)

		require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, p.Tenant), time.Hour))
		require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, p.Tenant), 0), "not waiting any longer")
		due := e.tenant(t, p.Tenant)
		require.ErrorIs(t, e.Service.Resume(t.Context(), due), placement.ErrState)
		require.Equal(t, "suspended", e.fence(t, due))
		_, err = e.Service.Add(t.Context(), request)
		require.ErrorIs(t, err, placement.ErrExists, "the name is taken until the home is gone")
		require.NoError(t, e.Service.Purge(t.Context(), due))
		require.NoError(t, e.Service.Purge(t.Context(), due), "again")
		require.Empty(t, e.traces(t, request, home))

		// The same id finds nothing of what was.
		_, err = e.Service.Add(t.Context(), request)
		require.NoError(t, err)
		var n int
		require.NoError(t, e.Router(t).Tenant(p.Tenant).QueryRow(t.Context(), "select count(*) from customers").Scan(&n))
		require.Zero(t, n)
	}
}

func TestRemovingATenantThatIsNotCompleteUndoesIt(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range models {
		request, home := e.request(t, "acme", m)
		ctx, cancel := context.WithCancel(t.Context())
		if m == placement.ModelShared {
			_, _, err := e.Catalog.Place(ctx, request)
			require.NoError(t, err)
		} else {
			_, err := e.service(t, e.Catalog, builder(func(context.Context, *pgx.Conn, string, string) error {
				cancel()
				return context.Canceled
			})).Add(ctx, request)
			require.ErrorIs(t, err, context.Canceled)
		}
		cancel()
		half := e.tenant(t, request.ID)
		require.Equal(t, placement.StateProvisioning, half.State)
		require.NoError(t, e.Service.Remove(t.Context(), half, time.Hour))
		require.Empty(t, e.traces(t, request, home))
		require.NoError(t, e.Service.Remove(t.Context(), half, time.Hour), "again")

		// If it was completed meanwhile, it is an ordinary removal, with its grace.
		_, err := e.Service.Add(t.Context(), request)
		require.NoError(t, err)
		require.NoError(t, e.Service.Remove(t.Context(), half, time.Hour))
		require.Equal(t, placement.StateRemoving, e.tenant(t, request.ID).State)
		require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, request.ID)))
		e.works(t, request.ID)
		e.destroy(t, request.ID)
	}
}

// An undo that fails too is said, claims the tenant, and is finished by Purge.
func TestAnUndoThatFailsIsFinishedByPurge(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		proxy := faultnet.New(t, e.Server.Addr())
		host, port, err := split(proxy.Addr())
		require.NoError(t, err)
		e.through(t, host, port) // the cluster, not the catalog
		request, home := e.request(t, "acme", m)
		boom := errors.New("boom")
		_, err = e.service(t, e.Catalog, builder(func(context.Context, *pgx.Conn, string, string) error {
			proxy.Cut()
			return boom
		})).Add(t.Context(), request)
		require.ErrorIs(t, err, boom)
		require.ErrorContains(t, err, "landlord tenant remove --due tries again")
		proxy.Restore()
		require.NotEmpty(t, e.traces(t, request, home))
		_, err = e.Service.Add(t.Context(), request)
		require.ErrorIs(t, err, placement.ErrExists)
		left := e.tenant(t, request.ID)
		require.True(t, left.RemovalDue)
		require.NoError(t, e.Service.Purge(t.Context(), left))
		require.Empty(t, e.traces(t, request, home))
	}
}

// A transaction that is open when its tenant is removed writes until it ends. Purge waits for it, so that nothing stays
// that a later tenant of the same id would find.
func TestPurgeWaitsForTransactionsThatAreStillOpen(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	r := e.Router(t)
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema} {
		request, home := e.request(t, "acme-"+string(m), m)
		p, err := e.Service.Add(t.Context(), request)
		require.NoError(t, err)
		done := make(chan error)
		err = r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			var one int
			if err := tx.QueryRow(ctx, "select 1").Scan(&one); err != nil {
				return err
			}
			require.NoError(t, e.Service.Remove(ctx, e.tenant(t, p.Tenant), 0))
			doomed := e.tenant(t, p.Tenant)
			go func() { done <- e.Service.Purge(t.Context(), doomed) }()
			e.inDatabase(t, home.Database, func(conn *pgx.Conn) {
				for waiting := false; !waiting; {
					const q = `select exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))`
					require.NoError(t, conn.QueryRow(ctx, q).Scan(&waiting))
				}
			})
			_, err := tx.Exec(ctx, "insert into customers (email, name) values ('late@example.com', 'x')")
			return err
		})
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.Empty(t, e.traces(t, request, home))
	}
}

func TestPurgeTakesExactlyOneTenantsRows(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	const fill = `
insert into customers (tenant_id, email, name) select '%[1]s', n || '@example.com', 'x' from generate_series(1, 6000) n;
insert into orders (tenant_id, customer_id, currency) select tenant_id, id, 'EUR' from customers where tenant_id = '%[1]s';
insert into order_lines (tenant_id, order_id, position, product, quantity, unit_price) select tenant_id, id, 1, 'x', 1, 1 from orders where tenant_id = '%[1]s'`
	for _, m := range models {
		request, home := e.request(t, "acme-"+string(m), m)
		_, err := e.Service.Add(t.Context(), request)
		require.NoError(t, err)
		next := e.Add(t, "next-"+string(m), m, "a")
		counts := func(p placement.Placement) (n [3]int) {
			e.inDatabase(t, p.Home.Database, func(conn *pgx.Conn) {
				_, err := conn.Exec(t.Context(), "set search_path = "+pgx.Identifier{p.Home.Schema}.Sanitize())
				require.NoError(t, err)
				const q = `select (select count(*) from customers where tenant_id = $1), (select count(*) from orders where tenant_id = $1), (select count(*) from order_lines where tenant_id = $1)`
				require.NoError(t, conn.QueryRow(t.Context(), q, p.Tenant.String()).Scan(&n[0], &n[1], &n[2]))
			})
			return n
		}
		doomed := e.tenant(t, request.ID)
		for _, p := range []placement.Placement{doomed.Placement(), next} {
			e.SuperExec(t, p.Home.Database, "set search_path = "+pgx.Identifier{p.Home.Schema}.Sanitize()+";"+fmt.Sprintf(fill, p.Tenant.String()))
			require.Equal(t, [3]int{6000, 6000, 6000}, counts(p))
		}
		e.destroy(t, request.ID)
		require.Empty(t, e.traces(t, request, home))
		require.Equal(t, [3]int{6000, 6000, 6000}, counts(next))
		e.works(t, next.Tenant)
	}
}

// Homes are told apart from others of the same name, and databases by what stands in them.
func TestPurgeOfADatabaseTakesItsLoginAndItsRecord(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	request, home := e.request(t, "acme", placement.ModelDatabase)
	_, err := e.Service.Add(t.Context(), request)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"tenant", "record of the database", "database", "login"}, e.traces(t, request, home))
	access, err := e.cluster(t, "a").LoginConfig(placement.DedicatedLogin(home.Database), home.Database)
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), access)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	// This login enters its own database only.
	for _, other := range []string{e.cluster(t, "a").SharedDatabase, e.cluster(t, "b").SharedDatabase} {
		access.Database = other
		_, err := pgx.ConnectConfig(t.Context(), access)
		require.Error(t, err)
	}
	id, err := isolation.ReadIdentity(t.Context(), conn)
	require.NoError(t, err)
	require.Equal(t, placement.DedicatedLogin(home.Database), id.AppLogin)
	e.destroy(t, request.ID)
	require.Error(t, conn.Ping(t.Context()), "a connection that was open is closed")
	require.Empty(t, e.traces(t, request, home))
}
