package preflight_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/placement"
)

var models = []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}

func TestNothingIsWrongWithAHealthyTenant(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	for _, from := range models {
		e := estate{h, h.Add(t, "acme-"+string(from), from, "a")}
		e.sql(t, e.tenant.Home, `insert into customers (tenant_id, email, name) select '`+e.tenant.Tenant.String()+`', 'e' || i, 'n' from generate_series(1, 30) i`)
		for _, to := range models {
			for _, cluster := range []string{"a", "b"} {
				if to == from && cluster == "a" {
					continue
				}
				r := e.check(t, to, func(c *preflight.Config) { c.Cluster = cluster })
				assert.Empty(t, r.Problems, "%s to %s on %s", from, to, cluster)
				assert.True(t, r.OK())
				assert.Empty(t, r.Warnings, "%s to %s on %s", from, to, cluster)
				assert.NotEmpty(t, r.Unknown, "free disk space")
				assert.Equal(t, e.tenant.Home, r.Source.Home)
				assert.Equal(t, to, r.Target.Model)
				assert.EqualValues(t, 30, r.Estimate.Rows)
				assert.Positive(t, r.Estimate.Bytes)
				assert.Len(t, r.Estimate.Tables, 3)
			}
		}
	}
	r := estate{h, h.Add(t, "empty", placement.ModelSchema, "a")}.check(t, placement.ModelShared)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"problems":[]`)
}

func TestLookingWritesNothing(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{Own: pgtest.OwnServer(t)})
	conn := e.Super(t, "postgres")
	next := func() (xid int64) {
		require.NoError(t, conn.QueryRow(t.Context(), `select pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&xid))
		return xid
	}
	before := next()
	for _, to := range models {
		assert.Empty(t, e.check(t, to).Problems)
	}
	assert.Equal(t, before, next(), "a transaction that had written anything would have taken a number")
}

func TestCatalogsObjectionsAreReportedTogether(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{})
	ctx := t.Context()

	r := e.check(t, placement.ModelShared, func(c *preflight.Config) { c.Cluster = "" })
	assert.Contains(t, one(t, r.Problems, preflight.SameHome, "acme").What, "as shared already")

	r = e.check(t, placement.ModelShared, func(c *preflight.Config) { c.Cluster = "x" })
	assert.Contains(t, one(t, r.Problems, preflight.NoCluster, "cluster x").What, "does not know")

	for _, state := range []placement.ClusterState{placement.ClusterFull, placement.ClusterDraining} {
		_, err := e.Catalog.UpdateCluster(ctx, "b", func(c *placement.Cluster) error { c.State = state; return nil })
		require.NoError(t, err)
		r = e.check(t, placement.ModelShared)
		assert.Equal(t, "it is marked "+string(state), one(t, r.Problems, preflight.ClusterFull, "cluster b").What)
	}
	_, err := e.Catalog.UpdateCluster(ctx, "b", func(c *placement.Cluster) error { c.State, c.Capacity = placement.ClusterActive, 1; return nil })
	require.NoError(t, err)
	e.Add(t, "other", placement.ModelShared, "b")
	require.NoError(t, e.Service.Suspend(ctx, e.read(t)))
	r = e.check(t, placement.ModelShared)
	assert.Equal(t, "it has 1 tenants, and its capacity is 1", one(t, r.Problems, preflight.ClusterFull, "cluster b").What)
	assert.Equal(t, "the tenant is suspended", one(t, r.Problems, preflight.TenantState, "tenant acme").What)
	assert.Equal(t, "the fence is suspended, not open", one(t, r.Problems, preflight.FenceState, e.tenant.Home.String()).What)
}

func (e estate) read(t *testing.T) placement.Tenant {
	t.Helper()
	who, err := e.Catalog.Tenant(t.Context(), e.tenant.Tenant)
	require.NoError(t, err)
	return who
}

func TestMovesUnderWayAreReported(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{})
	_, err := e.Catalog.BeginMove(t.Context(), placement.MoveRequest{Tenant: e.tenant.Tenant, Model: placement.ModelSchema, Cluster: "b"})
	require.NoError(t, err)
	r := e.check(t, placement.ModelDatabase, func(c *preflight.Config) { c.Limit = 1 })
	assert.Contains(t, one(t, r.Problems, preflight.OtherMove, "tenant acme").What, "it is planned")
	for _, cluster := range []string{"a", "b"} {
		assert.Equal(t, "it takes part in 1 moves, and 1 may be under way at once", one(t, r.Problems, preflight.TooManyMoves, "cluster "+cluster).What)
	}

	other := estate{e.House, e.Add(t, "other", placement.ModelSchema, "a")}
	other.SuperExec(t, other.tenant.Home.Database, `insert into landlord.move_hold (schema, move) values ('`+other.tenant.Home.Schema+`', gen_random_uuid())`)
	r = other.check(t, placement.ModelShared)
	assert.Contains(t, one(t, r.Problems, preflight.OtherMove, other.tenant.Home.String()).What, "it is held by move")
}

