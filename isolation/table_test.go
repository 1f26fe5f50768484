package isolation_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

func TestReadingWithoutATenantIsAnErrorNeverZeroRows(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		p.build(t, p.schema, p.owner(), `
create view note_view as select * from note;
create view view_of_view as select body from note_view;
create function note_count() returns bigint language sql stable as 'select count(*) from note';
create function note_count_pl() returns bigint language plpgsql stable as 'begin return (select count(*) from note); end'`)
		conn := p.app(t)
		exec(t, conn, "set search_path = "+ident(p.schema))
		for _, sql := range []string{
			"select * from note", "select count(*) from note", "select 1 from note limit 1", "select exists (select from note)",
			"select * from note_view", "select * from view_of_view", "select note_count()", "select note_count_pl()",
			"insert into note (body) values ('x')", "update note set body = 'x'", "delete from note",
			"insert into note (tenant_id, body) values (" + lit(p.tenant) + ", 'x')",
			"merge into note using (values (1)) v (i) on note.id = v.i when matched then delete",
			"copy note to stdout", "select * from note for update", "declare c cursor with hold for select * from note",
			"explain analyze select * from note", "select landlord.tenant()",
			"prepare p as select * from note; execute p",
		} {
			_, err := simple(t.Context(), conn, sql)
			requireCode(t, pgerr.NoTenant, err, sql)
		}
		// Also right after a transaction that had one.
		p.begin(t, conn, p.tenant)
		require.Equal(t, ownRows, count(t, conn, "select from note"))
		exec(t, conn, "commit")
		refuses(t, conn, pgerr.NoTenant, "select count(*) from note")
	})
}

// The context is read when a row is looked at. Where there is no row, or none that meets a condition, PostgreSQL may get by
// without a look, and answer with nothing: that much is not guaranteed. What is: no row comes out without a tenant.
func TestWithoutATenantARowIsAnErrorHoweverItIsFound(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		p := newPlace(t, isolation.Sealed, model)
		p.build(t, p.schema, p.owner(), `
create table bare (tenant_id uuid, i int); create table keyed (tenant_id uuid, i int, primary key (tenant_id, i));
create table indexed (tenant_id uuid, i int); create index on indexed (i); create table hashed (tenant_id uuid, i int) partition by hash (i);
create table hashed_0 partition of hashed for values with (modulus 2, remainder 0); create table hashed_1 partition of hashed for values with (modulus 2, remainder 1)`)
		app, migrator := p.app(t), p.migrator(t)
		exec(t, app, "set search_path = "+ident(p.schema))
		for _, table := range []string{"bare", "keyed", "indexed", "hashed"} {
			for _, filled := range []bool{false, true} {
				if filled {
					exec(t, migrator, "insert into "+ident(p.schema, table)+" values ("+lit(p.other)+", 1)")
				}
				exec(t, migrator, "analyze "+ident(p.schema, table))
				for _, sql := range []string{
					"select * from " + table, "select count(*) from " + table, "select * from " + table + " where i = 1",
					"select * from " + table + " where i > 0 order by i limit 1", "update " + table + " set i = 2 where i = 1", "delete from " + table,
					"select * from " + table + " a join " + table + " b using (i)", "set enable_seqscan = off; select * from " + table + " where i = 1",
				} {
					rows, err := simple(t.Context(), app, sql)
					require.NotContains(t, rows, p.other)
					if filled || err != nil {
						requireCode(t, pgerr.NoTenant, err, "%s %s", model, sql)
					}
				}
				exec(t, app, "reset enable_seqscan")
			}
		}
	}
}

