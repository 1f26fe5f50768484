package isolation_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

func TestPoliciesAreOnePredicatePermissiveAndRestrictiveForEverybody(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		p := newPlace(t, isolation.Sealed, model)
		p.build(t, p.schema, p.owner(), "create table setting (id int)")
		const q = `
select format('%s %s %s|%s', polcmd, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
  from pg_policy where polrelid = $1::regclass and polpermissive = $2`
		byRow := "(tenant_id = ( SELECT (landlord.tenant())::uuid AS tenant))"
		byHome := "(( SELECT landlord.tenant() AS tenant) = '" + p.tenant + "'::text)"
		want := map[string]string{"note": "(" + byRow + " AND " + byHome + ")", "setting": byHome}
		if model == "shared" {
			want = map[string]string{"note": byRow}
		}
		super := p.super(t)
		for table, expr := range want {
			for _, permissive := range []bool{true, false} {
				require.Equal(t, "* {0} "+expr+"|"+expr, text(t, super, q, ident(p.schema, table), permissive), "%s %s", model, table)
			}
		}
	}
}

func TestPoliciesReadTheContextOncePerStatement(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		p.visit(t, p.tenant, func(conn *pgx.Conn) {
			plan, err := simple(t.Context(), conn, "explain (verbose, costs off) select body from note")
			require.NoError(t, err)
			require.Contains(t, plan, "InitPlan 1")
			require.NotContains(t, plan, "InitPlan 2", "the two policies are one filter: %s", plan)
			require.Regexp(t, `(?m)(Filter|Index Cond): \(?\(?note\.tenant_id = `, plan)
			require.NotRegexp(t, `(?m)(Filter|Index Cond):.*(landlord\.tenant|current_setting)\(`, plan)
		})
	})
	p := newPlace(t, isolation.Sealed, "schema")
	p.build(t, p.schema, p.tenant, "create table plain_note (id int)")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		plan, err := simple(t.Context(), conn, "explain (costs off) select * from plain_note")
		require.NoError(t, err)
		require.Contains(t, plan, "InitPlan 1")
		require.NotRegexp(t, `Filter:.*landlord\.tenant\(`, plan)
	})
}

// A foreign key that carries the tenant cannot tell another tenant's row from one that does not exist.
func TestAForeignKeyToAnotherTenantsRowFailsLikeOneToNoRow(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), `
create table tag (tenant_id uuid, id int, note bigint, primary key (tenant_id, id), foreign key (tenant_id, note) references note)`)
			super := p.super(t)
			theirs := text(t, super, "select min(id)::text from "+ident(p.schema, "note")+" where tenant_id = $1", p.other)
			own := text(t, super, "select min(id)::text from "+ident(p.schema, "note")+" where tenant_id = $1", p.tenant)
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				exec(t, conn, "insert into tag (id, note) values (1, "+own+")")
				exec(t, conn, "savepoint s")
				_, err := simple(t.Context(), conn, "insert into tag (id, note) values (2, "+theirs+")")
				foreign := requireCode(t, pgerr.ForeignKeyViolation, err)
				exec(t, conn, "rollback to s")
				_, err = simple(t.Context(), conn, "insert into tag (id, note) values (2, 999999)")
				missing := requireCode(t, pgerr.ForeignKeyViolation, err)
				exec(t, conn, "rollback to s")
				require.Equal(t, missing.Message, foreign.Message)
				require.Equal(t, strings.ReplaceAll(missing.Detail, "999999", "N"), strings.ReplaceAll(foreign.Detail, theirs, "N"))

				_, err = simple(t.Context(), conn, "insert into tag (tenant_id, id, note) values ("+lit(p.other)+", 2, "+theirs+")")
				requireCode(t, pgerr.InsufficientPrivilege, err)
				exec(t, conn, "rollback to s")
			})
			// The row's own tenant can make the very same reference.
			p.visit(t, p.other, func(conn *pgx.Conn) {
				if model == "shared" {
					exec(t, conn, "insert into tag (id, note) values (2, "+theirs+")")
				}
			})
		})
	}
}

