package migrate_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	tenantID = "0b6ff7b6-4c2f-4a51-9d0a-8f6a2c9f4d11"
	other    = "5a3c1c0e-97c5-4a2e-8b51-1d5d7f3f9a22"
)

// newHome makes a database with landlord's objects and connects to it as the migrator.
func newHome(t *testing.T) *pgx.Conn {
	t.Helper()
	dsn := pgtest.Clone(t, "migrate home", func(ctx context.Context, conn *pgx.Conn) error {
		// Roles are the server's, and tests of other packages may have made theirs: those will do.
		var made bool
		if err := conn.QueryRow(ctx, `select to_regrole('landlord_migrator') is not null`).Scan(&made); err != nil {
			return err
		}
		if !made {
			pw := isolation.Passwords{App: "app", Admin: "admin", Migrator: "migrator"}
			if _, err := isolation.EnsureRoles(ctx, conn, isolation.Plain, pw); err != nil {
				return err
			}
		}
		_, err := isolation.Install(ctx, conn, isolation.Identity{
			Installation: "f35d4b0e-1bd1-4df7-8a39-61d3a3b60a10",
			Cluster:      "a",
			Stamp:        "f35d4b0e-1bd1-4df7-8a39-61d3a3b60a11",
			AppLogin:     isolation.AppRole,
			Mode:         isolation.Plain,
		}, nil)
		return err
	})
	return connect(t, dsn)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.RuntimeParams["role"] = isolation.MigratorRole
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) })
	return conn
}

// again connects to the same database once more.
func again(t *testing.T, conn *pgx.Conn) *pgx.Conn {
	t.Helper()
	more, err := pgx.ConnectConfig(t.Context(), conn.Config())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, more.Close(context.WithoutCancel(t.Context()))) })
	return more
}

// superuser connects to the same database as the one who sees what all connections do.
func superuser(t *testing.T, conn *pgx.Conn) *pgx.Conn {
	t.Helper()
	cfg := conn.Config()
	delete(cfg.RuntimeParams, "role")
	super, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, super.Close(context.WithoutCancel(t.Context()))) })
	return super
}

// newSchema makes an empty schema in which the migrator may work.
func newSchema(t *testing.T, conn *pgx.Conn, schema string) {
	t.Helper()
	name := pgx.Identifier{schema}.Sanitize()
	_, err := superuser(t, conn).Exec(t.Context(), "create schema "+name+" authorization landlord_owner;"+
		"grant usage, create on schema "+name+" to landlord_migrator")
	require.NoError(t, err)
}

func load(t *testing.T, fsys fs.FS) *migrate.Set {
	t.Helper()
	set, err := migrate.Load(fsys)
	require.NoError(t, err)
	return set
}

// texts runs a query of one text column.
func texts(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

func recorded(t *testing.T, conn *pgx.Conn, schema string) []int64 {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select version from landlord.schema_version where schema = $1 order by version`, schema)
	require.NoError(t, err)
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return versions
}

// tables lists what a schema holds.
func tables(t *testing.T, conn *pgx.Conn, schema string) []string {
	t.Helper()
	return texts(t, conn, `select relname::text from pg_class where relnamespace = $1::regnamespace and relkind = 'r' order by 1`,
		pgx.Identifier{schema}.Sanitize())
}
