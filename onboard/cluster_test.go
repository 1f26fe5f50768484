package onboard_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// addCluster records a cluster like a, with a shared database of its own that does not exist yet.
func (e estate) addCluster(t testing.TB, name string) placement.Cluster {
	t.Helper()
	c := e.cluster(t, "a")
	c.Name, c.SharedDatabase = name, "shared_"+strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	require.NoError(t, e.Catalog.AddCluster(t.Context(), c))
	t.Cleanup(func() { e.SuperExec(t, "postgres", "drop database if exists "+c.SharedDatabase+" with (force)") })
	return c
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := onboard.New(onboard.Config{})
	require.ErrorContains(t, err, "Catalog is missing")
	require.ErrorContains(t, err, "Builder is missing")
}

func TestSetUpIsIdempotentAndSaysWhatItDid(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	c := e.addCluster(t, "c")
	mode, why, err := e.Service.Mode(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, isolation.Sealed, mode)
	require.NotEmpty(t, why)

	changed, err := e.Service.SetUp(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, []string{
		"cluster c: created shared database " + c.SharedDatabase + " in mode sealed: it was asked for",
		fmt.Sprintf("cluster c: installed home objects version %d in %s", isolation.Version, c.SharedDatabase),
		"cluster c: applied 3 migrations in " + c.SharedDatabase,
	}, changed)
	for range 2 {
		changed, err = e.Service.SetUp(t.Context(), c)
		require.NoError(t, err)
		require.Empty(t, changed)
	}
	changed, err = e.Service.Upgrade(t.Context())
	require.NoError(t, err)
	require.Empty(t, changed)
}

func TestManySetUpsAtOnceMakeOneSharedDatabase(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	c := e.addCluster(t, "c")
	results := make([][]string, 4)
	var group errgroup.Group
	for i := range results {
		group.Go(func() (err error) {
			results[i], err = e.Service.SetUp(t.Context(), c)
			return err
		})
	}
	require.NoError(t, group.Wait())
	var all []string
	for _, r := range results {
		all = append(all, r...)
	}
	require.Len(t, all, 3+count(all, "applied")-1, "each step once: %v", all)
	request, _ := e.request(t, "acme", placement.ModelSchema)
	request.Cluster = "c"
	_, err := e.Service.Add(t.Context(), request)
	require.NoError(t, err)
	e.works(t, request.ID)
}

func count(lines []string, word string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, word) {
			n++
		}
	}
	return n
}

func TestSetUpRefusesADatabaseThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	c := e.addCluster(t, "c")
	e.SuperExec(t, "postgres", "create database "+c.SharedDatabase)
	_, err := e.Service.SetUp(t.Context(), c)
	require.ErrorIs(t, err, isolation.ErrForeign)

	// Another cluster's shared database, by a name that was given twice.
	d := e.cluster(t, "a")
	d.Name = "d"
	require.NoError(t, e.Catalog.AddCluster(t.Context(), d))
	_, err = e.Service.SetUp(t.Context(), d)
	require.ErrorIs(t, err, isolation.ErrIdentity)
	changed, err := e.Service.SetUp(t.Context(), e.cluster(t, "a"))
	require.NoError(t, err)
	require.Empty(t, changed)
}

// A database that was lost is not quietly replaced by an empty one: its tenants would find nothing.
func TestADatabaseThatWasDroppedAndMadeAgainIsRefused(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	request, home := e.request(t, "acme", placement.ModelDatabase)
	_, err := e.Service.Add(t.Context(), request)
	require.NoError(t, err)
	b := e.cluster(t, "b")
	for _, database := range []string{home.Database, b.SharedDatabase} {
		name := pgx.Identifier{database}.Sanitize()
		e.SuperExec(t, "postgres", "drop database "+name+" with (force)")
		e.SuperExec(t, "postgres", "create database "+name+" owner landlord_owner")
	}
	e.SuperExec(t, "postgres", "comment on database "+b.SharedDatabase+" is 'landlord: "+e.sharedMark(t)+"'")
	databases, err := e.Catalog.Databases(t.Context())
	require.NoError(t, err)

	changed, err := e.Service.Upgrade(t.Context())
	require.ErrorIs(t, err, isolation.ErrIdentity)
	require.ErrorContains(t, err, home.Database)
	require.Empty(t, changed)
	_, err = e.Service.SetUp(t.Context(), b)
	require.ErrorIs(t, err, isolation.ErrIdentity)
	_, err = e.Service.Keys(t.Context())
	require.ErrorIs(t, err, isolation.ErrIdentity)
	after, err := e.Catalog.Databases(t.Context())
	require.NoError(t, err)
	require.Equal(t, databases, after)
	e.inDatabase(t, home.Database, func(conn *pgx.Conn) {
		_, err := isolation.ReadIdentity(t.Context(), conn)
		require.ErrorIs(t, err, isolation.ErrIdentity, "nothing was installed")
	})

	// The tenant can still be taken away.
	require.NoError(t, e.Catalog.SetState(t.Context(), request.ID, placement.StateRemoving))
	require.NoError(t, e.Service.Purge(t.Context(), e.tenant(t, request.ID)))
	require.Empty(t, e.traces(t, request, home))
}

