// Package forgery is a list of SQL by which an application, or whoever injects into it, tries to become another tenant, and what
// of it each isolation mode is documented to let through. It is for tests only: package isolation tries the list in sessions of
// its own, and the tests of the whole at the doors of the router.
package forgery

import (
	"encoding/hex"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
)

// The settings in which the modes keep the tenant.
const (
	plainSetting  = "landlord.tenant"
	macSetting    = "landlord.token"
	sealedSetting = "backtrace_functions"
)

// Forgery is SQL that tries to become the neighbour, whose rows stand in table note.
type Forgery struct {
	Name string
	// SQL has {tenant} for the neighbour's id, {home} and {schema} for the home's names, {database} and {app} for the database
	// and its login, {setting} for the setting in which the mode keeps the tenant, {register} for what would stand there, and
	// {enter} for a call of enter with a forged signature.
	SQL    string
	Single bool // one statement: what an injection into a query can do; the others are stacked
}

// All are the forgeries.
var All = []Forgery{
	{"set_config in a CTE", `with x as materialized (select set_config('{setting}', '{register}', true) s) select * from note, x where s <> ''`, true},
	{"set_config of the session", `select set_config('{setting}', '{register}', false); select * from note`, false},
	{"update pg_settings", `update pg_settings set setting = '{register}' where name = '{setting}'; select * from note`, false},
	{"update pg_settings in a CTE", `with u as (update pg_settings set setting = '{register}' where name = '{setting}' returning 1) select * from u, note`, true},
	{"set_config by XML", `select query_to_xml($$select set_config('{setting}', '{register}', true)$$, true, true, ''), query_to_xml('select * from note', true, true, '')`, true},
	{"enter once more", `with x as materialized (select {enter} s) select * from note, x`, true},
	{"the guard's own function", `with x as materialized (select landlord.seal('{tenant}', '{home}', 1, 1, '') s) select * from note, x`, true},
	{"read as the database's copy", `copy note to stdout`, true},
	{"set local", `set local {setting} = '{register}'; select * from note`, false},
	{"set session", `set {setting} = '{register}'; select * from note`, false},
	{"reset", `reset {setting}; select * from note`, false},
	{"reset all", `reset all; select * from note`, false},
	{"discard all", `commit; discard all; select * from note`, false},
	{"set to default", `set {setting} to default; select * from note`, false},
	{"savepoint", `savepoint s; rollback to s; set local {setting} = '{register}'; select * from note`, false},
	{"another transaction", `commit; begin; select * from note`, false},
	{"another transaction, set before", `commit; set {setting} = '{register}'; begin; select * from note`, false},
	{"another transaction, entered", `commit; begin; select {enter}; select * from note`, false},
	{"reset, then entered", `reset all; select {enter}; select * from note`, false},
	{"role default", `alter role {app} set {setting} = '{register}'; commit`, false},
	{"role default in the database", `alter role {app} in database {database} set {setting} = '{register}'; commit`, false},
	{"DO block", `do $$ begin perform set_config('{setting}', '{register}', true); end $$; select * from note`, false},
	{"DO block with execute", `do $$ begin execute 'set local {setting} = ''{register}'''; end $$; select * from note`, false},
	{"function with a SET clause", `create function pg_temp.f() returns setof text set {setting} = '{register}' language sql as 'select body from {schema}.note'; select pg_temp.f()`, false},
	{"function in the home's schema", `create function {schema}.f() returns setof text set {setting} = '{register}' language sql as 'select body from note'; select {schema}.f()`, false},
	{"become the guard", `set role landlord_guard; select * from note`, false},
	{"become the owner", `set local role landlord_owner; select * from note`, false},
	{"become the admin", `set session authorization landlord_admin; select * from note`, false},
	{"become the migrator", `set role landlord_migrator; select * from note`, false},
	{"become the superuser", `reset session authorization; reset role; set role none; select * from note`, false},
	{"join the guard", `grant landlord_guard to {app}`, false},
	{"switch policies off", `set row_security = off; select * from note`, false},
	{"switch triggers off", `set session_replication_role = replica; select * from note`, false},
	{"shadow the context function", `create schema landlord2; set search_path = landlord2; select * from {schema}.note`, false},
	{"replace the context function", `create or replace function landlord.tenant() returns text language sql as 'select ''{tenant}'''; select * from note`, false},
	{"shadow the table", `create temp table note (body text); select * from note`, false},
	{"leaking function", `create function pg_temp.leak(text) returns bool cost 0.0000001 language sql as 'select true'; select * from note where pg_temp.leak(body)`, false},
	{"cursor", `declare c cursor with hold for select * from note; commit; set {setting} = '{register}'; fetch all from c; begin; select * from note`, false},
	{"prepared statement", `prepare p as select * from note; commit; set {setting} = '{register}'; execute p; begin; execute p`, false},
	{"the seal keys", `select kid::text, ipad, opad from landlord.seal_key`, true},
	{"the fences", `select * from landlord.fence`, true},
	{"the versions", `select * from landlord.schema_version`, true},
	{"the admin's log", `select * from landlord.admin_log`, true},
	{"add a key", `insert into landlord.seal_key values (2, '', '')`, true},
	{"open a fence", `update landlord.fence set state = 'open'`, true},
	{"change the identity", `update landlord.identity set mode = 'plain'`, true},
	{"check a signature", `select landlord.seal_ok('{tenant}', '{home}', 1, 1, '')`, true},
	{"a token's text", `select landlord.token_text('{tenant}', '{home}', 1, 1)`, true},
	{"secure", `call landlord.secure('public')`, true},
	{"secure one table", `call landlord.secure_table('{schema}.note', '{app}', null)`, true},
	{"enter as admin", `select landlord.admin_enter('because')`, true},
}

