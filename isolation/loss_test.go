package isolation_test

import (
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// Whatever a migration takes away from what is secured, it has back when the migration ends.
func TestEveryKindOfLossIsMadeGoodInItsTransaction(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), `
create view note_view as select * from note; create sequence number;
create table day (tenant_id uuid, at date) partition by list (at); create table day_all partition of day default;
create function f() returns int language sql as 'select 1'; create procedure q() language sql as 'select 1'`)
			app := ident(p.want.AppLogin)
			want := p.look(t)
			for _, ddl := range []string{
				"alter policy landlord_fence on note using (true)",
				"alter policy landlord_allow on note using (true) with check (true)",
				"alter policy landlord_fence on note to landlord_admin",
				"drop policy landlord_fence on note; create policy landlord_fence on note using (true)",
				"drop policy landlord_fence on note; create policy landlord_fence on note as restrictive for select using (true)",
				"alter policy landlord_fence on note rename to fence",
				"alter table note disable row level security", "alter table note no force row level security",
				"alter table day_all disable row level security",
				"grant truncate on note to public", "grant trigger on note to " + app, "grant references on day to " + app,
				"grant update on reference to public", "grant delete on reference to " + app, "revoke select on reference from " + app,
				"alter view note_view reset (security_barrier)", "alter view note_view set (security_invoker = false)",
				"revoke usage on sequence number from " + app,
				"alter function f() security definer; create or replace function f() returns int language sql as 'select 1'; revoke all on function f() from public",
				"alter table note owner to landlord_migrator", "alter view note_view owner to landlord_migrator",
				"alter sequence number owner to landlord_migrator", "alter function f() owner to landlord_migrator",
				"alter procedure q() owner to landlord_migrator", "alter table day_all owner to landlord_migrator",
			} {
				exec(t, p.super(t), "grant create on schema "+ident(p.schema)+" to landlord_migrator")
				p.build(t, p.schema, p.owner(), ddl)
				exec(t, p.migrator(t), "drop policy if exists fence on "+ident(p.schema, "note")) // which landlord does not touch
				require.Equal(t, want, p.look(t), ddl)
			}
			p.build(t, p.schema, p.owner(), "alter function f() security definer; grant execute on function f() to public")
			p.visit(t, p.tenant, func(conn *pgx.Conn) { refuses(t, conn, pgerr.InsufficientPrivilege, "select f()") })
		})
	}
}

var policyOID = regexp.MustCompile(`(?m)^(policy .*) \d+$`)

// look describes how the home is secured, and by what policies.
func (p *place) look(t *testing.T) string {
	t.Helper()
	const q = `
select string_agg(concat_ws(' ', tablename, policyname, permissive, roles, cmd, qual, with_check), e'\n' order by tablename, policyname)
  from pg_policies where schemaname = $1`
	conn := p.super(t)
	return policyOID.ReplaceAllString(state(t, conn, p.schema), "$1") + text(t, conn, q, p.schema)
}

// What a table is may change after it was secured.
func TestATableThatChangesItsClassIsSecuredAnew(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), "create table late (id int); create table rate (id int)")

			p.build(t, p.schema, p.owner(), "alter table late add column tenant_id uuid")
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				exec(t, conn, "insert into late (id) values (1)")
				require.Equal(t, p.tenant, text(t, conn, "select tenant_id::text from late"), "it has the default")
				refuses(t, conn, pgerr.InsufficientPrivilege, "insert into late (tenant_id) values ("+lit(p.other)+")")
			})

			p.build(t, p.schema, p.owner(), "comment on table rate is 'landlord: reference'; grant insert on rate to "+ident(p.want.AppLogin)+
				"; create table fresh (id int); comment on table fresh is 'landlord: reference'; grant insert (id) on fresh to "+ident(p.want.AppLogin))
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				exec(t, conn, "select * from rate")
				refuses(t, conn, pgerr.InsufficientPrivilege, "insert into rate values (1)")
				refuses(t, conn, pgerr.InsufficientPrivilege, "insert into fresh (id) values (1)")
			})
			p.build(t, p.schema, p.owner(), "comment on table rate is null")
			conn := p.app(t)
			if model == "shared" {
				refuses(t, conn, pgerr.InsufficientPrivilege, "select * from "+ident(p.schema, "rate"))
			} else {
				exec(t, p.migrator(t), "insert into "+ident(p.schema, "rate")+" values (1)")
				refuses(t, conn, pgerr.NoTenant, "select * from "+ident(p.schema, "rate"))
			}
		})
	}
}

// Tables that are secured already can be joined wrongly by a later migration.
func TestLaterLinksBetweenTwoTenantsRowsAreRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "schema")
	p.build(t, p.schema, p.tenant, `
create table parent (tenant_id uuid, id int unique, primary key (tenant_id, id)); create table child (tenant_id uuid, parent int);
create table heir (tenant_id uuid, code text); create table everybody (code text); comment on table everybody is 'landlord: reference';
create table loose (id int, parent int references parent (id)); create table named (tenant uuid, parent int references parent (id))`)
	migrator := p.migrator(t)
	wrong := map[string]string{
		"alter table child add foreign key (parent) references parent (id)":                                                "leaves tenant_id out",
		"alter table child add foreign key (parent) references parent (id) not valid":                                      "leaves tenant_id out",
		"savepoint s; alter table child add foreign key (parent) references parent (id); release s":                        "leaves tenant_id out",
		"do $$ begin alter table child add foreign key (parent) references parent (id); exception when others then end $$": "leaves tenant_id out",
		"alter table loose add column tenant_id uuid":                                                                      "leaves tenant_id out",
		"alter table named rename column tenant to tenant_id":                                                              "leaves tenant_id out",
		"alter table heir inherit everybody":                                                                               "only one of them has tenant_id",
	}
	for ddl, want := range wrong {
		_, err := simple(t.Context(), migrator, "begin; set local search_path = "+ident(p.schema)+"; "+ddl+"; "+secureSQL(p.schema, p.tenant)+"; commit")
		require.ErrorContains(t, err, want, ddl)
		exec(t, migrator, "rollback")
	}

	// What ran before the transaction that secures, as it must without one, is found too: it came after the last version.
	recorded := "insert into landlord.schema_version (schema, version, checksum) values (" + lit(p.schema) + ", 1, 'x')"
	exec(t, migrator, "begin; "+secureSQL(p.schema, p.tenant)+"; "+recorded+"; commit")
	exec(t, migrator, "set search_path = "+ident(p.schema)+"; alter table child add constraint wrong foreign key (parent) references parent (id)")
	_, err := simple(t.Context(), migrator, secureSQL(p.schema, p.tenant))
	require.ErrorContains(t, err, "leaves tenant_id out")
	exec(t, migrator, "alter table child drop constraint wrong; reset search_path; "+secureSQL(p.schema, p.tenant))
}
