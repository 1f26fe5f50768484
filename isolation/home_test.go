package isolation_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
)

// hostile are names and ids that would break out of SQL if they were not quoted.
var hostile = []string{
	`it's`, `a"b`, `back\slash`, `\'`, `$$`, `$$; create role landlord_broken; do $$ begin`, `%I %s %`, `UPPER`, `ünï`, "日本", `a b`, `a;b`, `--`, `/* x`,
	strings.Repeat("n", 63), strings.Repeat("ß", 31), `select`, `'; create role landlord_broken; --`, `"; create role landlord_broken; --`,
	`\'; create role landlord_broken; --`,
}

func TestSchemasOfAnyNameAndTenantAreMadeSecuredAndDropped(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	for _, scs := range []string{"on", "off"} {
		conn := h.dial(t, func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["standard_conforming_strings"] = scs })
		for i, name := range hostile {
			tenant := hostile[len(hostile)-1-i]
			require.NoError(t, isolation.CreateSchema(t.Context(), conn, name, tenant), name)
			require.NoError(t, isolation.CreateSchema(t.Context(), conn, name, tenant), "again: %s", name)
			require.ErrorIs(t, isolation.CreateSchema(t.Context(), conn, name, tenant+"x"), isolation.ErrForeign)

			h.build(t, name, tenant, "create table t (tenant_id text, "+ident(name)+" text); create table "+ident(name)+" (i int);"+
				"create view v as select * from t; create function "+ident(name)+"() returns int language sql as 'select 1'; create sequence s")
			h.open(t, tenant, "home "+name, "schema")
			app := h.app(t)
			exec(t, app, "begin")
			require.NoError(t, h.enter(t.Context(), app, isolation.Entry{Tenant: tenant, Home: "home " + name, Epoch: 1}))
			exec(t, app, "set local search_path = "+ident(name)+"; insert into t values (default, 'x'); insert into "+ident(name)+" values (1)")
			require.Equal(t, tenant, text(t, app, "select tenant_id from v"))
			require.Equal(t, 1, count(t, app, "select "+ident(name)+"() from "+ident(name)))
			exec(t, app, "rollback")
			require.NoError(t, app.Close(t.Context()))

			exec(t, h.super(t), "insert into landlord.backfill (schema, version, checksum, upper, batch) values ("+lit(name)+", 1, '', '{anna@example.com}', 1)")
			require.ErrorIs(t, isolation.DropSchema(t.Context(), conn, name, tenant+"x"), isolation.ErrForeign)
			require.NoError(t, isolation.DropSchema(t.Context(), conn, name, tenant))
			require.NoError(t, isolation.DropSchema(t.Context(), conn, name, tenant), "again")
		}
	}
	require.Zero(t, count(t, h.super(t), "select from pg_roles where rolname = 'landlord_broken'"))
	require.Zero(t, count(t, h.super(t), "select from landlord.backfill"), "with it go the keys of its rows")
}

func TestDatabasesOfAnyNameAreMadeClosedAndDropped(t *testing.T) {
	t.Parallel()
	admin := dial(t, pgtest.Server(t).DSN, nil)
	ensureRoles(t, pgtest.Server(t).DSN)
	tag := suffix()
	for _, name := range []string{`it's "odd" %I $$ ` + tag, "ÜNÏ " + tag, `back\slash ` + tag, strings.Repeat("n", 63-len(tag)) + tag} {
		t.Cleanup(func() { superExec(t, pgtest.Server(t).DSN, "drop database if exists "+ident(name)+" with (force)") })
		purpose := isolation.TenantMark(`$$ it's \' ` + name)
		for _, want := range []bool{true, false} {
			created, err := isolation.CreateDatabase(t.Context(), admin, name, purpose)
			require.NoError(t, err, name)
			require.Equal(t, want, created)
		}
		const q = `select format('%s %s', datdba::regrole, coalesce((select string_agg(x.privilege_type, ' ') from aclexplode(datacl) x where x.grantee = 0), 'closed'))
from pg_database where datname = $1`
		require.Equal(t, "landlord_owner closed", text(t, admin, q, name))
		_, err := isolation.CreateDatabase(t.Context(), admin, name, purpose+"x")
		require.ErrorIs(t, err, isolation.ErrForeign)
		require.ErrorIs(t, isolation.DropDatabase(t.Context(), admin, name, purpose+"x"), isolation.ErrForeign)
		inUse := dial(t, pgtest.Server(t).DSN, func(cfg *pgx.ConnConfig) { cfg.Database = name })
		require.NoError(t, isolation.DropDatabase(t.Context(), admin, name, purpose))
		require.Error(t, inUse.Ping(t.Context()), "connections to it are closed")
		require.NoError(t, isolation.DropDatabase(t.Context(), admin, name, purpose), "again")
	}
}

