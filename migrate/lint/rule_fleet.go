package lint

// fleetRules are about files that run in one home and not in the next.
var fleetRules = []Rule{
	{
		Name: "fixed-schema", Severity: Error, Refused: true,
		Risk: "A schema that is named is the same one in every home: what is made lands outside of the home, and the second home fails.",
		Safe: "create table t (tenant_id uuid, ...); -- unqualified: the search path leads to the home's own schema",
	}, {
		Name: "unbound-catalog-lookup", Severity: Error,
		Risk: "{catalog} shows the objects of all homes in the database, so what is looked for is found in somebody else's.",
		Safe: "select from pg_class where oid = to_regclass('t');\nselect from pg_tables where schemaname = current_schema() and tablename = 't';",
	}, {
		Name: "changes-search-path", Severity: Error, Refused: true,
		Risk: "The search path says whose home this is: what follows lands elsewhere, and the connection keeps it.",
		Safe: "-- take the statement out; a function gets a path of its own\ncreate function f() returns int language sql set search_path from current as 'select 1';",
	}, {
		Name: "changes-role", Severity: Error, Refused: true,
		Risk: "What another role makes is not given to the home's owner, and the connection keeps the role.",
		Safe: "-- take the statement out: new objects are given to the owner afterwards",
	}, {
		Name: "session-setting", Severity: Warning,
		Risk: "A setting of the session stays on the connection and goes with it into the next home.",
		Safe: "set local {setting} = ...;",
	}, {
		Name: "cluster-wide", Severity: Error,
		Risk: "This is there once on a server: the second database on it fails, and every home repeats it.",
		Safe: "-- landlord: scope=server\n-- +goose Up\n{statement};",
	}, {
		Name: "database-wide", Severity: Error,
		Risk: "This is there once in a database: the second home in it fails, and every home repeats it.",
		Safe: "-- landlord: scope=database\n-- +goose Up\n{statement};",
	}, {
		Name: "security-definer-path", Severity: Error,
		Risk: "A SECURITY DEFINER function without a search path of its own runs with its owner's rights whatever its caller puts into the path.",
		Safe: "create or replace function {object}(...) ... security definer set search_path from current as ...;",
	}, {
		Name: "fixed-function-path", Severity: Error,
		Risk: "The function looks into schema {schema} in every home, whosever that is.",
		Safe: "create or replace function {object}(...) ... set search_path from current as ...;",
	}, {
		Name: "view-without-security-invoker", Severity: Error,
		Risk: "A view reads with its owner's rights, past the row-level security of its tables: everybody sees all tenants' rows.",
		Safe: "create or replace view {view} with (security_invoker = true) as select ...;\n-- instead of a materialized view: a table with tenant_id, filled by triggers and phase=backfill",
	}, {
		Name: "row-security-off", Severity: Error,
		Risk: "Without row-level security every tenant reads all rows of {table}.",
		Safe: "alter table {table} enable row level security, force row level security;",
	}, {
		Name: "alters-policy", Severity: Error,
		Risk: "A policy decides whose rows of {table} a tenant sees: landlord's own are put back after the file, and another one that is widened shows what it kept back.",
		Safe: "-- landlord's own (landlord_allow, landlord_fence): take the statement out\n-- your own: in one file\ndrop policy p on {table};\ncreate policy p on {table} as restrictive using (...);",
	}, {
		Name: "grant-past-policies", Severity: Error,
		Risk: "{object} has no row-level security of its own, or the grant is on columns, which no policy goes by: what is granted on it to the application is taken back.",
		Safe: "-- take the statement out: tables, views, sequences and functions are granted after the file\n-- instead of a materialized view: a table with tenant_id, filled by triggers and phase=backfill",
	}, {
		Name: "table-unclassed", Severity: Warning,
		Risk: "Nothing says whose rows {table} holds, so it gets no policy and stays closed to the application.",
		Safe: "create table {table} (tenant_id uuid, id bigint generated always as identity, primary key (tenant_id, id));\n-- or, for the same rows everywhere\ncomment on table {table} is 'landlord: reference';",
	}, {
		Name: "key-without-tenant", Severity: Warning,
		Risk: "{name} does not begin with tenant_id: one tenant's rows lie scattered, and a unique key tells what other tenants have.",
		Safe: "create index concurrently {name} on {table} (tenant_id, {columns});\n-- or: unique (tenant_id, {columns}), foreign key (tenant_id, {columns}) references p (tenant_id, {columns})",
	}, {
		Name: "names-from-clock", Severity: Error,
		Risk: "Statements put together from the time or from chance differ from home to home, and the homes count as drifted.",
		Safe: "create table t_2030 partition of t for values from ('2030-01-01') to ('2031-01-01');",
	}, {
		Name: "environment-variables", Severity: Warning,
		Risk: "What the file does depends on the environment of whoever runs it, and its checksum does not show it.",
		Safe: "-- write the value, or read it from a table",
	},
}
