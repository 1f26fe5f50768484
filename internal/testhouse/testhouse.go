// Package testhouse builds a whole installation on a test server: a catalog, two clusters, the sample application's tables,
// and whatever tenants a test asks for. It is for tests only.
//
//landlordvet:allow around tests look at homes from outside
package testhouse

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// Options of a house. The zero value is uuid ids in the sealed mode.
type Options struct {
	IDType tenant.IDType
	Mode   isolation.Mode
	// Clusters to build; empty: "a" and "b".
	Clusters []string
	// Soft leaves to the application's logins what hardening takes, for tests that make a mess of a session and look at it.
	Soft bool
	// Migrations are the application's tables; nil: the sample application's.
	Migrations fs.FS
	// Own, if not nil, is the clusters' server, of this test alone, which may fail. The catalog stays on the tests' own.
	Own *pglocal.Server
	// Apart are clusters that have servers of this test's alone to themselves.
	Apart map[string]*pglocal.Server
	// Endpoint, if not nil, changes how routers reach a cluster, to put a proxy between.
	Endpoint func(cluster, host string, port int) (string, int)
}

// House is one installation. Its clusters are on the same server, unless a test wants it otherwise, with databases of their own.
type House struct {
	Catalog    *placement.Catalog
	CatalogDSN string
	Service    *onboard.Service
	Keys       isolation.Keyring
	Server     pgtest.Info
	IDType     tenant.IDType
	Clusters   []string

	apart map[string]string // DSN of the server, by shared database; those that are not there are on Server
}

// New builds a house and takes it away when the test ends.
func New(t testing.TB, opts Options) *House {
	t.Helper()
	if opts.IDType == "" {
		opts.IDType = tenant.UUID
	}
	if opts.Mode == "" {
		opts.Mode = isolation.Sealed
	}
	if len(opts.Clusters) == 0 {
		opts.Clusters = []string{"a", "b"}
	}
	ctx := t.Context()
	server := pgtest.Server(t)
	if opts.Own != nil {
		server = pgtest.Describe(t, opts.Own)
	}
	key, err := isolation.NewKey(1)
	require.NoError(t, err)
	h := &House{
		CatalogDSN: pgtest.NewDatabase(t), Keys: isolation.Keyring{key}, Server: server, IDType: opts.IDType,
		Clusters: opts.Clusters, apart: map[string]string{},
	}
	h.Catalog = h.OpenCatalog(t, h.CatalogDSN)
	_, err = h.Catalog.Init(ctx, opts.IDType)
	require.NoError(t, err)
	load := sample
	if opts.Migrations != nil {
		load = func() (*migrate.Set, error) { return migrate.Load(opts.Migrations) }
	}
	set, err := load()
	require.NoError(t, err)
	h.Service, err = onboard.New(onboard.Config{Catalog: h.Catalog, Keys: h.Keys, Builder: set, Mode: opts.Mode})
	require.NoError(t, err)

	dir := t.TempDir()
	tag := strings.ReplaceAll(uuid.NewString()[:8], "-", "")
	for _, name := range h.Clusters {
		server, shared := server, "shared_"+name+"_"+tag
		if own, ok := opts.Apart[name]; ok {
			server = pgtest.Describe(t, own)
			h.apart[shared] = server.DSN
		}
		host, port := server.Host, server.Port
		if opts.Endpoint != nil {
			host, port = opts.Endpoint(name, host, port)
		}
		c := placement.Cluster{
			Name: name, Endpoint: "host=" + host + " port=" + strconv.Itoa(port) + " sslmode=disable", State: placement.ClusterActive,
			SharedDatabase: shared,
			Operator:       secret(t, dir, name+".operator", server.DSN),
			// Roles belong to the server, which tests share: so do their passwords.
			App: secret(t, dir, name+".app", appSecret), Admin: secret(t, dir, name+".admin", adminSecret),
		}
		require.NoError(t, h.Catalog.AddCluster(ctx, c))
		t.Cleanup(func() { h.drop(t, c.SharedDatabase) })
		_, err := h.Service.SetUp(ctx, c)
		require.NoError(t, err)
	}
	if !opts.Soft {
		_, err = h.Service.Harden(ctx, false, false) // dedicated databases follow
		require.NoError(t, err)
	}
	return h
}

// sample is loaded once for all houses: reading goose files takes longer than one would think, most of all with the race detector on.
var sample = sync.OnceValues(func() (*migrate.Set, error) { return migrate.Load(os.DirFS(SampleDir())) })

// SampleDir is the folder of the sample application's migrations.
func SampleDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "cmd", "landlord", "sample")
}

func secret(t testing.TB, dir, name, value string) placement.Ref {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(value), 0o600))
	return placement.Ref("file:" + path)
}

// OpenCatalog opens a catalog for the length of the test.
func (h *House) OpenCatalog(t testing.TB, dsn string) *placement.Catalog {
	t.Helper()
	c, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Actor: "test"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// Add brings a tenant of the model to a cluster. Its dedicated database, if it has one, goes when the test ends.
func (h *House) Add(t testing.TB, slug string, model placement.Model, cluster string) placement.Placement {
	t.Helper()
	p, err := h.Service.Add(t.Context(), placement.Request{
		ID: h.NewID(t), Slug: tenant.Slug(slug), Model: model, Cluster: cluster,
	})
	require.NoError(t, err)
	h.Forget(t, p)
	return p
}

// Forget takes p's dedicated database and login away when the test ends.
func (h *House) Forget(t testing.TB, p placement.Placement) {
	if p.Model == placement.ModelDatabase {
		t.Cleanup(func() {
			h.drop(t, p.Home.Database)
			h.SuperExec(t, "postgres", "drop role if exists "+pgx.Identifier{placement.DedicatedLogin(p.Home.Database)}.Sanitize())
		})
	}
}

// NewID makes an id that no other test has.
func (h *House) NewID(t testing.TB) tenant.ID {
	t.Helper()
	var id tenant.ID
	var err error
	switch h.IDType {
	case tenant.UUID:
		id, err = h.IDType.New()
	case tenant.BigInt:
		id, err = h.IDType.Parse(strconv.FormatInt(time.Now().UnixNano(), 10))
	case tenant.Text:
		id, err = h.IDType.Parse("id " + uuid.NewString())
	}
	require.NoError(t, err)
	return id
}

// Router returns a router on the house's catalog. change may alter its configuration.
func (h *House) Router(t testing.TB, change ...func(*router.Config)) *router.Router {
	t.Helper()
	cfg := router.Config{Catalog: h.Catalog, Keys: h.Keys}
	for _, c := range change {
		c(&cfg)
	}
	r, err := router.New(cfg)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

// dsn is the superuser's. A dedicated database is taken to be on Server.
func (h *House) dsn(database string) string {
	return pgtest.WithDatabase(cmp.Or(h.apart[database], h.Server.DSN), database)
}

// Super connects to a database as the superuser, for the length of the test.
func (h *House) Super(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.dsn(database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// superPatience bounds what the superuser does. To drop a database the server waits until all of its sessions have noticed, also one
// that writes to a process which another test has stopped.
const superPatience = 5 * time.Minute

// SuperExec runs SQL in a database as the superuser. It also works while the test is being cleaned up.
func (h *House) SuperExec(t testing.TB, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), superPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.dsn(database))
	require.NoError(t, err)
	defer conn.Close(ctx) // the SQL has been answered
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}

func (h *House) drop(t testing.TB, database string) {
	if h.apart[database] != "" {
		return // it goes with its server
	}
	h.SuperExec(t, "postgres", "drop database if exists "+pgx.Identifier{database}.Sanitize()+" with (force)")
}