func TestATenantSeesAndChangesItsOwnRowsOnly(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		p.build(t, p.schema, p.owner(), `
create view note_view as select * from note;
create function note_count() returns bigint language sql stable as 'select count(*) from note'`)
		require.Equal(t, ownRows+otherRows, count(t, p.super(t), "select from "+ident(p.schema, "note")), "the rows are there")
		p.visit(t, p.tenant, func(conn *pgx.Conn) {
			require.Equal(t, ownRows, count(t, conn, "select from note"))
			require.Equal(t, ownRows, count(t, conn, "select from note_view"))
			require.Equal(t, "2", text(t, conn, "select note_count()::text"))
			require.Zero(t, count(t, conn, "select from note where tenant_id = $1", p.other))
			require.Zero(t, count(t, conn, "select from note where body = $1", canary))
			copied, err := simple(t.Context(), conn, "copy note (body) to stdout")
			require.NoError(t, err)
			require.NotContains(t, copied, canary)

			// Writes find nothing of the neighbour's, and can make nothing for it.
			for _, sql := range []string{
				"update note set body = 'stolen' where tenant_id = " + lit(p.other),
				"delete from note where body = " + lit(canary),
				"update note_view set body = 'stolen' where tenant_id = " + lit(p.other),
			} {
				tag, err := conn.Exec(t.Context(), sql)
				require.NoError(t, err)
				require.Zero(t, tag.RowsAffected(), "%s", sql)
			}
			for _, sql := range []string{
				"insert into note (tenant_id, body) values (" + lit(p.other) + ", 'x')",
				"insert into note (tenant_id, body) values (null, 'x')",
				"insert into note_view (tenant_id, body) values (" + lit(p.other) + ", 'x')",
				"insert into note (tenant_id, body) select " + lit(p.other) + ", body from note",
				"update note set tenant_id = " + lit(p.other),
				"with moved as (update note set tenant_id = " + lit(p.other) + " returning 1) select count(*) from moved",
				"merge into note using (values (0)) v (i) on note.id = v.i when not matched then insert (tenant_id, body) values (" + lit(p.other) + ", 'x')",
			} {
				refuses(t, conn, pgerr.InsufficientPrivilege, sql)
			}

			exec(t, conn, "insert into note (body) values ('mine by default')")
			require.Equal(t, p.tenant, text(t, conn, "select tenant_id::text from note where body = 'mine by default'"))
			tag, err := conn.Exec(t.Context(), "delete from note")
			require.NoError(t, err)
			require.EqualValues(t, ownRows+1, tag.RowsAffected())
		})
	})
}

func TestTheApplicationHasNoPrivilegeThatGoesAroundPolicies(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		p.visit(t, p.tenant, func(conn *pgx.Conn) {
			for _, sql := range []string{
				"truncate note", "create trigger x before insert on note for each row execute function suppress_redundant_updates_trigger()",
				"alter table note disable row level security", "alter table note no force row level security",
				"drop policy landlord_fence on note", "create policy x on note using (true)", "alter policy landlord_fence on note using (true)",
				"create table x (i int)", "create table extensions.x (i int)", "create temp table x (i int)", "create schema x", "drop table note",
				"create function x() returns int language sql as 'select 1'", "create index on note (body)",
				"comment on table note is 'landlord: reference'", "alter table note owner to " + ident(p.want.AppLogin),
				"create rule r as on select to note do instead select 1", "set row_security = off; select * from note",
				"insert into reference values ('XXX')", "update reference set code = 'XXX'", "delete from reference", "truncate reference",
				"create table x (i text references reference)", "create publication x for table note", "create statistics x on id, body from note",
				"alter database " + ident(p.database) + " set search_path = x", "lock table reference in access exclusive mode",
			} {
				refuses(t, conn, pgerr.InsufficientPrivilege, sql)
			}
			refuses(t, conn, pgerr.FeatureNotSupported, "copy note (body) from stdin")
			require.Equal(t, 1, count(t, conn, "select from reference"))
		})
		super := p.super(t)
		for _, privilege := range []string{"truncate", "references", "trigger"} {
			for _, table := range []string{"note", "reference"} {
				require.Equal(t, "false", text(t, super, "select has_table_privilege($1, $2, $3)::text",
					p.want.AppLogin, ident(p.schema, table), privilege))
			}
		}
	})
}