// Where keys start with the tenant, a value that another tenant has is free.
func TestUniqueKeysSayNothingOfAnotherTenantsRows(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, "", "create table email (tenant_id uuid, address text, primary key (tenant_id, address))")
	insert := "insert into email (address) values ('taken@example.com')"
	conn := p.app(t)
	p.begin(t, conn, p.other)
	exec(t, conn, insert+"; commit")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		exec(t, conn, insert)
		refuses(t, conn, pgerr.UniqueViolation, insert)
		exec(t, conn, insert+" on conflict do nothing")
		require.Equal(t, 1, count(t, conn, "select from email"))
	})
}

func TestPartitionsAreReachedThroughTheirParentOnly(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), `
create table event (tenant_id uuid, day date, body text) partition by range (day);
create table event_1 partition of event for values from ('2026-01-01') to ('2026-02-01');
create table event_2 partition of event for values from ('2026-02-01') to ('2026-03-01') partition by hash (tenant_id);
create table event_2_0 partition of event_2 for values with (modulus 1, remainder 0)`)
			p.build(t, p.schema, p.owner(), `create table event_3 partition of event default`) // later, on a secured parent
			insert := "insert into " + ident(p.schema, "event") + " (tenant_id, day, body) select $1, date '2026-01-15' + 30 * n, $2 from generate_series(0, 2) n"
			migrator := p.migrator(t)
			for tenant, body := range map[string]string{p.tenant: "own", p.other: canary} {
				_, err := migrator.Exec(t.Context(), insert, tenant, body)
				require.NoError(t, err)
			}
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				require.Equal(t, 3, count(t, conn, "select from event"))
				require.Zero(t, count(t, conn, "select from event where body = $1", canary))
				for _, child := range []string{"event_1", "event_2", "event_2_0", "event_3"} {
					refuses(t, conn, pgerr.InsufficientPrivilege, "select * from "+child)
					refuses(t, conn, pgerr.InsufficientPrivilege, "insert into "+child+" (day, body) values ('2026-01-16', 'x')")
				}
				refuses(t, conn, pgerr.InsufficientPrivilege, "insert into event (tenant_id, day, body) values ("+lit(p.other)+", '2026-01-16', 'x')")
				exec(t, conn, "insert into event (day, body) values ('2026-01-16', 'x'), ('2026-12-16', 'x')")
			})
			// Even a grant on a child would show no foreign row: each child has the policies too.
			exec(t, p.super(t), "grant select on "+ident(p.schema, "event_1")+" to "+ident(p.want.AppLogin))
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				require.Equal(t, 1, count(t, conn, "select from event_1"))
			})
		})
	}
}

func TestInheritanceChildrenAreProtectedOnTheirOwn(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, "", "create table special_note (id bigint generated always as identity) inherits (note)")
	p.fill(t, "special_note", p.other, 1, canary)
	p.fill(t, "special_note", p.tenant, 1, "special")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		require.Equal(t, 1, count(t, conn, "select from special_note"))
		require.Equal(t, ownRows+1, count(t, conn, "select from note"))
	})
}

func TestWhatCannotHaveRowLevelSecurityIsClosed(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			exec(t, p.super(t), `create extension postgres_fdw schema extensions;
create server loop foreign data wrapper postgres_fdw; grant usage on foreign server loop to landlord_migrator`)
			p.build(t, p.schema, p.owner(), `
create materialized view note_copy as select * from note;
create foreign table far_note (tenant_id uuid, body text) server loop`)
			require.Equal(t, ownRows+otherRows, count(t, p.super(t), "select from "+ident(p.schema, "note_copy")), "it holds every tenant's rows")
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				for _, sql := range []string{
					"select * from note_copy", "refresh materialized view note_copy", "copy (select * from note_copy) to stdout",
					"select * from far_note", "insert into far_note (body) values ('x')",
				} {
					refuses(t, conn, pgerr.InsufficientPrivilege, sql)
				}
			})
		})
	}
}

