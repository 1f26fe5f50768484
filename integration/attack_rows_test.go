package integration_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/forgery"
	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Attacks on rows and on rights: what SQL of the application's can see, change and call.

// shows succeeds when SQL shows a row of the victim's.
func shows(name, sql string, through ...isolation.Mode) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		return strings.Contains(s.inside(t, sql).rows, canary)
	}}
}

// writes succeeds when the last statement of SQL has written more rows than the thief could by right.
func writes(name, sql string, most int64, through ...isolation.Mode) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		a := s.inside(t, sql)
		return a.err == nil && a.affected > most
	}}
}

// passes succeeds when SQL is not refused.
func passes(name, sql string, through ...isolation.Mode) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		return s.inside(t, sql).err == nil
	}}
}

// outside succeeds when SQL that enters no tenant gets another answer than that it needs one: an empty one, too.
func outside(name, sql string) attack {
	return attack{name: name, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		return pgerr.Code(say(t, conn, s.write(sql)).err) != pgerr.NoTenant
	}}
}

var rowAttacks = []attack{
	shows("read without a filter", "select body from note; table event"),
	writes("change without a filter", "update note set body = body || '!'", thiefRows),
	writes("delete without a filter", "delete from event", 1),
	shows("read by the victim's id", "select body from note where tenant_id = '{tenant}'"),
	shows("lock the victim's rows", "select body from note where tenant_id = '{tenant}' for update"),
	{name: "copy a table out", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.own())
		var out bytes.Buffer
		_, err := conn.PgConn().CopyTo(t.Context(), &out, "copy note to stdout")
		require.NoError(t, err)
		require.Contains(t, out.String(), "own row")
		return strings.Contains(out.String(), canary)
	}},
	shows("read through a view", "table note_view"),
	shows("read through a function", "select note_bodies()"),
	shows("read by a join under a filter that looks at rows", "select a.body from note a join event b on a.body like b.body || '%'"),
	writes("write a row for the victim", "insert into note (tenant_id, body) values ('{tenant}', 'planted')", 0),
	writes("write rows for the victim from a query", "insert into note (tenant_id, body) select '{tenant}', body || '!' from note", 0),
	writes("give a row away", "update event set tenant_id = '{tenant}', id = 100000 + (random() * 1e9)::bigint", 0),
	writes("take the victim's rows", "update event set tenant_id = '{own}', id = id + 1000 where tenant_id = '{tenant}'", 0),
	writes("take a row by its key", "insert into note (tenant_id, id, body) overriding system value "+
		"select '{tenant}', i, 'x' || i from generate_series(3, 9) i "+
		"on conflict (tenant_id, id) do update set body = 'taken ' || excluded.id", 0),
	writes("delete the victim's rows", "delete from event where tenant_id = '{tenant}'", 0),
	writes("write through a view", "insert into note_view (tenant_id, body) values ('{tenant}', 'planted')", 0),
	{name: "copy rows in", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.own())
		_, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(s.other().Tenant+"\tplanted\n"), "copy note (tenant_id, body) from stdin")
		return err == nil
	}},
	passes("refer to the victim's row", `insert into link (note_id) values (
		(select max(id) + 1 from note where tenant_id = '{own}'))`), // the rows of the victim are numbered after the thief's
	outside("read without a tenant", "select body from note"),
	outside("count without a tenant", "select count(*) from event"),
	outside("write without a tenant", "insert into note (tenant_id, body) values ('{tenant}', 'planted')"),
	outside("read a view without a tenant", "table note_view"),
	shows("read another's schema home", "select body from {other schema}.note"),
	writes("write into another's schema home", "insert into {other schema}.note (tenant_id, body) values ('{own}', 'planted')", 0),
	shows("read a table without tenant_id in another's schema home", "select body from {other schema}.unclassed"),
	shows("read a view in another's schema home", "table {other schema}.note_view"),
	{name: "read as a function does that runs as the tables' owner", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.superuser(t)
		defer conn.Close(context.Background())
		run(t, conn, "set role landlord_owner")
		return pgerr.Code(say(t, conn, "select body from note").err) != pgerr.NoTenant
	}},
}

