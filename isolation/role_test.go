package isolation_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
)

var allRoles = []string{isolation.OwnerRole, isolation.GuardRole, isolation.AppRole, isolation.AdminRole, isolation.MigratorRole}

// as connects to a test's own server.
func as(t *testing.T, dsn, user, password string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.User, cfg.Password, cfg.Database = user, password, "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
	}
	return conn, err
}

// Roles are the server's, so this test needs one of its own.
func TestRolesAreMadeCorrectedAndLeftAlone(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	dsn := server.DSN()
	super := dial(t, dsn, nil)
	ensure := func(mode isolation.Mode) []string {
		t.Helper()
		changed, err := isolation.EnsureRoles(t.Context(), super, mode, passwords)
		require.NoError(t, err)
		return changed
	}

	// Many processes at once, as when `landlord init` is part of every deployment.
	var group errgroup.Group
	results := make([][]string, 8)
	for i := range results {
		conn := dial(t, dsn, nil)
		group.Go(func() (err error) {
			results[i], err = isolation.EnsureRoles(t.Context(), conn, isolation.Sealed, passwords)
			return err
		})
	}
	require.NoError(t, group.Wait())
	var did []string
	for _, r := range results {
		did = append(did, r...)
	}
	require.ElementsMatch(t, []string{
		"created role landlord_owner", "created role landlord_guard", "created role landlord_app", "created role landlord_admin",
		"created role landlord_migrator", "made landlord_migrator a member of landlord_owner", "gave landlord_guard the sealed register",
	}, did, "each once")
	for _, mode := range modes {
		require.Empty(t, ensure(mode), "nothing is left to do")
	}

	logins := map[string]string{
		isolation.AppRole: passwords.App, isolation.AdminRole: passwords.Admin, isolation.MigratorRole: passwords.Migrator,
	}
	for login, password := range logins {
		_, err := as(t, dsn, login, password)
		require.NoError(t, err)
		_, err = as(t, dsn, login, password+"x")
		requireCode(t, pgerr.InvalidPassword, err)
	}
	for _, role := range []string{isolation.OwnerRole, isolation.GuardRole} {
		_, err := as(t, dsn, role, "x")
		require.Error(t, err)
		require.Equal(t, "false", text(t, super, "select rolcanlogin::text from pg_roles where rolname = $1", role))
	}

	// What somebody has changed is put right.
	for damage, step := range map[string]string{
		"alter role landlord_app password 'changed'":                      "set the password of landlord_app",
		"alter role landlord_admin password null":                         "set the password of landlord_admin",
		"alter role landlord_app bypassrls inherit":                       "corrected role landlord_app",
		"alter role landlord_owner login":                                 "corrected role landlord_owner",
		"alter role landlord_migrator nobypassrls":                        "corrected role landlord_migrator",
		"revoke landlord_owner from landlord_migrator":                    "made landlord_migrator a member of landlord_owner",
		"revoke set on parameter backtrace_functions from landlord_guard": "gave landlord_guard the sealed register",
	} {
		exec(t, super, damage)
		require.Equal(t, []string{step}, ensure(isolation.Sealed), damage)
		require.Empty(t, ensure(isolation.Sealed))
	}
	for login, password := range logins {
		_, err := as(t, dsn, login, password)
		require.NoError(t, err)
	}

	// Power that landlord does not give is not taken away silently: somebody may count on it.
	for _, role := range allRoles {
		for _, power := range []string{"superuser", "createrole", "createdb", "replication"} {
			exec(t, super, "alter role "+role+" "+power)
			_, err := isolation.EnsureRoles(t.Context(), super, isolation.Sealed, passwords)
			require.ErrorContains(t, err, role+" may do more than landlord gives it")
			exec(t, super, "alter role "+role+" no"+power)
		}
	}
	require.Empty(t, ensure(isolation.Sealed))

	// A password stands in no log.
	exec(t, super, "alter role landlord_migrator password 'changed'; set log_statement = 'all'")
	ensure(isolation.Sealed)
	require.NotContains(t, server.LogTail(), passwords.Migrator)
	require.Contains(t, server.LogTail(), `alter role "landlord_migrator" password 'SCRAM-SHA-256$`)

	// Logins of dedicated databases: made, corrected, and never taken from somebody else.
	for _, login := range []string{"t_1_app", `it's "odd"`} {
		changed, err := isolation.EnsureLogin(t.Context(), super, login, "one")
		require.NoError(t, err)
		require.Equal(t, []string{"created role " + login}, changed)
		changed, err = isolation.EnsureLogin(t.Context(), super, login, "one")
		require.NoError(t, err)
		require.Empty(t, changed)
		changed, err = isolation.EnsureLogin(t.Context(), super, login, "two")
		require.NoError(t, err)
		require.Len(t, changed, 1)
		_, err = as(t, dsn, login, "two")
		require.NoError(t, err)
		require.NoError(t, isolation.DropLogin(t.Context(), super, login))
		require.NoError(t, isolation.DropLogin(t.Context(), super, login), "again")
	}
	exec(t, super, "create role somebody login password 'own'")
	_, err := isolation.EnsureLogin(t.Context(), super, "somebody", "ours")
	require.ErrorIs(t, err, isolation.ErrForeign)
	require.ErrorIs(t, isolation.DropLogin(t.Context(), super, "somebody"), isolation.ErrForeign)
	_, err = as(t, dsn, "somebody", "own")
	require.NoError(t, err)
}

