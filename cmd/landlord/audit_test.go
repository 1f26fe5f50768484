package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type auditOutput struct {
	Homes, Databases, Errors, Allowed int
	Findings                          []struct {
		Rule, Severity, Database, Object, Risk, Allowed string
		SQL                                             []string
	}
	Unused  []struct{ Rule, Object string }
	Unknown []struct{ Database, Reason string }
}

// audit runs audit and returns what it found that counts, as "rule object".
func (s *shop) audit(status int, args ...string) (out auditOutput, found []string) {
	s.t.Helper()
	r := s.run(append([]string{"audit", "--json"}, args...)...)
	require.Equal(s.t, status, r.status, r.stderr+r.stdout)
	out = parse[auditOutput](s.t, r.stdout)
	for _, f := range out.Findings {
		require.NotEmpty(s.t, f.Risk)
		if f.Allowed == "" && f.Rule != "server-old" { // the tests' server is what it is
			found = append(found, f.Rule+" "+f.Object)
		}
	}
	return out, found
}

func TestAuditFindsAndMendsFromOutside(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	inShared := s.add("in-shared", "shared")
	inSchema := s.add("in-schema", "schema")
	s.add("in-own", "database")
	out, found := s.audit(0)
	require.Empty(t, found)
	require.Equal(t, 4, out.Homes)
	require.Equal(t, 3, out.Databases)

	s.ok("dev", "psql", "--tenant", "in-shared", "--role", "owner", "-c", "alter table orders no force row level security")
	s.sql(inSchema, "grant truncate on "+inSchema.Schema+".orders to landlord_app")
	_, found = s.audit(4)
	require.ElementsMatch(t, []string{"rls-not-forced public.orders", "grant-excess " + inSchema.Schema + ".orders"}, found)
	require.Contains(t, s.run("audit").stdout, "alter table public.orders force row level security;")

	require.Contains(t, s.ok("audit", "--fix", "--dry-run"), "revoke truncate on "+inSchema.Schema+".orders from landlord_app")
	s.audit(4)
	r := s.run("audit", "--fix")
	require.Zero(t, r.status, r.stderr+r.stdout)
	require.Contains(t, r.stderr, "alter table public.orders force row level security;", "it is shown before it runs")
	_, found = s.audit(0)
	require.Empty(t, found)

	// What --fix cannot mend stays an error.
	s.sql(inShared, "create policy everybody on public.orders using (true)")
	_, found = s.audit(4, "--fix", "--yes")
	require.Equal(t, []string{"policy-custom policy everybody on public.orders", "policy-open policy everybody on public.orders"}, found)

	// With a reason it is none; without one the configuration is refused.
	const file = ".landlord/landlord.yaml"
	before := read(t, s, file)
	s.write(file, before+`
audit:
  allow:
    - {rule: policy-custom, object: policy everybody on *, reason: the fence holds}
    - {rule: policy-open, object: policy everybody on public.orders, reason: the fence holds}
    - {rule: publication, object: publication gone, reason: it was there}
`)
	out, found = s.audit(0)
	require.Empty(t, found)
	require.Equal(t, 2, out.Allowed)
	require.Len(t, out.Unused, 1)
	require.Equal(t, "publication gone", out.Unused[0].Object)
	require.Contains(t, s.ok("audit"), "publication at publication gone any more")
	s.write(file, before+"\naudit:\n  allow:\n    - {rule: policy-odd, object: x}\n")
	r = s.run("audit")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, `audit.allow[0]: no such rule: "policy-odd"`)
	require.Contains(t, r.stderr, "audit.allow[0]: reason: say why it is allowed")
	s.write(file, before)
	s.sql(inShared, "drop policy everybody on public.orders")

	// A database that cannot be looked at is no clean one.
	s.write(".landlord/secrets/b.operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")
	out, _ = s.audit(3)
	require.Len(t, out.Unknown, 1)
}

func TestAuditListsItsRules(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Contains(t, s.ok("audit", "--list"), "rls-not-forced")
	require.Equal(t, 2, s.run("audit", "--yes").status)
}
