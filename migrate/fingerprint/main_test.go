package fingerprint_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fingerprint"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	tenantID = "0b6ff7b6-4c2f-4a51-9d0a-8f6a2c9f4d11"
	otherID  = "5a3c1c0e-97c5-4a2e-8b51-1d5d7f3f9a22"
)

// rig is a database with landlord's objects, as its superuser and as the migrator.
type rig struct {
	super, migrator *pgx.Conn
	set             *migrate.Set
}

func newRig(t testing.TB, mode isolation.Mode, dir string) *rig {
	t.Helper()
	dsn := pgtest.Clone(t, "fingerprints "+string(mode), func(ctx context.Context, conn *pgx.Conn) error {
		// Roles are the server's, and tests of other packages may have made theirs: those will do.
		var made bool
		if err := conn.QueryRow(ctx, `select to_regrole('landlord_migrator') is not null`).Scan(&made); err != nil {
			return err
		}
		if !made {
			pw := isolation.Passwords{App: "app", Admin: "admin", Migrator: "migrator"}
			if _, err := isolation.EnsureRoles(ctx, conn, mode, pw); err != nil {
				return err
			}
		}
		_, err := isolation.Install(ctx, conn, isolation.Identity{
			Installation: "f35d4b0e-1bd1-4df7-8a39-61d3a3b60a10", Cluster: "a", Stamp: "f35d4b0e-1bd1-4df7-8a39-61d3a3b60a11",
			AppLogin: isolation.AppRole, Mode: mode,
		}, nil)
		return err
	})
	set, err := migrate.Load(os.DirFS(dir))
	require.NoError(t, err)
	return &rig{super: connect(t, dsn, ""), migrator: connect(t, dsn, isolation.MigratorRole), set: set}
}

func connect(t testing.TB, dsn, role string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if role != "" {
		cfg.RuntimeParams["role"] = role
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// home builds a home in a schema of its own.
func (r *rig) home(t testing.TB, schema, tenant string) fingerprint.Home {
	t.Helper()
	require.NoError(t, isolation.CreateSchema(t.Context(), r.super, schema, tenant))
	require.NoError(t, r.set.Build(t.Context(), r.migrator, schema, tenant))
	return fingerprint.Home{Schema: schema, Tenant: tenant}
}

func (r *rig) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := r.super.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

func (r *rig) objects(t testing.TB, h fingerprint.Home) []fingerprint.Object {
	t.Helper()
	all, err := fingerprint.Objects(t.Context(), r.super, h)
	require.NoError(t, err)
	return all
}

func (r *rig) read(t testing.TB, homes ...fingerprint.Home) map[string]fingerprint.Fingerprint {
	t.Helper()
	all, busy, err := fingerprint.Read(t.Context(), r.super, homes)
	require.NoError(t, err)
	require.Empty(t, busy)
	return all
}