func TestAForeignDatabaseOrSchemaIsNeitherUsedNorDropped(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	admin := dial(t, h.server.DSN, nil)
	name := "foreign_" + suffix()
	exec(t, admin, "create database "+name)
	t.Cleanup(func() { superExec(t, h.server.DSN, "drop database if exists "+name) })
	for _, comment := range []string{"null", "'landlord: '", "'landlord: tenant somebody else'", "'tenant one'"} {
		exec(t, admin, "comment on database "+name+" is "+comment)
		_, err := isolation.CreateDatabase(t.Context(), admin, name, isolation.TenantMark("one"))
		require.ErrorIs(t, err, isolation.ErrForeign, comment)
		require.ErrorIs(t, isolation.DropDatabase(t.Context(), admin, name, isolation.TenantMark("one")), isolation.ErrForeign)
		exec(t, h.super(t), "create schema theirs; comment on schema theirs is "+comment)
		require.ErrorIs(t, isolation.CreateSchema(t.Context(), h.super(t), "theirs", "one"), isolation.ErrForeign)
		require.ErrorIs(t, isolation.DropSchema(t.Context(), h.super(t), "theirs", "one"), isolation.ErrForeign)
		exec(t, h.super(t), "drop schema theirs")
	}
	// Somebody else's, even with the right comment: the owner tells.
	exec(t, admin, "comment on database "+name+" is 'landlord: "+isolation.TenantMark("one")+"'")
	_, err := isolation.CreateDatabase(t.Context(), admin, name, isolation.TenantMark("one"))
	require.ErrorIs(t, err, isolation.ErrForeign)
	// landlord_owner's without a comment is one whose making was cut short.
	exec(t, admin, "comment on database "+name+" is null; alter database "+name+" owner to landlord_owner")
	created, err := isolation.CreateDatabase(t.Context(), admin, name, isolation.TenantMark("one"))
	require.NoError(t, err)
	require.False(t, created)
	require.NoError(t, isolation.DropDatabase(t.Context(), admin, name, isolation.TenantMark("one")))
}

func TestDatabasesAreMadeOnceHoweverManyAsk(t *testing.T) {
	t.Parallel()
	ensureRoles(t, pgtest.Server(t).DSN)
	name := "once_" + suffix()
	t.Cleanup(func() { superExec(t, pgtest.Server(t).DSN, "drop database if exists "+name) })
	results := make([]bool, 5)
	var group errgroup.Group
	for i := range results {
		conn := dial(t, pgtest.Server(t).DSN, nil)
		group.Go(func() (err error) {
			results[i], err = isolation.CreateDatabase(t.Context(), conn, name, isolation.TenantMark("one"))
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.ElementsMatch(t, []bool{true, false, false, false, false}, results)
}

// A schema that was dropped by hand leaves its versions behind: they must not keep the next one from being built.
func TestANewSchemaHasNoVersions(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	super := h.super(t)
	insert := "insert into landlord.schema_version (schema, version, checksum) values ('t_1', 1, 'x'), ('t_2', 1, 'x')"
	versions := func() int { return count(t, super, "select from landlord.schema_version where schema = 't_1'") }
	require.NoError(t, isolation.CreateSchema(t.Context(), super, "t_1", "one"))
	exec(t, super, insert)
	require.NoError(t, isolation.CreateSchema(t.Context(), super, "t_1", "one"))
	require.Equal(t, 1, versions(), "one that is taken over keeps them")
	exec(t, super, "drop schema t_1")
	require.NoError(t, isolation.CreateSchema(t.Context(), super, "t_1", "one"))
	require.Zero(t, versions())
	exec(t, super, "drop schema t_1; insert into landlord.schema_version (schema, version, checksum) values ('t_1', 1, 'x')")
	require.NoError(t, isolation.DropSchema(t.Context(), super, "t_1", "one"))
	require.Zero(t, versions())
	require.Equal(t, 1, count(t, super, "select from landlord.schema_version"), "the neighbour's are there")
}
