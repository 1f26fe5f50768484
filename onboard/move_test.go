package onboard_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// target is where a tenant of the house would go in a model, at the next epoch.
func (e estate) target(t *testing.T, p placement.Placement, model placement.Model, cluster string) placement.Placement {
	t.Helper()
	m, err := e.Catalog.BeginMove(t.Context(), placement.MoveRequest{Tenant: p.Tenant, Model: model, Cluster: cluster})
	require.NoError(t, err)
	to := m.At(true)
	e.Forget(t, to)
	return to
}

func TestHomeOfAMoveIsMadeClosedAndTakenAwayWhole(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, model := range models {
		p := e.Add(t, "to-"+string(model), placement.ModelShared, "a")
		to := e.target(t, p, model, "b")
		first, second := uuid.NewString(), uuid.NewString()
		require.NoError(t, e.Service.Make(t.Context(), to, first))
		require.NoError(t, e.Service.Make(t.Context(), to, second), "another process goes on")

		e.inDatabase(t, to.Home.Database, func(conn *pgx.Conn) {
			key := isolation.FenceKey{Tenant: p.Tenant.String(), Home: to.Home.String()}
			f, err := isolation.ReadFence(t.Context(), conn, key)
			require.NoError(t, err)
			require.Equal(t, []any{isolation.Importing, p.Epoch + 1, second}, []any{f.State, f.Epoch, f.Owner})
			customers := pgx.Identifier{to.Home.Schema, "customers"}.Sanitize()
			_, err = conn.Exec(t.Context(), "insert into "+customers+" (tenant_id, email, name) values ($1, 'x@example.com', '')", p.Tenant.String())
			require.NoError(t, err)
		})
		require.Equal(t, "open", e.fence(t, e.tenant(t, p.Tenant)), "the tenant stays where it is")

		for range 2 {
			require.NoError(t, e.Service.Unmake(t.Context(), to))
		}
		require.Empty(t, e.tracesOf(t, to))
		require.NoError(t, e.Service.Make(t.Context(), to, first), "and it can be made again")
		require.NoError(t, e.Service.Unmake(t.Context(), to))
	}
}

func TestHomeThatATenantLivesInIsNotTakenAway(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, model := range models {
		p := e.Add(t, "at-"+string(model), model, "a")
		require.ErrorIs(t, e.Service.Unmake(t.Context(), p), placement.ErrState)
		require.ErrorIs(t, e.Service.Make(t.Context(), p, uuid.NewString()), placement.ErrState)

		// The catalog, brought back from a backup, names another home.
		to := e.target(t, p, placement.ModelShared, "b")
		require.NoError(t, e.Catalog.SetPlacement(t.Context(), p.Epoch, to))
		require.ErrorIs(t, e.Service.Unmake(t.Context(), p), isolation.ErrFence)
		require.ErrorIs(t, e.Service.Make(t.Context(), p, uuid.NewString()), isolation.ErrFence)
		require.Equal(t, "open", e.fence(t, placement.Tenant{ID: p.Tenant, Home: p.Home}))
	}
}

// tracesOf lists what exists of p's home.
func (e estate) tracesOf(t *testing.T, p placement.Placement) (found []string) {
	t.Helper()
	databases, err := e.Catalog.Databases(t.Context())
	require.NoError(t, err)
	for _, db := range databases {
		if p.Model == placement.ModelDatabase && db.Name == p.Home.Database {
			found = append(found, "record of the database")
		}
	}
	const q = `
select 'database' from pg_database where datname = $1 and datname <> current_database()
union all select 'login' from pg_roles where rolname = $2
union all select 'schema' from pg_namespace where nspname = $3 and nspname <> 'public'
union all select distinct 'schema version' from landlord.schema_version where schema = $3 and schema <> 'public'
union all select 'fence' from landlord.fence where tenant = $4
union all select distinct 'rows' from customers where tenant_id::text = $4`
	e.inDatabase(t, e.cluster(t, p.Home.Cluster).SharedDatabase, func(conn *pgx.Conn) {
		rows, err := conn.Query(t.Context(), q, p.Home.Database, placement.DedicatedLogin(p.Home.Database), p.Home.Schema, p.Tenant.String())
		require.NoError(t, err)
		left, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		found = append(found, left...)
	})
	return found
}

func TestMoveAndSuspensionDoNotMeet(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelShared, "a")
	stale := e.tenant(t, p.Tenant) // read before the move began
	e.target(t, p, placement.ModelSchema, "a")

	require.ErrorIs(t, e.Service.Suspend(t.Context(), e.tenant(t, p.Tenant)), placement.ErrState)
	require.ErrorContains(t, e.Service.Suspend(t.Context(), e.tenant(t, p.Tenant)), "landlord move abort acme")
	require.ErrorIs(t, e.Service.Suspend(t.Context(), stale), placement.ErrState)
	require.ErrorIs(t, e.Service.Remove(t.Context(), stale, 0), placement.ErrState)
	require.ErrorIs(t, e.Service.Resume(t.Context(), stale), placement.ErrState)
	require.Equal(t, placement.StateMoving, e.tenant(t, p.Tenant).State)
	require.Equal(t, "open", e.fence(t, stale), "who came too late leaves it as it was")
}
