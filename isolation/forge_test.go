package isolation_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// The settings in which the modes keep the tenant.
const (
	plainSetting  = "landlord.tenant"
	macSetting    = "landlord.token"
	sealedSetting = "backtrace_functions"
)

// forgery is SQL that tries to become the neighbour. In it, {tenant} stands for the neighbour's id, {register} for what the
// mode's setting would hold, {setting} for its name, {app} for the login, {enter} for a call of enter with {forged} in place
// of the signature, {schema} for the home's.
type forgery struct {
	name, sql string
	single    bool // one statement: what an injection into a query can do; the others are stacked
}

var forgeries = []forgery{
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

// canForge lists what does get through, by mode and name: the documented limits of plain and locked.
var canForge = map[isolation.Mode][]string{
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

func (p *place) write(sql string) string {
	params := "'" + p.other + "', '" + p.name + "', 1, 1, " + "extract(epoch from now())::bigint + 5, '\\x" + strings.Repeat("ab", 32) + "'"
	setting, register := plainSetting, p.other
	switch p.want.Mode {
	case isolation.Sealed:
		setting, register = sealedSetting, "t_"+hex.EncodeToString([]byte(p.other))
	case isolation.SealedMAC:
		setting = macSetting
		register = strings.Join([]string{
			hex.EncodeToString([]byte(p.other)), hex.EncodeToString([]byte(p.name)), "1", "99999999999",
			strings.Repeat("ab", 32),
		}, ".")
	}
	return strings.NewReplacer("{tenant}", p.other, "{home}", p.name, "{setting}", setting, "{register}", register,
		"{app}", ident(p.want.AppLogin), "{enter}", "landlord.enter("+params+")", "{schema}", ident(p.schema),
		"{database}", ident(p.database)).Replace(sql)
}

// forge runs f inside the tenant's transaction, and looks again. It tells whether a row of the neighbour came out.
func (p *place) forge(t *testing.T, f forgery) (broken bool) {
	t.Helper()
	conn := p.app(t)
	p.begin(t, conn, p.tenant)
	var seen string
	if f.single { // as pgx sends a statement with arguments
		result := conn.PgConn().ExecParams(t.Context(), p.write(f.sql), nil, nil, nil, nil).Read()
		for _, row := range result.Rows {
			for _, v := range row {
				seen += string(v) + "\n"
			}
		}
	} else {
		seen, _ = simple(t.Context(), conn, p.write(f.sql)) // what came before the error counts too
	}
	if conn.PgConn().TxStatus() != 'E' {
		rows, _ := simple(t.Context(), conn, "select * from note")
		seen += rows
	}
	require.NoError(t, conn.Close(t.Context()))
	if strings.HasPrefix(f.sql, "alter role") { // which works from the next connection on
		rows, _ := simple(t.Context(), p.app(t), "select * from "+ident(p.schema, "note"))
		seen += rows
	}
	return strings.Contains(seen, canary)
}

func TestNoForgeryShowsAnotherTenantWhereSealed(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		p.visit(t, p.other, func(conn *pgx.Conn) {
			require.Equal(t, otherRows, count(t, conn, "select from note where body = $1", canary), "the rows are there")
		})
		for _, f := range forgeries {
			require.False(t, p.forge(t, f), "%s: %s", f.name, p.write(f.sql))
		}
		// The setting is what it was for those who come after.
		p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows, count(t, conn, "select from note")) })
	})
}

func TestLockedStopsForgeriesInOneStatementButNotStackedOnes(t *testing.T) {
	t.Parallel()
	p := newDedicatedPlace(t, isolation.Locked)
	for _, f := range forgeries {
		if f.single {
			require.NotContains(t, canForge[isolation.Locked], f.name)
		}
	}
	p.requireForgeries(t)
}

func TestPlainStopsForgottenFiltersButNoForgery(t *testing.T) {
	t.Parallel()
	p := newDedicatedPlace(t, isolation.Plain)
	p.requireForgeries(t)
}

// newDedicatedPlace has a login of its own, because these modes let the application change its login's defaults, and all
// tests share landlord_app.
func newDedicatedPlace(t *testing.T, mode isolation.Mode) *place {
	t.Helper()
	p := newPlace(t, mode, "database")
	exec(t, p.super(t), "update landlord.fence set model = 'shared'; comment on table note is null")
	super := p.super(t)
	exec(t, super, "call landlord.secure_table('note', "+lit(p.want.AppLogin)+", null)") // as in a shared home
	return p
}

// requireForgeries asserts that exactly what is documented gets through.
func (p *place) requireForgeries(t *testing.T) {
	t.Helper()
	var through []string
	for _, f := range forgeries {
		if p.forge(t, f) {
			through = append(through, f.name)
		}
	}
	require.Equal(t, canForge[p.want.Mode], through)
}

