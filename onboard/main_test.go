package onboard_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var models = []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}

// estate is a house, and how tests look at what is in it.
type estate struct{ *testhouse.House }

func newEstate(t *testing.T, opts testhouse.Options) estate {
	t.Helper()
	return estate{testhouse.New(t, opts)}
}

// builder is a Builder made of a function.
type builder func(ctx context.Context, conn *pgx.Conn, schema, tenant string) error

func (b builder) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	return b(ctx, conn, schema, tenant)
}

func (builder) Prepare(context.Context, *pgx.Conn, bool) error { return nil }

// sample builds the sample application's tables.
func sample(t testing.TB) onboard.Builder { return sampleSet(t) }

func sampleSet(t testing.TB) *migrate.Set {
	t.Helper()
	set, err := migrate.Load(os.DirFS(testhouse.SampleDir()))
	require.NoError(t, err)
	return set
}

// service is one with another builder or catalog than the house's.
func (e estate) service(t testing.TB, c *placement.Catalog, b onboard.Builder) *onboard.Service {
	t.Helper()
	s, err := onboard.New(onboard.Config{Catalog: c, Keys: e.Keys, Builder: b, Mode: isolation.Sealed})
	require.NoError(t, err)
	return s
}

// request asks for a tenant, whose home it tells beforehand. What the tenant leaves on the server goes with the test.
func (e estate) request(t testing.TB, slug string, model placement.Model) (placement.Request, placement.Home) {
	t.Helper()
	r := placement.Request{ID: e.NewID(t), Slug: tenant.Slug(slug), Model: model, Cluster: "a"}
	settings, err := e.Catalog.Settings(t.Context())
	require.NoError(t, err)
	home := placement.NewHome(model, e.cluster(t, "a"), placement.HomeName(settings.Installation, r.ID))
	e.Forget(t, placement.Placement{Model: model, Home: home})
	return r, home
}

func (e estate) cluster(t testing.TB, name string) placement.Cluster {
	t.Helper()
	c, err := e.Catalog.Cluster(t.Context(), name)
	require.NoError(t, err)
	return c
}

func (e estate) tenant(t testing.TB, id tenant.ID) placement.Tenant {
	t.Helper()
	found, err := e.Catalog.Tenant(t.Context(), id)
	require.NoError(t, err)
	return found
}

// traces lists everything that exists of a tenant, on the server and in the catalog.
func (e estate) traces(t testing.TB, r placement.Request, home placement.Home) []string {
	t.Helper()
	var found []string
	note := func(ok bool, what string) {
		if ok {
			found = append(found, what)
		}
	}
	_, err := e.Catalog.Tenant(t.Context(), r.ID)
	note(err == nil, "tenant")
	databases, err := e.Catalog.Databases(t.Context())
	require.NoError(t, err)
	for _, db := range databases {
		note(r.Model == placement.ModelDatabase && db.Name == home.Database, "record of the database")
	}
	const q = `
select 'database' from pg_database where datname = $1 and datname <> current_database()
union all select 'login' from pg_roles where rolname = $2
union all select 'schema' from pg_namespace where nspname = $3 and nspname <> 'public'
union all select distinct 'schema version' from landlord.schema_version where schema = $3 and schema <> 'public'
union all select 'fence' from landlord.fence where tenant = $4
union all select distinct 'rows' from customers where tenant_id::text = $4`
	e.inDatabase(t, e.cluster(t, "a").SharedDatabase, func(conn *pgx.Conn) {
		rows, err := conn.Query(t.Context(), q, home.Database, placement.DedicatedLogin(home.Database), home.Schema, r.ID.String())
		require.NoError(t, err)
		left, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		found = append(found, left...)
	})
	return found
}

// inDatabase runs fn on a superuser's connection that is closed at once.
func (e estate) inDatabase(t testing.TB, database string, fn func(conn *pgx.Conn)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.WithDatabase(e.Server.DSN, database))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	fn(conn)
}

// complete asserts that a tenant is active and its home open and built.
func (e estate) complete(t testing.TB, id tenant.ID) {
	t.Helper()
	found := e.tenant(t, id)
	require.Equal(t, placement.StateActive, found.State)
	e.inDatabase(t, found.Home.Database, func(conn *pgx.Conn) {
		const q = `
select (select state from landlord.fence where tenant = $1 and home = $2 and epoch = $3),
       (select max(version) from landlord.schema_version where schema = $4), to_regclass(quote_ident($4) || '.order_lines') is not null`
		var state string
		var version int
		var built bool
		require.NoError(t, conn.QueryRow(t.Context(), q, id.String(), found.Home.String(), found.Epoch, found.Home.Schema).Scan(&state, &version, &built))
		require.Equal(t, []any{"open", 3, true}, []any{state, version, built})
	})
}

// works asserts that a tenant is active and that its home takes and gives rows.
func (e estate) works(t testing.TB, id tenant.ID) {
	t.Helper()
	found := e.tenant(t, id)
	require.Equal(t, placement.StateActive, found.State)
	require.Equal(t, "open", e.fence(t, found))
	db := e.Router(t).Tenant(id)
	_, err := db.Exec(t.Context(), "insert into customers (email, name) values ($1, 'x')", strconv.FormatInt(time.Now().UnixNano(), 36)+"@example.com")
	require.NoError(t, err)
	var own, currencies int
	require.NoError(t, db.QueryRow(t.Context(), "select (select count(*) from customers), (select count(*) from currencies)").Scan(&own, &currencies))
	require.NotZero(t, own)
	require.NotZero(t, currencies)
}

// fence is what the home says of its tenant.
func (e estate) fence(t testing.TB, at placement.Tenant) (state string) {
	t.Helper()
	e.inDatabase(t, at.Home.Database, func(conn *pgx.Conn) {
		require.NoError(t, conn.QueryRow(t.Context(), `select coalesce((select state from landlord.fence where tenant = $1 and home = $2), 'none')`,
			at.ID.String(), at.Home.String()).Scan(&state))
	})
	return state
}

// destroy removes a tenant without grace.
func (e estate) destroy(t testing.TB, id tenant.ID) {
	t.Helper()
	require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, id), 0))
	require.NoError(t, e.Service.Purge(t.Context(), e.tenant(t, id)))
}

// through lets cluster a, and the returned catalog, be reached at another address.
func (e estate) through(t testing.TB, host string, port int) *placement.Catalog {
	t.Helper()
	file := filepath.Join(t.TempDir(), "operator")
	operator, err := readdress(e.Server.DSN, host, port)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(operator), 0o600))
	_, err = e.Catalog.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error {
		c.Operator = placement.Ref("file:" + file)
		c.Endpoint = "host=" + host + " port=" + strconv.Itoa(port) + " sslmode=disable"
		return nil
	})
	require.NoError(t, err)
	dsn, err := readdress(e.CatalogDSN, host, port)
	require.NoError(t, err)
	c, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Actor: "test", Retry: -1})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