func TestStateOfBothHomesIsReported(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelSchema, testhouse.Options{})
	id, home, there := e.tenant.Tenant.String(), e.tenant.Home, e.there(t)

	e.sql(t, home, `update landlord.fence set epoch = epoch + 1 where tenant = '`+id+`'`)
	e.sql(t, home, `insert into landlord.schema_step (schema, run, lease, unfinished) values ('`+home.Schema+`', gen_random_uuid(), 1, 3)`)
	e.sql(t, home, `update landlord.schema_version set checksum = 'x' where schema = '`+home.Schema+`' and version = 2`)
	e.sql(t, home, `delete from landlord.schema_version where schema = '`+home.Schema+`' and version = 3`)
	e.sql(t, home, `update currencies set digits = 3 where code = 'JPY'`)
	e.sql(t, home, `insert into customers (tenant_id, email, name) values (gen_random_uuid(), 'e', 'n')`)
	e.sql(t, there, `insert into landlord.fence (tenant, home, slug, model, epoch, state) values ('`+id+`', '`+there.String()+`', 'acme', 'shared', 7, 'moved')`)
	e.sql(t, there, `insert into landlord.schema_version (schema, version, checksum) values ('public', 9, 'y')`)

	r := e.check(t, placement.ModelShared)
	assert.Equal(t, "the fence is at epoch 2, and the catalog at 1", one(t, r.Problems, preflight.FenceState, home.String()).What)
	assert.Contains(t, one(t, r.Problems, preflight.RunningStep, home.String()).What, "version 3 runs outside a transaction")
	assert.Equal(t, "version 2 was made from another text, 3 is missing at the source, 9 is missing at the source",
		one(t, r.Problems, preflight.SchemaVersion, home.String()).What)
	assert.Contains(t, one(t, r.Problems, preflight.ReferenceRows, "currencies").What, "as many, but not the same")
	assert.Contains(t, one(t, r.Problems, preflight.ForeignRows, "customers").What, "another tenant_id")
	assert.Equal(t, "there is a fence row of the tenant, moved at epoch 7", one(t, r.Problems, preflight.TargetHome, there.String()).What)
	assert.Len(t, r.Problems, 6)

	// Nothing of a schema that is to be made can be there. It is judged by the shared home of its cluster.
	r = e.check(t, placement.ModelSchema)
	assert.Contains(t, one(t, r.Problems, preflight.SchemaVersion, home.String()).What, "judged by the home "+there.String())
	assert.Len(t, r.Problems, 5)

	e.sql(t, there, `delete from landlord.fence where tenant = '`+id+`'; insert into customers (tenant_id, email, name) values ('`+id+`', 'e', 'n');
		delete from currencies where code = 'USD'`)
	e.sql(t, home, `delete from landlord.fence where tenant = '`+id+`'`)
	r = e.check(t, placement.ModelShared)
	assert.Equal(t, "there are rows of the tenant", one(t, r.Problems, preflight.TargetHome, there.String()).What)
	assert.Equal(t, "there is no fence row of the tenant", one(t, r.Problems, preflight.FenceState, home.String()).What)
	assert.Contains(t, one(t, r.Problems, preflight.ReferenceRows, "currencies").What, "3, and the source 4")
}

func TestClusterThatDoesNotAnswerIsOneProblemAmongOthers(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{})
	require.NoError(t, e.Catalog.AddCluster(t.Context(), placement.Cluster{
		Name: "c", Endpoint: "host=127.0.0.1 port=1", SharedDatabase: "nothing", State: placement.ClusterDraining,
		Operator: "env:LANDLORD_TEST_NO_SUCH_OPERATOR", App: "env:X", Admin: "env:X",
	}))
	r := e.check(t, placement.ModelShared, func(c *preflight.Config) { c.Cluster = "c" })
	assert.Contains(t, one(t, r.Problems, preflight.Unreachable, "database nothing").What, "LANDLORD_TEST_NO_SUCH_OPERATOR")
	one(t, r.Problems, preflight.ClusterFull, "cluster c")
	assert.NotEmpty(t, r.Estimate.Tables, "the source could be looked at")
}