// through lists what does get through, by mode and name, in the order of All: the documented limits of plain and locked.
var through = map[isolation.Mode][]string{
	isolation.Plain: {
		"set_config in a CTE", "set_config of the session", "set_config by XML",
		"set local", "set session", "savepoint", "another transaction, set before", "another transaction, entered",
		"reset, then entered", "DO block", "DO block with execute", "cursor", "prepared statement",
	},
	isolation.Locked: {
		"set local", "set session", "savepoint", "another transaction, set before", "another transaction, entered",
		"reset, then entered", "DO block with execute", "cursor", "prepared statement",
	},
}

// Through returns the names of the forgeries that the mode lets through once they have reached the database, in the order of All.
func Through(mode isolation.Mode) []string { return through[mode] }

// Names are what forgeries are made for.
type Names struct {
	Mode             isolation.Mode
	Tenant, Home     string // the neighbour's
	Schema, Database string
	Login            string
}

// Write fills the names into SQL.
func (n Names) Write(sql string) string {
	forged := strings.Repeat("ab", 32)
	params := "'" + n.Tenant + "', '" + n.Home + "', 1, 1, extract(epoch from now())::bigint + 5, '\\x" + forged + "'"
	setting, register := plainSetting, n.Tenant
	switch n.Mode {
	case isolation.Sealed:
		setting, register = sealedSetting, "t_"+hex.EncodeToString([]byte(n.Tenant))
	case isolation.SealedMAC:
		setting = macSetting
		register = strings.Join([]string{
			hex.EncodeToString([]byte(n.Tenant)), hex.EncodeToString([]byte(n.Home)), "1", "99999999999", forged,
		}, ".")
	}
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	return strings.NewReplacer("{tenant}", n.Tenant, "{home}", n.Home, "{setting}", setting, "{register}", register,
		"{app}", quote(n.Login), "{enter}", "landlord.enter("+params+")", "{schema}", quote(n.Schema),
		"{database}", quote(n.Database)).Replace(sql)
}
