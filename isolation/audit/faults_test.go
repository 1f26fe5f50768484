package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

// fault is something that is wrong in a home. In its texts {s} is the home's schema, {app} the application's login, {db} the
// database and {id} the tenant.
type fault struct {
	in     placement.Model
	plant  string
	undo   string // what mends it where [audit.Fix] does not; empty: Fix does
	rule   string
	object string
	also   []string // other rules that it breaks
}

const (
	shared   = placement.ModelShared
	schema   = placement.ModelSchema
	database = placement.ModelDatabase

	isolate = "(tenant_id = (select landlord.tenant()::uuid))"
)

var faults = []fault{
	// Row-level security.
	{in: shared, plant: "alter table orders disable row level security", rule: "rls-off", object: "{s}.orders"},
	{in: schema, plant: "alter table orders disable row level security", rule: "rls-off", object: "{s}.orders"},
	{in: shared, plant: "alter table orders no force row level security", rule: "rls-not-forced", object: "{s}.orders"},
	{in: database, plant: "alter table customers no force row level security", rule: "rls-not-forced", object: "{s}.customers"},

	// Policies.
	{in: shared, plant: "drop policy landlord_fence on orders", rule: "policy-missing", object: "policy landlord_fence on {s}.orders"},
	{in: schema, plant: "drop policy landlord_allow on orders", rule: "policy-missing", object: "policy landlord_allow on {s}.orders"},
	{in: shared, plant: "alter policy landlord_allow on orders using (true)", rule: "policy-changed", object: "policy landlord_allow on {s}.orders", also: []string{"policy-open"}},
	{in: shared, plant: "alter policy landlord_fence on orders using (true)", rule: "policy-changed", object: "policy landlord_fence on {s}.orders"},
	{in: shared, plant: "alter policy landlord_allow on orders with check (true)", rule: "policy-unchecked", object: "policy landlord_allow on {s}.orders", also: []string{"policy-changed"}},
	{in: shared, plant: "alter policy landlord_fence on orders to landlord_app", rule: "policy-changed", object: "policy landlord_fence on {s}.orders", also: []string{"policy-role"}},
	{in: shared, plant: "alter policy landlord_fence on orders using " + `(tenant_id = (select landlord.tenant()::uuid) or current_setting('x.y', true) = '1')`, rule: "policy-or", object: "policy landlord_fence on {s}.orders", also: []string{"policy-changed", "policy-setting", "policy-per-row"}},
	{in: schema, plant: "alter policy landlord_allow on orders using (tenant_id = (select landlord.tenant()::uuid) and (select landlord.tenant()) = 'another') ", rule: "policy-changed", object: "policy landlord_allow on {s}.orders"},
	{in: shared, plant: "alter policy landlord_allow on orders using (tenant_id = landlord.tenant()::uuid)", rule: "policy-per-row", object: "policy landlord_allow on {s}.orders", also: []string{"policy-changed"}},
	{
		in: shared, plant: "create function {s}.tenant() returns text language sql stable return 'x'; alter function {s}.tenant() owner to landlord_owner; revoke all on function {s}.tenant() from public; " +
			"alter policy landlord_allow on orders using (tenant_id = (select {s}.tenant()::uuid))", undo: "alter policy landlord_allow on orders using " + isolate + "; drop function {s}.tenant()",
		rule: "policy-changed", object: "policy landlord_allow on {s}.orders", also: []string{"policy-open"},
	},
	{
		in: shared, plant: "create operator {s}.= (leftarg = uuid, rightarg = uuid, function = uuid_ne); alter policy landlord_fence on orders using (tenant_id operator({s}.=) (select landlord.tenant()::uuid))",
		undo: "alter policy landlord_fence on orders using " + isolate + "; drop operator {s}.= (uuid, uuid)", rule: "policy-changed", object: "policy landlord_fence on {s}.orders",
	},
	{in: shared, plant: "alter policy landlord_fence on orders using (id = 1 and tenant_id = (select landlord.tenant()::uuid))", rule: "policy-changed", object: "policy landlord_fence on {s}.orders"},
	{in: shared, plant: "drop policy landlord_fence on orders; create policy landlord_fence on orders for all to public using " + isolate + " with check " + isolate, rule: "policy-changed", object: "policy landlord_fence on {s}.orders"},
	{in: shared, plant: "create policy all_of_it on orders using (true)", undo: "drop policy all_of_it on orders", rule: "policy-open", object: "policy all_of_it on {s}.orders", also: []string{"policy-custom"}},
	{in: shared, plant: "create policy support on orders for select to landlord_app using " + isolate, undo: "drop policy support on orders", rule: "policy-role", object: "policy support on {s}.orders", also: []string{"policy-custom"}},
	{in: shared, plant: "create policy boss on orders for select using (current_user = 'boss')", undo: "drop policy boss on orders", rule: "policy-role", object: "policy boss on {s}.orders", also: []string{"policy-custom", "policy-open"}},
	{in: database, plant: "create policy writes on orders for insert with check (true)", undo: "drop policy writes on orders", rule: "policy-unchecked", object: "policy writes on {s}.orders", also: []string{"policy-custom"}},
	{in: shared, plant: "create policy kept on orders as restrictive using (status <> 'cancelled')", undo: "drop policy kept on orders", rule: "policy-custom", object: "policy kept on {s}.orders"},
	{in: shared, plant: "create policy mine on orders for select using (tenant_id::text = current_setting('app.tenant'))", undo: "drop policy mine on orders", rule: "policy-setting", object: "policy mine on {s}.orders", also: []string{"policy-custom", "policy-open", "policy-per-row"}},
	{
		in: shared, plant: "create function {s}.whose() returns uuid language sql stable security definer set search_path = pg_catalog, pg_temp as 'select null::uuid'; alter function {s}.whose() owner to landlord_owner; " +
			"revoke all on function {s}.whose() from public; create policy theirs on orders for select using (tenant_id = (select {s}.whose()))",
		undo: "drop policy theirs on orders; drop function {s}.whose()", rule: "policy-definer", object: "policy theirs on {s}.orders", also: []string{"policy-custom", "policy-open"},
	},

	// Tables and columns.
	{in: shared, plant: "create table jobs (id int primary key); alter table jobs owner to landlord_owner", undo: "drop table jobs", rule: "table-unclassified", object: "{s}.jobs"},
	{in: shared, plant: "create table jobs (id int primary key); alter table jobs owner to landlord_owner; grant select on jobs to {app}", undo: "drop table jobs", rule: "table-open", object: "{s}.jobs"},
	{in: shared, plant: "create table jobs (id int primary key); alter table jobs owner to landlord_owner; grant select (id) on jobs to {app}", undo: "drop table jobs", rule: "table-open", object: "{s}.jobs"},
	{in: schema, plant: "grant insert on currencies to {app}", rule: "reference-writable", object: "{s}.currencies"},
	{in: shared, plant: "grant update (digits) on currencies to {app}", rule: "reference-writable", object: "{s}.currencies"},
	{in: shared, plant: "comment on table currencies is null", undo: "comment on table currencies is 'landlord: reference'", rule: "table-open", object: "{s}.currencies"},
	{
		in: shared, plant: "create table parts (tenant_id uuid, id int, primary key (tenant_id, id)) partition by hash (tenant_id); create table parts_0 partition of parts for values with (modulus 1, remainder 0); call landlord.secure('{s}'); grant select on parts_0 to {app}",
		undo: "drop table parts", rule: "partition-reachable", object: "{s}.parts_0",
	},
	{in: shared, plant: "alter table customers alter column tenant_id drop default", rule: "tenant-default", object: "{s}.customers"},
	{in: shared, plant: "alter table customers alter column tenant_id set default gen_random_uuid()", rule: "tenant-default", object: "{s}.customers"},
	{in: shared, plant: "create table notes (tenant_id uuid, n int); create index on notes (tenant_id); call landlord.secure('{s}'); alter table notes alter column tenant_id drop not null", undo: "drop table notes", rule: "tenant-nullable", object: "{s}.notes"},
	{in: shared, plant: "create table notes (tenant_id uuid, n int); call landlord.secure('{s}')", undo: "drop table notes", rule: "index-missing", object: "{s}.notes"},
	{in: schema, plant: "create table notes (tenant_id uuid, n int); create index on notes (tenant_id) where n > 0; call landlord.secure('{s}', '{id}')", undo: "drop table notes", rule: "index-missing", object: "{s}.notes"},
	{in: shared, plant: "create index orders_words on orders using gin (to_tsvector('simple', status))", undo: "drop index orders_words", rule: "index-slow", object: "{s}.orders_words"},
	{in: shared, plant: "create unique index orders_number on orders (id)", undo: "drop index orders_number", rule: "unique-without-tenant", object: "{s}.orders_number"},
	{in: shared, plant: "create table notes (tenant_id uuid, id uuid primary key); create index on notes (tenant_id); call landlord.secure('{s}')", undo: "drop table notes", rule: "unique-random", object: "{s}.notes_pkey"},
	{
		in: shared, plant: "create unique index orders_number on orders (id); alter table order_lines add constraint of_order foreign key (order_id) references orders (id) not valid", undo: "alter table order_lines drop constraint of_order; drop index orders_number",
		rule: "foreign-key-without-tenant", object: "{s}.order_lines", also: []string{"unique-without-tenant"},
	},
	{
		in: database, plant: "create table parent (id int, n int); alter table parent owner to landlord_owner; comment on table parent is 'landlord: global'; grant select on parent to {app}; " +
			"create table child (tenant_id uuid, primary key (tenant_id, id)) inherits (parent); alter table child no inherit parent; call landlord.secure('{s}', '{id}'); alter table child inherit parent", undo: "drop table parent cascade",
		rule: "inherits-across", object: "{s}.parent and {s}.child",
	},
	{in: shared, plant: "create table notes (tenant_id numeric primary key); alter table notes owner to landlord_owner", undo: "drop table notes", rule: "tenant-type", object: "{s}.notes", also: []string{"rls-off", "policy-missing", "tenant-default"}},
	{in: shared, plant: "create function {s}.stamp() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as 'begin return new; end'; alter function {s}.stamp() owner to landlord_owner; revoke all on function {s}.stamp() from public; " +
		"create trigger stamped before insert on orders for each row execute function {s}.stamp()", undo: "drop trigger stamped on orders; drop function {s}.stamp()", rule: "trigger-definer", object: "trigger stamped on {s}.orders"},
	{in: shared, plant: "create rule quiet as on delete to order_lines do also nothing", undo: "drop rule quiet on order_lines", rule: "rule", object: "rule quiet on {s}.order_lines"},

	// Views and other relations.
	{in: shared, plant: "create view v as select * from orders; call landlord.secure('{s}'); alter view v reset (security_invoker)", undo: "drop view v", rule: "view-definer", object: "{s}.v"},
	{in: schema, plant: "create view v as select * from orders; call landlord.secure('{s}', '{id}'); alter view v set (security_barrier = false)", undo: "drop view v", rule: "view-no-barrier", object: "{s}.v"},
	{in: shared, plant: "create materialized view m as select * from currencies; alter materialized view m owner to landlord_owner; grant select on m to {app}", undo: "drop materialized view m", rule: "materialized-view-reachable", object: "{s}.m"},
	{in: shared, plant: "create foreign data wrapper w; create server far foreign data wrapper w; create foreign table f (n int) server far; alter foreign table f owner to landlord_owner; grant select on f to {app}", undo: "drop foreign data wrapper w cascade", rule: "foreign-table-reachable", object: "{s}.f"},
	{in: shared, plant: "create sequence numbers; call landlord.secure('{s}'); grant select on sequence numbers to {app}", undo: "drop sequence numbers", rule: "sequence-readable", object: "{s}.numbers"},
	{in: shared, plant: "grant update on sequence orders_id_seq to {app}", rule: "sequence-readable", object: "{s}.orders_id_seq"},
	{in: shared, plant: "alter table orders owner to landlord_admin", rule: "owner", object: "{s}.orders"},

	// Grants.
	{in: shared, plant: "grant truncate on orders to {app}", rule: "grant-excess", object: "{s}.orders"},
	{in: database, plant: "grant references, trigger on orders to {app}", rule: "grant-excess", object: "{s}.orders"},
	{in: shared, plant: "grant references (id) on orders to {app}", rule: "grant-excess", object: "{s}.orders"},
	{in: shared, plant: "grant truncate on orders to public", rule: "grant-excess", object: "{s}.orders", also: []string{"grant-public"}},
	{in: shared, plant: "grant select on orders to {app} with grant option", rule: "grant-option", object: "{s}.orders"},
	{in: schema, plant: "grant select (status) on orders to {app}", rule: "grant-column", object: "{s}.orders"},
	{in: shared, plant: "grant select on orders to public", rule: "grant-public", object: "{s}.orders"},
	{in: shared, plant: "grant select on orders to bystander", undo: "revoke all on orders from bystander", rule: "grant-stranger", object: "{s}.orders"},
	{in: shared, plant: "grant update (status) on orders to bystander", undo: "revoke all on orders from bystander", rule: "grant-stranger", object: "{s}.orders"},
	{in: database, plant: "grant select on orders to landlord_app", undo: "revoke all on orders from landlord_app", rule: "grant-stranger", object: "{s}.orders"},
	{in: schema, plant: "grant usage on schema {s} to bystander", undo: "revoke all on schema {s} from bystander", rule: "grant-stranger", object: "schema {s}"},
	{in: database, plant: "grant connect on database {db} to landlord_app", undo: "revoke all on database {db} from landlord_app", rule: "grant-stranger", object: "database {db}"},

	// Functions.
	{
		in: shared, plant: "create function {s}.f() returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1'; alter function {s}.f() owner to landlord_owner; revoke all on function {s}.f() from public; grant execute on function {s}.f() to {app}",
		undo: "drop function {s}.f()", rule: "definer-callable", object: "{s}.f()",
	},
	{in: shared, plant: "create function {s}.f() returns int language sql security definer as 'select 1'; alter function {s}.f() owner to landlord_owner; revoke all on function {s}.f() from public", undo: "drop function {s}.f()", rule: "definer-search-path", object: "{s}.f()"},
	{in: shared, plant: "create function {s}.f() returns int language sql security definer set search_path = pg_catalog, pg_temp as 'select 1'; revoke all on function {s}.f() from public", undo: "drop function {s}.f()", rule: "definer-powerful", object: "{s}.f()"},
	{in: shared, plant: "create function {s}.f(int) returns boolean language sql leakproof as 'select true'; call landlord.secure('{s}')", undo: "drop function {s}.f(int)", rule: "function-leakproof", object: "{s}.f(integer)"},
	{in: shared, plant: "create function {s}.f() returns int language sql as 'select 1'; alter function {s}.f() owner to landlord_owner", undo: "drop function {s}.f()", rule: "function-public", object: "{s}.f()"},
	{in: schema, plant: "create function {s}.f() returns int language sql as 'select 1'; call landlord.secure('{s}', '{id}'); grant execute on function {s}.f() to bystander", undo: "drop function {s}.f()", rule: "grant-stranger", object: "{s}.f()"},
	{in: shared, plant: "grant execute on function pg_advisory_lock(bigint) to public", rule: "mode-weakened", object: "pg_advisory_lock(bigint)"},
	{in: shared, plant: "grant execute on function lo_create(oid) to {app}", rule: "mode-weakened", object: "lo_create(oid)", also: []string{"catalog-grant"}},
	{in: shared, plant: "grant usage on language plpgsql to {app}", rule: "mode-weakened", object: "language plpgsql"},
	{in: shared, plant: "grant execute on function pg_read_file(text) to {app}", rule: "catalog-grant", object: "pg_read_file(text)"},
	{in: shared, plant: "grant select on pg_statistic to public", rule: "catalog-grant", object: "pg_catalog.pg_statistic"},

	// Schemas and the database.
	{in: schema, plant: "grant create on schema {s} to {app}", rule: "schema-create", object: "schema {s}"},
	{in: shared, plant: "grant create on schema extensions to public", rule: "schema-create", object: "schema extensions"},
	{in: shared, plant: "create schema own authorization {app}", undo: "drop schema own", rule: "role-owns", object: "schema own"},
	{in: schema, plant: "grant usage on schema {s} to public", rule: "schema-public", object: "schema {s}"},
	{in: shared, plant: "grant create on database {db} to {app}", rule: "database-create", object: "database {db}"},
	{in: shared, plant: "grant temporary on database {db} to public", rule: "database-temp", object: "database {db}"},
	{in: database, plant: "grant connect on database {db} to public", rule: "database-public", object: "database {db}"},
	{in: shared, plant: "select lo_create(424242); alter large object 424242 owner to {app}", undo: "select lo_unlink(424242)", rule: "large-objects", object: "large objects"},
	{in: shared, plant: "create publication search for table orders", undo: "drop publication search", rule: "publication", object: "publication search"},
	{in: shared, plant: "create foreign data wrapper w; create server far foreign data wrapper w; grant usage on foreign server far to {app}", undo: "drop foreign data wrapper w cascade", rule: "foreign-server", object: "foreign server far"},
	{in: shared, plant: "create foreign data wrapper w; create server far foreign data wrapper w; create user mapping for {app} server far", undo: "drop foreign data wrapper w cascade", rule: "user-mapping", object: "user mapping for {app} at server far"},
	{in: shared, plant: "alter default privileges for role landlord_owner grant select on tables to {app}", rule: "default-grant", object: "defaults of landlord_owner"},
	{in: shared, plant: "alter default privileges for role landlord_owner grant select on tables to bystander", undo: "alter default privileges for role landlord_owner revoke all on tables from bystander", rule: "grant-stranger", object: "defaults of landlord_owner"},
	{in: schema, plant: "alter default privileges for role landlord_migrator in schema {s} grant insert on tables to public", rule: "default-grant", object: "defaults of landlord_migrator in schema {s}"},
	{in: shared, plant: "alter default privileges for role landlord_migrator grant execute on functions to public", rule: "default-public", object: "defaults of landlord_migrator"},

	// landlord's own objects.
	{in: shared, plant: "grant select on landlord.seal_key to {app}", rule: "landlord-grant", object: "table landlord.seal_key"},
	{in: shared, plant: "grant update (epoch) on landlord.fence to {app}", rule: "landlord-grant", object: "table landlord.fence"},
	{in: database, plant: "grant execute on procedure landlord.secure(name, text) to public", rule: "landlord-grant", object: "routine landlord.secure(name,text)"},
	{in: shared, plant: "alter table landlord.fence owner to landlord_owner", rule: "landlord-owner", object: "table landlord.fence"},
	{in: shared, plant: "alter function landlord.no_tenant() security definer", undo: "alter function landlord.no_tenant() security invoker", rule: "landlord-routine", object: "landlord.no_tenant()"},
	{
		in: database, plant: "alter function landlord.enter reset search_path", undo: "alter function landlord.enter reset all; alter function landlord.enter set search_path = pg_catalog, pg_temp; alter function landlord.enter set lock_timeout = '5s'",
		rule: "landlord-routine", object: "landlord.enter(text,text,bigint,integer,bigint,bytea)",
	},
	{in: shared, plant: "create function landlord.door() returns void language sql as ''; alter function landlord.door() owner to landlord_guard; revoke all on function landlord.door() from public", undo: "drop function landlord.door()", rule: "landlord-routine", object: "landlord.door()"},
	{in: shared, plant: "update landlord.identity set checksum = 'x' || checksum", undo: "update landlord.identity set checksum = substr(checksum, 2)", rule: "landlord-outdated", object: "schema landlord"},

	// Roles and the server.
	{in: shared, plant: "alter role {app} bypassrls", rule: "role-powerful", object: "role {app}"},
	{in: database, plant: "alter role {app} createdb createrole", rule: "role-powerful", object: "role {app}"},
	{in: shared, plant: "alter role landlord_guard login", rule: "role-powerful", object: "role landlord_guard"},
	{in: shared, plant: "grant landlord_admin to {app}", rule: "role-member", object: "role {app}"},
	{in: shared, plant: "grant pg_read_all_data to {app}", rule: "role-member", object: "role {app}"},
	{in: shared, plant: "grant landlord_guard to bystander", undo: "revoke landlord_guard from bystander", rule: "guard-member", object: "role landlord_guard"},
	{in: shared, plant: "grant landlord_owner to landlord_admin", undo: "revoke landlord_owner from landlord_admin", rule: "guard-member", object: "role landlord_owner"},
	{in: shared, plant: "create view v as select * from orders; alter view v owner to {app}", undo: "drop view v", rule: "role-owns", object: "view {s}.v", also: []string{"view-definer", "view-no-barrier"}},
	{in: shared, plant: "alter role {app} set row_security = off", rule: "role-setting", object: "role {app}"},
	{in: shared, plant: "alter role {app} in database {db} set search_path = pg_temp, public", rule: "role-setting", object: "role {app} in database {db}"},
	{in: schema, plant: "alter database {db} set backtrace_functions = 't_00'", rule: "role-setting", object: "database {db}"},
	{in: shared, plant: "grant set on parameter backtrace_functions to {app}", rule: "parameter-grant", object: "parameter backtrace_functions"},
	{in: shared, plant: "grant set on parameter backtrace_functions to bystander", rule: "parameter-grant", object: "parameter backtrace_functions"},
	{in: shared, plant: "grant set on parameter session_replication_role to {app}", rule: "parameter-grant", object: "parameter session_replication_role"},
}

