package placement_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrations"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDSN) != "" {
		os.Exit(placeInChild())
	}
	pgtest.Main(m)
}

// catalogDSN makes a database with an empty catalog, whose ids are uuids. The DSN is a URL with a query.
func catalogDSN(t testing.TB) string {
	t.Helper()
	dsn := pgtest.Clone(t, "placement catalog "+migrationsHash(t), func(ctx context.Context, conn *pgx.Conn) error {
		c, err := placement.Open(ctx, placement.Config{DSN: conn.Config().ConnString()})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Init(ctx, tenant.UUID)
		return err
	})
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Path: "/" + cfg.Database,
		Host: net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), RawQuery: "sslmode=disable",
	}
	return u.String()
}

func migrationsHash(t testing.TB) string {
	t.Helper()
	h := sha256.New()
	err := fs.WalkDir(migrations.Control(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(migrations.Control(), path)
		fmt.Fprintf(h, "%s %d %s", path, len(content), content)
		return err
	})
	require.NoError(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

func open(t testing.TB, cfg placement.Config) *placement.Catalog {
	t.Helper()
	c, err := placement.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func newCatalog(t testing.TB) *placement.Catalog {
	t.Helper()
	return open(t, placement.Config{DSN: catalogDSN(t), Actor: "tester"})
}

// connect opens a connection beside the catalog's own.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// newLogin makes a login that lasts for the test and returns the DSN with it in place of the superuser.
func newLogin(t testing.TB, dsn, options string) (name, as string) {
	t.Helper()
	admin := connect(t, dsn)
	id, err := tenant.UUID.New()
	require.NoError(t, err)
	name = "placement_" + strings.ReplaceAll(id.String(), "-", "")
	quoted := pgx.Identifier{name}.Sanitize()
	exec(t, admin, "create role "+quoted+" login password 'of-a-test' "+options)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, err := admin.Exec(ctx, "drop owned by "+quoted)
		require.NoError(t, err)
		_, err = admin.Exec(ctx, "drop role "+quoted)
		require.NoError(t, err)
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "of-a-test")
	return name, u.String()
}

// letWrite grants a login what commands that change the catalog need.
func letWrite(t testing.TB, dsn, login string) {
	t.Helper()
	admin, quoted := connect(t, dsn), pgx.Identifier{login}.Sanitize()
	exec(t, admin, "grant usage on schema landlord to "+quoted)
	exec(t, admin, "grant select, insert, update, delete on all tables in schema landlord to "+quoted)
}

func aCluster(name string) placement.Cluster {
	return placement.Cluster{
		Name: name, Endpoint: "host=" + name + ".example port=5432", SharedDatabase: "app", Connections: placement.DefaultConnections,
		Operator: "env:OPERATOR_DSN", App: "env:APP_SECRET", Admin: "file:/run/secrets/admin",
	}
}

func addClusters(t testing.TB, c *placement.Catalog, clusters ...placement.Cluster) {
	t.Helper()
	for _, cl := range clusters {
		require.NoError(t, c.AddCluster(t.Context(), cl))
	}
}

func place(t testing.TB, c *placement.Catalog, r placement.Request) placement.Placement {
	t.Helper()
	if r.Model == "" {
		r.Model = placement.ModelShared
	}
	p, existed, err := c.Place(t.Context(), r)
	require.NoError(t, err)
	require.False(t, existed)
	return p
}

func newID(t testing.TB) tenant.ID {
	t.Helper()
	id, err := tenant.UUID.New()
	require.NoError(t, err)
	return id
}
