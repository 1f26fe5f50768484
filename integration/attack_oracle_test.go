package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Attacks that read no row, but learn from what a session is told whether another tenant has one; and what all sessions of a login have
// in common.

// tells succeeds when the answer to SQL about a value that the victim has differs from that about one which nobody has. The values are
// as long as one another, and are taken out of the answers.
func tells(name, sql, has, hasNot string, through ...isolation.Mode) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		ask := func(value string) string {
			value = s.write(value)
			said := s.inside(t, strings.ReplaceAll(sql, "{value}", value)).String()
			return strings.ReplaceAll(said, value, "{value}")
		}
		one, other := ask(has), ask(hasNot)
		if one != other {
			t.Logf("%s: %s, and: %s", name, one, other)
		}
		return one != other
	}}
}

const nobodys = "Row of the victim" // as long as the canary

var oracleAttacks = []attack{
	tells("ask by a unique key", "insert into note (body) values ('{value} 1') returning body", canary, nobodys),
	tells("ask by a unique key and on conflict", "insert into note (body) values ('{value} 1') on conflict do nothing returning body", canary, nobodys),
	// Such a key is the application's decision; the audit warns of it.
	tells("ask by a unique key without tenant_id", "insert into coupon (code) values ('coupon of {value}-shared') returning code",
		"victim", "nobody", everyMode...),
	tells("ask by a foreign key", "insert into link (note_id) select {value} + coalesce(max(id), 0) from note", "1", "9"),
	tells("ask by counting what is changed", "update note set body = body where body = '{value} 1'", canary, nobodys),
	tells("ask by an error", "insert into note (tenant_id, body) values ('{tenant}', '{value} 1')", canary, nobodys),
	tells("ask by an error in a filter", "select body from note where body = '{value} 1' and 1 / (length(body) - length(body)) = 0", canary, nobodys),
	tells("ask by a pattern", "select count(*) from note where body like '{value}%'", canary, nobodys),
	tells("ask the statistics", "select count(*) from pg_stats where tablename like 'event%' and most_common_vals::text like '%{value}%'",
		canary, nobodys),
	tells("ask the planner", "explain select * from event where body = '{value}'", canary, nobodys, everyMode...),
	tells("ask the planner about another's schema home", "explain select * from {other schema}.event where body = '{value}'",
		canary, nobodys, everyMode...),
	// How much others have, as it stands in the catalog and in the numbers that one draws from the same sequence.
	{name: "ask how many rows there are", through: everyMode, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		return s.inside(t, "select reltuples::int from pg_class where oid = 'event_0'::regclass").rows == fmt.Sprintf("%d\n", crowd+1)
	}},
	{name: "ask how much others insert", through: everyMode, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		draw := func(conn string) string {
			return s.inside(t, "insert into note (body) values ('"+conn+"') returning id").rows
		}
		one, super := draw("one"), s.superuser(t)
		defer super.Close(context.Background())
		run(t, super, "begin; insert into note (tenant_id, body) values ('"+s.other().Tenant+"', 'x'); rollback")
		var a, b int
		_, err := fmt.Sscan(one+draw("two"), &a, &b)
		require.NoError(t, err)
		return b != a+1
	}},
	{name: "list the tenants' names", through: everyMode, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		id := s.victim[placement.ModelSchema].Tenant.String()
		return strings.Contains(s.inside(t, "select obj_description(oid, 'pg_namespace') from pg_namespace").rows, id)
	}},
}

var resourceAttacks = []attack{
	{name: "hold another tenant's lock", through: unowned, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		return s.inside(t, "select pg_advisory_xact_lock(hashtextextended('{tenant}@{home}', 1))").err == nil
	}},
	{name: "take another tenant's lock to oneself for ever", through: unowned, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		return s.inside(t, "select pg_advisory_lock(hashtextextended('{tenant}@{home}', 1))").err == nil
	}},
	{name: "read another tenant's large object", through: unowned, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other())
		made := say(t, conn, "select lo_from_bytea(0, '"+canary+"')")
		if made.err != nil {
			return false
		}
		id := strings.TrimSpace(made.rows)
		run(t, conn, "commit")
		defer func() {
			s.begin(t, conn, s.other())
			run(t, conn, "select lo_unlink("+id+"); commit")
		}()
		return strings.Contains(s.inside(t, "select convert_from(lo_get("+id+"), 'UTF8')").rows, canary)
	}},
	{name: "end another tenant's session", through: unowned, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other())
		return s.inside(t, fmt.Sprintf("select pg_terminate_backend(%d)", conn.PgConn().PID())).err == nil
	}},
	{name: "read another session's SQL", through: everyMode, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other())
		run(t, conn, "select 'the victim''s own'")
		return strings.Contains(s.inside(t, "select query from pg_stat_activity where pid <> pg_backend_pid()").rows, "the victim''s own")
	}},
	{name: "read what was prepared on the connection", through: everyMode, hardened: true, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other())
		run(t, conn, "prepare p as select 'the victim''s own'; commit")
		s.begin(t, conn, s.own())
		return strings.Contains(say(t, conn, "select statement from pg_prepared_statements").rows, "the victim''s own")
	}},
	{name: "hear another tenant's notifications", through: everyMode, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		thief, victim := s.app(t), s.app(t)
		defer thief.Close(context.Background())
		defer victim.Close(context.Background())
		run(t, thief, "listen c")
		s.begin(t, victim, s.other())
		run(t, victim, "notify c, '"+canary+"'; commit")
		heard, err := thief.WaitForNotification(t.Context())
		require.NoError(t, err)
		return heard.Payload == canary
	}},
}