func TestEveryPlantedFaultIsFoundAndMended(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(faults), 60)
	// A server of its own, because some faults are the whole server's.
	h := newHouse(t, testhouse.Options{Own: pgtest.OwnServer(t)})
	h.SuperExec(t, "postgres", "create role bystander login")
	for _, f := range faults {
		p := h.tenants[f.in]
		conn := h.Super(t, p.Home.Database)
		exec(t, conn, "set search_path = "+p.Home.Schema+", pg_temp")
		fill := strings.NewReplacer("{s}", p.Home.Schema, "{db}", p.Home.Database, "{id}", p.Tenant.String(), "{app}", h.wants[p.Home.Database].Login)
		t.Run(f.rule+" "+string(f.in), func(t *testing.T) {
			require.Empty(t, h.findings(t, conn), "before %s", f.plant)
			exec(t, conn, fill.Replace(f.plant))
			found := h.findings(t, conn)
			var rules []string
			for _, one := range found {
				require.True(t, one.Rule == f.rule || slices.Contains(f.also, one.Rule), "%s: %+v", f.plant, one)
				require.NotEmpty(t, one.Risk)
				if one.Object == fill.Replace(f.object) {
					rules = append(rules, one.Rule)
				}
			}
			require.Contains(t, rules, f.rule, "%s: %+v", f.plant, found)

			mended, err := audit.Fix(t.Context(), conn, found)
			require.NoError(t, err)
			if f.undo != "" {
				exec(t, conn, fill.Replace(f.undo))
			} else {
				require.Positive(t, mended)
			}
			require.Empty(t, h.findings(t, conn), "after %s", f.plant)
		})
	}
}

func TestEveryRuleIsBrokenBySomeFault(t *testing.T) {
	t.Parallel()
	elsewhere := []string{"server-old", "prepared-transaction", "prepared-possible", "extension"}
	for _, r := range audit.Rules() {
		planted := slices.ContainsFunc(faults, func(f fault) bool { return f.rule == r.Name })
		require.True(t, planted || slices.Contains(elsewhere, r.Name), r.Name)
	}
}