// An operator who is no superuser: from PostgreSQL 16 on CREATEROLE, CREATEDB and BYPASSRLS are enough; before, only a
// superuser can make roles with BYPASSRLS, and that is said.
func TestAnOperatorWithoutSuperuser(t *testing.T) {
	t.Parallel()
	dsn := pgtest.OwnServer(t).DSN()
	super := dial(t, dsn, nil)
	exec(t, super, "create role ops login password 'x' createrole createdb bypassrls; create role weak login password 'x' createrole createdb")
	version := 0
	require.NoError(t, super.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version))
	ops, err := as(t, dsn, "ops", "x")
	require.NoError(t, err)
	weak, err := as(t, dsn, "weak", "x")
	require.NoError(t, err)

	mode, why, err := isolation.ChooseMode(t.Context(), ops)
	require.NoError(t, err)
	require.Equal(t, isolation.SealedMAC, mode)
	require.Contains(t, why, "no superuser")
	for _, mode := range []isolation.Mode{isolation.Sealed, isolation.Locked} {
		_, err = isolation.EnsureRoles(t.Context(), ops, mode, passwords)
		require.ErrorContains(t, err, "choose mode sealed-mac")
	}
	_, err = isolation.EnsureRoles(t.Context(), weak, isolation.SealedMAC, passwords)
	requireCode(t, pgerr.InsufficientPrivilege, err)
	require.ErrorContains(t, err, "must be a superuser or, from PostgreSQL 16 on, have CREATEROLE and the same attributes")
	require.Zero(t, count(t, super, "select from pg_roles where rolname ~ '^landlord_'"), "all or nothing")

	changed, err := isolation.EnsureRoles(t.Context(), ops, isolation.SealedMAC, passwords)
	if version < 160000 {
		requireCode(t, pgerr.InsufficientPrivilege, err)
		require.ErrorContains(t, err, "must be a superuser or, from PostgreSQL 16 on, have CREATEROLE and the same attributes")
		require.Zero(t, count(t, super, "select from pg_roles where rolname ~ '^landlord_'"))
		return
	}
	require.NoError(t, err)
	require.NotEmpty(t, changed)
	changed, err = isolation.EnsureRoles(t.Context(), ops, isolation.SealedMAC, passwords)
	require.NoError(t, err)
	require.Empty(t, changed)
	exec(t, super, "alter role landlord_app password 'changed'")
	_, err = isolation.EnsureRoles(t.Context(), ops, isolation.SealedMAC, passwords)
	require.NoError(t, err)
	_, err = as(t, dsn, isolation.AppRole, passwords.App)
	require.NoError(t, err, "it cannot see passwords, so it sets them")
	_, err = isolation.EnsureLogin(t.Context(), ops, "t_1_app", "x")
	require.NoError(t, err)
	require.NoError(t, isolation.DropLogin(t.Context(), ops, "t_1_app"))
	_, err = isolation.CreateDatabase(t.Context(), ops, "home", isolation.SharedMark("x"))
	require.NoError(t, err)

	h := &home{database: "home", ring: isolation.Keyring{newKey(t, 1)}, password: passwords.App, kept: make(map[string]*pgx.Conn)}
	h.server.DSN = dsn
	h.want = isolation.Identity{Installation: someUUID, Cluster: "a", Stamp: someUUID, AppLogin: isolation.AppRole, Mode: isolation.SealedMAC}
	operator := h.login(t, "ops", "x")
	for _, want := range []bool{true, false} {
		changed, err := isolation.Install(t.Context(), operator, h.want, h.ring)
		require.NoError(t, err)
		require.Equal(t, want, changed)
	}
	require.NoError(t, isolation.CreateSchema(t.Context(), operator, "t_1", "one"))
	for schema, tenant := range map[string]string{"public": "", "t_1": "one"} {
		h.build(t, schema, tenant, "create table note (tenant_id text, body text)")
		name := "a/home/" + schema
		require.NoError(t, isolation.PutFence(t.Context(), operator, isolation.Fence{
			Tenant: "one", Slug: "one", Model: "schema", Home: name, Epoch: 1, State: isolation.Open,
		}))
		app := h.app(t)
		exec(t, app, "begin")
		require.NoError(t, h.enter(t.Context(), app, isolation.Entry{Tenant: "one", Home: name, Epoch: 1}))
		exec(t, app, "insert into "+ident(schema, "note")+" (body) values ('x'); commit")
		refuses(t, app, pgerr.NoTenant, "select * from "+ident(schema, "note"))
	}
	deleted, err := isolation.DeleteRows(t.Context(), operator, "public", "one")
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted)
	require.NoError(t, isolation.Drain(t.Context(), operator, "one", "a/home/t_1"))
	require.NoError(t, isolation.DropSchema(t.Context(), operator, "t_1", "one"))
	require.NoError(t, operator.Close(t.Context()))
	require.NoError(t, isolation.DropDatabase(t.Context(), ops, "home", isolation.SharedMark("x")))
}

const someUUID = "8c3f0a52-7d1e-4a0b-9f43-2b5d6c7e8f90"
