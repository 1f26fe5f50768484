package integration_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
)

// Attacks on the tenant that comes next on the same connection: whatever a transaction can leave behind in its session. Between the two
// stands what the router sends in front of every transaction.

// leaves succeeds when the victim's transaction finds what the thief's has left: look, run by the victim, returns a row. Where left is
// refused there is nothing to find.
func leaves(name, left, look string, through ...isolation.Mode) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		var locks bool
		require.NoError(t, conn.QueryRow(t.Context(), "select has_function_privilege('pg_advisory_unlock_all()', 'execute')").Scan(&locks))
		s.begin(t, conn, s.own())
		say(t, conn, s.write(left))
		switch conn.PgConn().TxStatus() {
		case 'T':
			run(t, conn, "commit")
		case 'E':
			run(t, conn, "rollback")
		}
		if !s.careless {
			run(t, conn, strings.Join(isolation.ResetSQL(locks), ";"))
		}
		s.begin(t, conn, s.other())
		found := say(t, conn, s.write(look))
		require.NotEqual(t, byte('I'), conn.PgConn().TxStatus())
		return found.err == nil && found.rows != ""
	}}
}

var sessionAttacks = []attack{
	leaves("leave a setting", "set application.note = 'left'", "select 1 where current_setting('application.note', true) = 'left'"),
	leaves("leave a search_path", "set search_path = pg_catalog", "select 1 where current_setting('search_path') = 'pg_catalog'"),
	leaves("leave a time-out", "set statement_timeout = '12345s'", "select 1 where current_setting('statement_timeout') = '12345s'"),
	leaves("leave read-only transactions", "set default_transaction_read_only = on",
		"select 1 where current_setting('default_transaction_read_only') = 'on'"),
	leaves("leave another isolation level", "set default_transaction_isolation = 'serializable'",
		"select 1 where current_setting('default_transaction_isolation') = 'serializable'"),
	leaves("leave row security off", "set row_security = off", "select 1 where current_setting('row_security') = 'off'"),
	leaves("leave a role", "set role landlord_app", "select 1 where current_setting('role') <> 'none'"),
	leaves("leave the setting that holds the tenant", "set landlord.tenant = '{own}'; set landlord.token = '{own}'",
		"select 1 where current_setting('landlord.tenant', true) = '{own}'"),
	leaves("leave a cursor", "declare c cursor with hold for select body from note", "fetch c"),
	leaves("leave a listener", "listen c", "select pg_listening_channels()"),
	leaves("leave a table that shadows a real one", "create temp table note (tenant_id text, body text); insert into note values ('x', 'planted')",
		"select body from note where body = 'planted'"),
	leaves("leave an advisory lock", "select pg_advisory_lock(8247)", "select 1 from pg_locks where locktype = 'advisory' and objid = 8247"),
	leaves("leave a sequence's last value", "select nextval('ticket')", "select lastval()"),
	// DEALLOCATE and PREPARE cannot be taken from anybody, and a reset that made an end of all statements would cost what they are
	// prepared for. The router sends neither, and the page says what a function must not do.
	leaves("replace a prepared statement", "prepare lrp as select 'planted'", "execute lrp", everyMode...),
	{name: "use a plan that was made for another tenant", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		run(t, conn, "set plan_cache_mode = force_generic_plan; prepare p as select body from note")
		s.begin(t, conn, s.other())
		require.Contains(t, run(t, conn, "execute p; commit"), canary)
		s.begin(t, conn, s.own())
		seen := run(t, conn, "execute p; commit")
		require.Contains(t, seen, "own row")
		return strings.Contains(seen, canary) || say(t, conn, "execute p").err == nil
	}},
	{name: "use a plan that was made under another role", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.superuser(t)
		defer conn.Close(context.Background())
		run(t, conn, `set session authorization landlord_migrator; set plan_cache_mode = force_generic_plan;
			prepare p as select body from note; prepare v as table note_view`)
		require.Contains(t, run(t, conn, "execute p; execute v"), canary)
		run(t, conn, "set session authorization landlord_app")
		s.begin(t, conn, s.own())
		seen := run(t, conn, "execute p; execute v; commit")
		require.Contains(t, seen, "own row")
		return strings.Contains(seen, canary) || say(t, conn, "execute p").err == nil
	}},
}