// allowed are the privileges that the application's login has on what is its own, and on nothing else.
const allowed = `
select string_agg(what, ', ') from (
    select format('%s on %s', p, c.oid::regclass)
      from pg_class c, unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
     where c.relnamespace = 'landlord'::regnamespace and c.relkind in ('r', 'v') and has_table_privilege('landlord_app', c.oid, p)
       and (c.relname, p) <> ('identity', 'select')
    union all
    select format('execute %s', f.oid::regprocedure) from pg_proc f
     where f.pronamespace = 'landlord'::regnamespace and has_function_privilege('landlord_app', f.oid, 'execute')
       and f.proname not in ('enter', 'demand', 'tenant', 'no_tenant', 'checked_tenant')
    union all
    select format('%s on %s', p, c.oid::regclass) from pg_class c, unnest(array['truncate', 'references', 'trigger']) p
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and has_table_privilege('landlord_app', c.oid, p)
    union all
    select format('%s in schema %s', p, n.nspname) from pg_namespace n, unnest(array['create']) p
     where has_schema_privilege('landlord_app', n.oid, p)
    union all
    select format('%s in the database', p) from unnest(array['create', 'temp']) p
     where has_database_privilege('landlord_app', current_database(), p)
    union all
    select format('member of %s', r.rolname) from pg_roles r
     where r.rolname <> 'landlord_app' and pg_has_role('landlord_app', r.oid, 'member')
    union all
    select 'power over all roles or rows' from pg_roles r
     where r.rolname = 'landlord_app' and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication)
) x (what)`

var rightAttacks = []attack{
	{name: "a right that no policy guards", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.superuser(t)
		defer conn.Close(context.Background())
		more := strings.TrimSpace(run(t, conn, allowed))
		if more != "" {
			t.Log(more)
		}
		return more != ""
	}},
	passes("truncate", "truncate note, link"),
	passes("read a partition past its parent", "table event_0"),
	passes("read a materialised view", "table note_copy"),
	passes("call what runs with its owner's rights", "select note_definer()"),
	passes("read a table of no class", "table unclassed"),
	passes("write a table of everybody's", "insert into currency values ('XXX')"),
	passes("read a sequence", "select last_value from ticket"),
	passes("read the seal keys", "table landlord.seal_key"),
	passes("add a seal key", "insert into landlord.seal_key values (9, decode(repeat('00', 64), 'hex'), decode(repeat('00', 64), 'hex'))"),
	passes("read the fences", "table landlord.fence"),
	passes("open a fence", "update landlord.fence set state = 'open'"),
	passes("read who worked across tenants", "table landlord.admin_log"),
	passes("work across tenants", "select landlord.admin_enter('because')"),
	passes("write the identity", "update landlord.identity set mode = 'plain'"),
	passes("write a version", "delete from landlord.schema_version"),
	passes("read a file of the server", "select pg_read_file('postgresql.conf')"),
	passes("run a program on the server", "copy (select 1) to program 'true'"),
	passes("make a table", "create table public.x ()"),
	passes("make a function", "create function public.x() returns int language sql as 'select 1'"),
	passes("make a temporary table", "create temp table note (body text)"),
	passes("switch a policy off", "alter table note disable row level security"),
	passes("become the tables' owner", "set local role landlord_owner"),
	passes("run a DO block", "do $$ begin null; end $$", unowned...),
	passes("call set_config", "select set_config('application.note', 'x', true)", isolation.Plain, isolation.SealedMAC, isolation.Sealed),
	{name: "connect to a database of somebody else's", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn, err := s.Login(t, s.victim[placement.ModelDatabase].Home.Database, isolation.AppRole)
		if err == nil {
			_ = conn.Close(context.Background())
		}
		return err == nil
	}},
	{name: "work across tenants without a reason", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn, err := s.Login(t, s.database, isolation.AdminRole)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		run(t, conn, "begin read only") // which writes no log, whose check would not let it in either
		return say(t, conn, "select landlord.admin_enter(' ')").err == nil
	}},
}

// forgeryAttacks are those of package forgery. Two are left out, which change the login for every database: package isolation tries them
// with a login of its own.
func forgeryAttacks() (all []attack) {
	for _, f := range forgery.All {
		if strings.HasPrefix(f.SQL, "alter role") {
			continue
		}
		a := attack{name: "forge: " + f.Name, hardened: strings.Contains(f.SQL, "query_to_xml")}
		for _, m := range everyMode {
			for _, name := range forgery.Through(m) {
				if name == f.Name {
					a.through = append(a.through, m)
				}
			}
		}
		a.try = func(t *testing.T, s *scene) bool {
			t.Helper()
			conn := s.app(t)
			defer conn.Close(context.Background())
			s.begin(t, conn, s.own())
			var seen string
			if f.Single { // as pgx sends a statement with arguments
				for _, row := range conn.PgConn().ExecParams(t.Context(), s.write(f.SQL), nil, nil, nil, nil).Read().Rows {
					for _, v := range row {
						seen += string(v) + "\n"
					}
				}
			} else {
				seen = say(t, conn, s.write(f.SQL)).rows
			}
			if conn.PgConn().TxStatus() != 'E' {
				seen += say(t, conn, "select * from note").rows
			}
			return strings.Contains(seen, canary)
		}
		all = append(all, a)
	}
	return all
}

// names are what forgeries are made for, aimed at p.
func (s *scene) names(p placement.Placement) forgery.Names {
	return forgery.Names{
		Mode: s.mode, Tenant: p.Tenant.String(), Home: p.Home.String(), Schema: p.Home.Schema, Database: p.Home.Database,
		Login: isolation.AppRole,
	}
}
