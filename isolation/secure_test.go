package isolation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// A reader who comes while a migration runs sees the new table secured or not at all.
func TestNobodySeesANewTableBeforeItIsSecured(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			reader := p.app(t)
			table := ident(p.schema, "fresh")
			migrator := p.migrator(t)
			steps := []string{
				"create table " + table + " (tenant_id uuid, body text)",
				"insert into " + table + " values (" + lit(p.other) + ", " + lit(canary) + ")",
				secureSQL(p.schema, p.owner()),
			}
			exec(t, migrator, "begin")
			for _, step := range steps {
				exec(t, migrator, step)
				refuses(t, reader, pgerr.UndefinedTable, "select * from "+table)
			}
			exec(t, migrator, "commit")
			refuses(t, reader, pgerr.NoTenant, "select * from "+table)

			// A migration that forgot the sweep has opened nothing either.
			exec(t, migrator, "create table "+ident(p.schema, "forgotten")+" (tenant_id uuid); create function "+ident(p.schema, "forgotten")+
				"() returns int language sql as 'select 1'")
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				require.Zero(t, count(t, conn, "select from fresh"))
				refuses(t, conn, pgerr.InsufficientPrivilege, "select * from forgotten")
				refuses(t, conn, pgerr.InsufficientPrivilege, "select forgotten()")
			})
		})
	}
}

func TestSecureTouchesOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), `
create table parent (tenant_id uuid, day date) partition by list (day); create table child partition of parent default;
create table setting (id serial); create table loose (id int); comment on table loose is 'landlord: global';
create view note_view as select * from note; create materialized view note_copy as select * from note;
create sequence number; create function f() returns int language sql as 'select 1';
create function g() returns int language sql security definer as 'select 1'; create procedure h() language sql as 'select 1';
create aggregate total (int) (sfunc = int4pl, stype = int)`)
			// Somebody uses all of it: the sweep would wait for him, and all others behind it.
			reader := p.super(t)
			exec(t, reader, "begin; set local search_path = "+ident(p.schema)+"; select * from note_view, setting, loose, reference, parent, note_copy for update of note_view, setting")
			migrator := p.migrator(t)
			before := state(t, migrator, p.schema)
			exec(t, migrator, "set lock_timeout = '100ms'")
			for range 2 {
				exec(t, migrator, "begin; create table "+ident(p.schema, "x_"+suffix())+" (tenant_id uuid); "+secureSQL(p.schema, p.owner())+"; commit")
			}
			exec(t, migrator, "begin; "+secureSQL(p.schema, p.owner()))
			held, err := simple(t.Context(), migrator, "select count(*) from pg_locks l join pg_class c on c.oid = l.relation "+
				"where l.pid = pg_backend_pid() and l.mode = 'AccessExclusiveLock'")
			require.NoError(t, err)
			require.Equal(t, "0\n", held)
			exec(t, migrator, "commit; reset lock_timeout")
			require.Subset(t, strings.Split(state(t, migrator, p.schema), "\n"), strings.Split(before, "\n"))
			exec(t, reader, "rollback")
		})
	}
}

// state lists all that secure decides about a schema.
func state(t *testing.T, conn *pgx.Conn, schema string) string {
	t.Helper()
	return text(t, conn, `
select string_agg(line, e'\n' order by line) from (
  select format('%s %s %s %s %s %s', c.relkind, c.relname, c.relowner::regrole, array(select a::text from unnest(c.relacl) a order by 1), c.relrowsecurity, c.reloptions) as line
    from pg_class c where c.relnamespace = to_regnamespace(quote_ident($1)) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   union all
  select format('policy %s %s %s', p.polrelid::regclass, p.polname, p.oid) from pg_policy p
   union all
  select format('%s %s %s', p.oid::regprocedure, p.proowner::regrole, array(select a::text from unnest(p.proacl) a order by 1)) from pg_proc p where p.pronamespace = to_regnamespace(quote_ident($1))
) as lines`, schema)
}

func TestSecureMakesGoodWhatALaterMigrationTookAway(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), `create view note_view as select * from note; create function f() returns bigint language sql as 'select count(*) from note'`)
			app := ident(p.want.AppLogin)
			for _, ddl := range []string{
				"alter table note disable row level security",
				"alter table note no force row level security",
				"drop policy landlord_fence on note; create policy open on note using (true)",
				"drop policy landlord_allow on note; drop policy landlord_fence on note",
				"grant truncate on note to " + app,
				"grant references, trigger on note to " + app,
				"create or replace view note_view as select tenant_id, id, body from note",
				"alter view note_view reset (security_invoker)",
				"create or replace function f() returns bigint language sql security definer as 'select count(*) from note'",
				"grant insert, delete on reference to " + app,
			} {
				p.build(t, p.schema, p.owner(), ddl)
				p.visit(t, p.tenant, func(conn *pgx.Conn) {
					require.Equal(t, ownRows, count(t, conn, "select from note"), ddl)
					require.Equal(t, ownRows, count(t, conn, "select from note_view"), ddl)
					refuses(t, conn, pgerr.InsufficientPrivilege, "truncate note")
					refuses(t, conn, pgerr.InsufficientPrivilege, "create trigger x before insert on note for each row execute function suppress_redundant_updates_trigger()")
					refuses(t, conn, pgerr.InsufficientPrivilege, "insert into note (tenant_id, body) values ("+lit(p.other)+", 'x')")
					refuses(t, conn, pgerr.InsufficientPrivilege, "delete from reference")
				})
				// Neither does the owner get around it.
				super := p.super(t)
				exec(t, super, "begin; set local role landlord_owner")
				refuses(t, super, pgerr.NoTenant, "select * from "+ident(p.schema, "note"))
				exec(t, super, "rollback")
			}
			// A function that runs with its owner's rights is closed.
			p.visit(t, p.tenant, func(conn *pgx.Conn) { refuses(t, conn, pgerr.InsufficientPrivilege, "select f()") })
		})
	}
}