func TestATableWithoutAClassIsClosedInASharedSchema(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, "", "create table loose (id int); insert into loose values (1); comment on table loose is 'landlord: whatever'")
	// A view does not open it, nor does a later replacement of that view.
	p.build(t, p.schema, "", "create view loose_view as select id from loose")
	p.build(t, p.schema, "", "create or replace view loose_view as select id, 1 as more from loose")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		for _, sql := range []string{"select * from loose", "insert into loose values (2)", "select * from loose_view"} {
			refuses(t, conn, pgerr.InsufficientPrivilege, sql)
		}
	})
	// Once it has a class, the next sweep opens it for reading; when it loses it, the next closes it.
	p.build(t, p.schema, "", "comment on table loose is 'landlord: global'")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		require.Equal(t, 1, count(t, conn, "select from loose"))
		refuses(t, conn, pgerr.InsufficientPrivilege, "insert into loose values (2)")
	})
	p.build(t, p.schema, "", "comment on table loose is null")
	p.visit(t, p.tenant, func(conn *pgx.Conn) { refuses(t, conn, pgerr.InsufficientPrivilege, "select * from loose") })
}

func TestATableWithoutTenantIDBelongsToTheSchemaHomesTenant(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		if p.model == "shared" {
			return
		}
		p.build(t, p.schema, p.tenant, "create table setting (name text primary key, value text); insert into setting values ('a', "+lit(canary)+")")
		p.visit(t, p.tenant, func(conn *pgx.Conn) {
			require.Equal(t, 1, count(t, conn, "select from setting"))
			exec(t, conn, "update setting set value = 'b'; insert into setting values ('b', 'c'); delete from setting where name = 'a'")
		})
		p.visit(t, p.other, func(conn *pgx.Conn) {
			require.Zero(t, count(t, conn, "select from setting"))
			refuses(t, conn, pgerr.InsufficientPrivilege, "insert into setting values ('b', 'c')")
			tag, err := conn.Exec(t.Context(), "delete from setting")
			require.NoError(t, err)
			require.Zero(t, tag.RowsAffected())
		})
		refuses(t, p.app(t), pgerr.NoTenant, "select * from "+ident(p.schema, "setting"))
	})
}

func TestAQualifiedNameIntoAnotherSchemaHomeShowsNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, mode, "schema")
			next := &place{home: p.home, model: "schema", schema: "t_" + suffix(), tenant: uuid.NewString()}
			next.name = "a/" + next.database + "/" + next.schema
			require.NoError(t, isolation.CreateSchema(t.Context(), p.super(t), next.schema, next.tenant))
			next.build(t, next.schema, next.tenant, `
create table note (tenant_id uuid, id bigint generated always as identity, body text not null, primary key (tenant_id, id));
create table setting (body text)`)
			next.fill(t, "note", next.tenant, 4, canary)
			exec(t, p.migrator(t), "insert into "+ident(next.schema, "setting")+" values ("+lit(canary)+")")
			next.open(t, next.tenant, next.name, "schema")
			next.visit(t, next.tenant, func(conn *pgx.Conn) {
				require.Equal(t, 4, count(t, conn, "select from note"), "the rows are there")
				require.Equal(t, 1, count(t, conn, "select from setting"))
			})
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				for _, table := range []string{"note", "setting"} {
					there := ident(next.schema, table)
					require.Zero(t, count(t, conn, "select from "+there))
					refuses(t, conn, pgerr.InsufficientPrivilege, "insert into "+there+" (body) values ('x')")
					// Also by a wrong path.
					exec(t, conn, "savepoint s; set local search_path = "+ident(next.schema))
					require.Zero(t, count(t, conn, "select from "+table))
					exec(t, conn, "rollback to s")
				}
			})
		})
	}
}