func TestStartUpOptionsCannotSetASealedTenant(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		cfg, err := pgx.ParseConfig(p.server.DSN)
		require.NoError(t, err)
		cfg.User, cfg.Password, cfg.Database = p.want.AppLogin, p.password, p.database
		for _, option := range []string{"options", "setting"} {
			cfg := cfg.Copy()
			if option == "options" {
				cfg.RuntimeParams["options"] = strings.ReplaceAll(p.write("-c {setting}={register}"), " -c", "-c")
			} else {
				cfg.RuntimeParams[p.write("{setting}")] = p.write("{register}")
			}
			conn, err := pgx.ConnectConfig(t.Context(), cfg)
			if p.want.Mode == isolation.Sealed {
				requireCode(t, pgerr.InsufficientPrivilege, err)
				continue
			}
			require.NoError(t, err)
			refuses(t, conn, pgerr.NoTenant, "select * from note")
			require.NoError(t, conn.Close(t.Context()))
		}
	})
}

// With stacked SQL and a genuine token of the neighbour one transaction could be switched; a token is never in reach, but
// the door does not rely on that.
func TestATransactionBelongsToOneTenant(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		p.begin(t, conn, p.tenant)
		require.NoError(t, p.enter(t.Context(), conn, p.entry(p.tenant)), "the same tenant once more")
		require.Equal(t, ownRows, count(t, conn, "select from note"))
		exec(t, conn, "savepoint s")
		err := p.enter(t.Context(), conn, p.entry(p.other))
		require.Contains(t, requireCode(t, pgerr.BadSeal, err).Message, "another tenant")
		exec(t, conn, "rollback to s")
		require.Equal(t, ownRows, count(t, conn, "select from note"))
		exec(t, conn, "commit")
		p.begin(t, conn, p.other)
		require.Equal(t, otherRows, count(t, conn, "select from note"))
		exec(t, conn, "rollback")
	})
}

func TestTheContextEndsWithTheTransaction(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		for _, end := range []string{"commit", "rollback", "select 1/0", "savepoint s; rollback to s; commit", "select pg_sleep(9)"} {
			p.begin(t, conn, p.tenant)
			require.Equal(t, ownRows, count(t, conn, "select from note"))
			exec(t, conn, "set local statement_timeout = '50ms'")
			if _, err := simple(t.Context(), conn, end); err != nil {
				exec(t, conn, "rollback")
			}
			refuses(t, conn, pgerr.NoTenant, "select * from note")
		}
		// A savepoint that is rolled back takes back an enter that came after it.
		exec(t, conn, "begin; savepoint s")
		require.NoError(t, p.enter(t.Context(), conn, p.entry(p.tenant)))
		exec(t, conn, "rollback to s")
		refuses(t, conn, pgerr.NoTenant, "select * from note")
		exec(t, conn, "rollback")
		// One implicit transaction: enter and query in one packet.
		pipe := conn.PgConn().StartPipeline(t.Context())
		sealer, err := isolation.NewSealer(p.want.Mode, p.ring, p.want.Stamp)
		require.NoError(t, err)
		pipe.SendQueryParams(isolation.EnterSQL, sealer.Params(p.entry(p.tenant), conn.PgConn().PID(), time.Now()), nil, nil, nil)
		pipe.SendQueryParams("select count(*) from note", nil, nil, nil, nil)
		require.NoError(t, pipe.Sync())
		require.NoError(t, pipe.Close())
		refuses(t, conn, pgerr.NoTenant, "select * from note")
	})
}

// Whoever may take advisory locks can hold another tenant's key, and whoever may write DO blocks can replace what the
// router has prepared. The modes that need no superuser leave both open.
func TestSealedDeniesAdvisoryLocksAndDoBlocksAndEveryModeTemporaryTables(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		for _, sql := range []string{
			"select pg_advisory_lock(1)", "select pg_try_advisory_lock(1)", "select pg_advisory_xact_lock(1, 2)",
			"select pg_try_advisory_xact_lock_shared(1)", "select pg_advisory_lock_shared(1)", "select pg_advisory_unlock_all()",
			"do $$ begin null; end $$",
		} {
			_, err := simple(t.Context(), conn, sql)
			if p.want.Mode == isolation.Sealed {
				requireCode(t, pgerr.InsufficientPrivilege, err, sql)
			} else {
				require.NoError(t, err, sql)
			}
		}
		refuses(t, conn, pgerr.InsufficientPrivilege, "create temp table x (i int)")
		refuses(t, conn, pgerr.InsufficientPrivilege, "create function pg_temp.f() returns int language sql as 'select 1'")
		// What takes over when the application is done works all the same.
		exec(t, conn, strings.Join(isolation.ResetSQL(false), ";"))
		exec(t, p.migrator(t), "do $$ begin perform pg_advisory_xact_lock(1); end $$")
		exec(t, p.admin(t), "select pg_advisory_lock(1)")
	})
}