// A file without a transaction is committed before what it did is looked at.
func TestSecureMakesGoodWhatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			app := ident(p.want.AppLogin)
			version := 100
			record := func() {
				version++
				exec(t, p.super(t), fmt.Sprintf("insert into landlord.schema_version (schema, version, checksum) values (%s, %d, 'x')", lit(p.schema), version))
			}
			p.build(t, p.schema, p.owner(), "create materialized view copied as select * from note")
			record()
			for _, ddl := range []string{
				"alter policy landlord_fence on note using (true) with check (true)",
				"alter policy landlord_allow on note using (true) with check (true)",
				"grant select on copied to " + app,
				"grant select (body) on copied to " + app,
				"grant insert (%s), update (%[1]s) on reference to " + app,
			} {
				if strings.Contains(ddl, "%") {
					column := text(t, p.super(t), "select attname::text from pg_attribute where attnum = 1 and attrelid = "+lit(ident(p.schema, "reference"))+"::regclass")
					ddl = fmt.Sprintf(ddl, ident(column))
				}
				exec(t, p.super(t), "set search_path = "+ident(p.schema)+", extensions; "+ddl)
				p.build(t, p.schema, p.owner(), "select 1")
				record()
			}
			before := state(t, p.super(t), p.schema)
			p.build(t, p.schema, p.owner(), "select 1")
			require.Equal(t, before, state(t, p.super(t), p.schema), "nothing is left to do")
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				require.Equal(t, ownRows, count(t, conn, "select from note"))
				refuses(t, conn, pgerr.InsufficientPrivilege, "select body from copied")
				refuses(t, conn, pgerr.InsufficientPrivilege, "insert into reference default values")
			})
			require.Equal(t, 0, count(t, p.super(t), "select from pg_policy where polrelid = "+lit(ident(p.schema, "note"))+"::regclass and (pg_get_expr(polqual, polrelid) = 'true' or pg_get_expr(polwithcheck, polrelid) = 'true')"))
			require.Equal(t, 0, count(t, p.super(t), "select from pg_attribute where attacl is not null and attrelid = "+lit(ident(p.schema, "reference"))+"::regclass"))
		})
	}
}

func TestTheApplicationCallsOnlyFunctionsThatRunWithItsOwnRights(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, "", `
create function mine(int) returns bigint language sql as 'select count(*) from note';
create function mine(text) returns bigint language plpgsql as 'begin return (select count(*) from note); end';
create function definer() returns bigint language sql security definer as 'select count(*) from note';
create procedure proc() language sql as 'insert into note (body) values (''by a procedure'')';
create procedure definer_proc() language sql security definer as 'select 1';
create aggregate total (int) (sfunc = int4pl, stype = int);
create function stamp() returns trigger language plpgsql security definer as 'begin new.body := new.body || ''!''; return new; end';
create trigger stamp before insert on note for each row execute function stamp()`)
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		require.Equal(t, "2 2 1", text(t, conn, "select concat_ws(' ', mine(1), mine(''), total(1))"))
		exec(t, conn, "call proc()")
		require.Equal(t, 1, count(t, conn, "select from note where body = 'by a procedure!'"))
		refuses(t, conn, pgerr.InsufficientPrivilege, "select definer()")
		refuses(t, conn, pgerr.InsufficientPrivilege, "call definer_proc()")
	})
}

func TestSequencesGiveNumbersAndTellNothing(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		p := newPlace(t, isolation.Sealed, model)
		p.build(t, p.schema, p.owner(), `
create sequence number; create table ticket (tenant_id uuid, id serial, always int generated always as identity, other int generated by default as identity)`)
		p.build(t, p.schema, p.owner(), "alter table ticket add column later serial, add column latest bigint generated always as identity")
		p.visit(t, p.tenant, func(conn *pgx.Conn) {
			exec(t, conn, "insert into ticket default values; select nextval('number'), currval('number')")
			for _, sequence := range []string{"number", "ticket_id_seq", "ticket_later_seq", "ticket_always_seq", "ticket_other_seq", "ticket_latest_seq"} {
				refuses(t, conn, pgerr.InsufficientPrivilege, "select last_value from "+sequence)
				refuses(t, conn, pgerr.InsufficientPrivilege, "select setval('"+sequence+"', 100)")
				refuses(t, conn, pgerr.InsufficientPrivilege, "alter sequence "+sequence+" restart")
			}
		})
	}
}