func (e estate) sharedMark(t testing.TB) string {
	t.Helper()
	settings, err := e.Catalog.Settings(t.Context())
	require.NoError(t, err)
	return isolation.SharedMark(settings.Installation)
}

func TestUpgradeGoesPastADatabaseThatFails(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	var homes []placement.Placement
	for _, slug := range []string{"one", "two", "three"} {
		p := e.Add(t, slug, placement.ModelDatabase, "a")
		homes = append(homes, p)
		e.SuperExec(t, p.Home.Database, "update landlord.identity set checksum = 'of an older release'")
	}
	e.SuperExec(t, homes[1].Home.Database, "update landlord.identity set version = version + 1")
	login := pgx.Identifier{placement.DedicatedLogin(homes[2].Home.Database)}.Sanitize()
	e.SuperExec(t, "postgres", "alter role "+login+" password 'changed'")

	changed, err := e.Service.Upgrade(t.Context())
	require.ErrorContains(t, err, homes[1].Home.Database)
	require.NotContains(t, err.Error(), homes[0].Home.Database)
	require.Equal(t, 2, count(changed, "installed home objects"), "%v", changed)
	require.Equal(t, 1, count(changed, "set the password of"), "%v", changed)
	e.works(t, homes[0].Tenant)
	e.works(t, homes[2].Tenant)

	e.SuperExec(t, homes[1].Home.Database, "update landlord.identity set version = version - 1")
	changed, err = e.Service.Upgrade(t.Context())
	require.NoError(t, err)
	require.Len(t, changed, 1)
	changed, err = e.Service.Upgrade(t.Context())
	require.NoError(t, err)
	require.Empty(t, changed)
}

// From PostgreSQL 16 on everything works with an operator who is no superuser, in mode sealed-mac. Before, the roles cannot
// be made, and that is said before anything else happens.
func TestAnOperatorWithoutSuperuserSetsUpAndServesAllModels(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	super, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	defer super.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		"create role ops login password 'x' createrole createdb bypassrls", "create database maintenance", "create database control owner ops",
	} {
		_, err = super.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	var version int
	require.NoError(t, super.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version))

	cfg, err := pgx.ParseConfig(server.DSN())
	require.NoError(t, err)
	dir := t.TempDir()
	secret := func(name, value string) placement.Ref {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(value), 0o600))
		return placement.Ref("file:" + path)
	}
	at := "host=" + cfg.Host + " port=" + strconv.Itoa(int(cfg.Port)) + " sslmode=disable"
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: at + " user=ops password=x dbname=control"})
	require.NoError(t, err)
	t.Cleanup(catalog.Close)
	_, err = catalog.Init(t.Context(), tenant.UUID)
	require.NoError(t, err)
	c := placement.Cluster{
		Name: "a", Endpoint: at, SharedDatabase: "shared", Operator: secret("operator", at+" user=ops password=x dbname=maintenance"),
		App: secret("app", "one"), Admin: secret("admin", "two"),
	}
	require.NoError(t, catalog.AddCluster(t.Context(), c))
	key, err := isolation.NewKey(1)
	require.NoError(t, err)
	service, err := onboard.New(onboard.Config{Catalog: catalog, Keys: isolation.Keyring{key}, Builder: sample(t)})
	require.NoError(t, err)
	mode, why, err := service.Mode(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, isolation.SealedMAC, mode)
	require.Contains(t, why, "no superuser")

	_, err = service.SetUp(t.Context(), c)
	if version < 160000 {
		require.ErrorContains(t, err, "must be a superuser or, from PostgreSQL 16 on, have CREATEROLE")
		var made int
		require.NoError(t, super.QueryRow(t.Context(), "select count(*) from pg_database where datname = 'shared'").Scan(&made))
		require.Zero(t, made)
		return
	}
	require.NoError(t, err)
	changed, err := service.SetUp(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, changed)
	e := estate{&testhouse.House{Catalog: catalog, Service: service, Keys: isolation.Keyring{key}, IDType: tenant.UUID}}
	e.Server.DSN = server.DSN()
	for _, m := range models {
		request, home := e.request(t, "acme-"+string(m), m)
		_, err := service.Add(t.Context(), request)
		require.NoError(t, err)
		e.works(t, request.ID)
		found := e.tenant(t, request.ID)
		require.NoError(t, service.Suspend(t.Context(), found))
		require.NoError(t, service.Resume(t.Context(), e.tenant(t, request.ID)))
		changed, err := service.Upgrade(t.Context())
		require.NoError(t, err)
		require.Empty(t, changed)
		r := e.Router(t) // holds a connection to the home that is destroyed
		var one int
		require.NoError(t, r.Tenant(request.ID).QueryRow(t.Context(), "select 1").Scan(&one))
		e.destroy(t, request.ID)
		require.Empty(t, e.traces(t, request, home))
	}
}