// FORCE makes the owner a subject: it would validate a foreign key against the rows of no tenant. The migrator is not.
func TestAForeignKeyThatTheMigratorAddsIsValidatedForReal(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), "create table tag (tenant_id uuid, note bigint)")
			migrator := p.migrator(t)
			_, err := migrator.Exec(t.Context(), "insert into "+ident(p.schema, "tag")+" values ($1, 999999)", p.tenant)
			require.NoError(t, err, "an orphan")
			add := "alter table " + ident(p.schema, "tag") + " add constraint tag_note foreign key (tenant_id, note) references " + ident(p.schema, "note")

			refuses(t, migrator, pgerr.ForeignKeyViolation, add)
			refuses(t, migrator, pgerr.ForeignKeyViolation, add+" not valid; alter table "+ident(p.schema, "tag")+" validate constraint tag_note")
			super := p.super(t)
			exec(t, super, "begin; set local role landlord_owner")
			_, err = simple(t.Context(), super, add)
			require.NotEqual(t, pgerr.ForeignKeyViolation, pgerr.Code(err), "the owner does not find the orphan")
			exec(t, super, "rollback")

			exec(t, migrator, "delete from "+ident(p.schema, "tag")+"; "+add)
			refuses(t, migrator, pgerr.ForeignKeyViolation, "insert into "+ident(p.schema, "tag")+" values ("+lit(p.tenant)+", 999999)")
		})
	}
}

func TestSecureWorksForTheMigratorAndNobodyElse(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	migrator := p.migrator(t)
	require.Equal(t, "false", text(t, migrator, "select rolsuper::text from pg_roles where rolname = current_user"))
	for _, conn := range []*pgx.Conn{p.app(t), p.admin(t)} {
		refuses(t, conn, pgerr.InsufficientPrivilege, "call landlord.secure('public')")
		refuses(t, conn, pgerr.InsufficientPrivilege, "call landlord.secure_table('public.note', 'x', null)")
	}
	refuses(t, migrator, pgerr.UndefinedSchema, "call landlord.secure('nowhere')")
	refuses(t, migrator, pgerr.InsufficientPrivilege, "update landlord.fence set state = 'open'")
	refuses(t, migrator, pgerr.InsufficientPrivilege, "select * from landlord.seal_key")
	refuses(t, migrator, pgerr.InsufficientPrivilege, "delete from landlord.schema_version")
}

// Extensions bring functions and tables of their own: they stay as their makers meant them.
func TestSecureLeavesExtensionsAlone(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	exec(t, h.super(t), "create extension pg_trgm schema public")
	h.build(t, "public", "", "create table t (tenant_id uuid, body text)")
	require.Zero(t, count(t, h.super(t), "select from pg_proc where pronamespace = 'public'::regnamespace and proowner = 'landlord_owner'::regrole"))
	exec(t, h.app(t), "select public.similarity('a', 'b')")
}

func TestHostileTableAndColumnNamesAreSecured(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	tenant, name := uuid.NewString(), "a/"+h.database+"/public"
	h.open(t, tenant, name, "shared")
	var ddl strings.Builder
	names := append([]string{"pg_notes", "Tenant_ID", "PG_class", "identity"}, hostile...)
	for _, n := range names {
		ddl.WriteString("create table " + ident(n) + " (tenant_id uuid, " + ident(n) + " text);")
	}
	ddl.WriteString(`create table "case" ("Tenant_ID" uuid, "TENANT_ID" uuid)`)
	h.build(t, "public", "", ddl.String())
	app := h.app(t)
	exec(t, app, "begin")
	require.NoError(t, h.enter(t.Context(), app, isolation.Entry{Tenant: tenant, Home: name, Epoch: 1}))
	for _, n := range names {
		exec(t, app, "insert into public."+ident(n)+" ("+ident(n)+") values ('x')")
		require.Equal(t, tenant, text(t, app, "select tenant_id::text from public."+ident(n)))
	}
	refuses(t, app, pgerr.InsufficientPrivilege, `select * from public."case"`) // another column is not tenant_id
	exec(t, app, "commit")
	for _, n := range names {
		refuses(t, app, pgerr.NoTenant, "select * from public."+ident(n))
	}
}

// PostgreSQL cuts a name of more than 63 bytes without an error: the longer of two must not become the shorter.
func TestNamesBeyond63BytesNeverMeet(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	short := strings.Repeat("n", 63)
	require.NoError(t, isolation.CreateSchema(t.Context(), h.super(t), short, "tenant one"))
	require.ErrorIs(t, isolation.CreateSchema(t.Context(), h.super(t), short+"2", "tenant two"), isolation.ErrForeign)
	require.ErrorIs(t, isolation.DropSchema(t.Context(), h.super(t), short+"2", "tenant two"), isolation.ErrForeign)
	require.Error(t, isolation.CreateSchema(t.Context(), h.super(t), "pg_mine", "x"))
	require.Error(t, isolation.CreateSchema(t.Context(), h.super(t), "", "x"))
}
