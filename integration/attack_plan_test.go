package integration_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

// Plans that outlive what they were made under. Rights and policies are changed while a session holds prepared statements that have
// been run, and the thief runs them again. A change that opens the table must be seen to open it; once it is taken back, the plans that
// were made meanwhile must be closed again. In this no mode differs from another: plans are PostgreSQL's.

// planChanges open table note and close it again, in the words of {role} and {schema}.
var planChanges = []struct {
	name, open, shut string
	// stale is the vulnerability by which a server's plans stay open after shut, as long as the session lives.
	stale string
}{
	{name: "the role passes policies by", open: "alter role {role} bypassrls", shut: "alter role {role} nobypassrls", stale: "CVE-2026-14666"},
	{
		name: "policies say something else",
		open: "alter policy landlord_allow on {schema}.note using (true); alter policy landlord_fence on {schema}.note using (true)",
		shut: "call landlord.secure('{schema}')",
	},
	{
		name: "the policies are gone",
		open: "drop policy landlord_fence on {schema}.note; alter policy landlord_allow on {schema}.note using (true)",
		shut: "call landlord.secure('{schema}')",
	},
	{name: "row-level security is off", open: "alter table {schema}.note disable row level security", shut: "alter table {schema}.note enable row level security"},
}

func TestNoPlanOutlivesAnOpenedTable(t *testing.T) {
	t.Parallel()
	for _, mode := range everyMode {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, testhouse.Options{Mode: mode})
			super := s.superuser(t)
			known, _ := audit.Vulnerabilities(s.server)
			for _, plans := range []string{"auto", "force_generic_plan", "force_custom_plan"} {
				for _, c := range planChanges {
					thief, change := s.prober(t, super)
					const prepare, use = "deallocate all; prepare p as select body from note; prepare v as select body from note_view", "execute p; execute v"
					run(t, thief, "set plan_cache_mode = "+plans+"; "+prepare)
					look := func(times int) (seen string) {
						for range times {
							s.begin(t, thief, s.own())
							seen += run(t, thief, use+"; commit")
						}
						require.Contains(t, seen, "own row")
						return seen
					}
					// Six times, after which auto may keep one plan for all tenants.
					require.NotContains(t, look(6), canary, "%s, %s", c.name, plans)
					change(c.open)
					run(t, thief, prepare)
					require.Contains(t, look(6), canary, "%s, %s: nothing was opened", c.name, plans)
					change(c.shut)
					seen := strings.Contains(look(6), canary)
					stale := slices.ContainsFunc(known, func(v audit.Vulnerability) bool { return v.CVE == c.stale })
					if seen != stale {
						t.Errorf("mode %s, %s, %s: plans are said to stay open: %v. It is not so", mode, c.name, plans, stale)
					}
					// What is prepared later is closed, whatever the server.
					run(t, thief, prepare)
					require.NotContains(t, look(6), canary, "%s, %s", c.name, plans)
					require.Error(t, say(t, thief, use).err, "without a tenant")
					require.NoError(t, thief.Close(context.Background()))
				}
			}
			s.requireUntouched(t)
		})
	}
}

// prober connects as a role of this test's alone that may do what the application may, and returns what changes its rights.
func (s *scene) prober(t *testing.T, super *pgx.Conn) (conn *pgx.Conn, change func(sql string)) {
	t.Helper()
	role := "prober_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	names := strings.NewReplacer("{role}", role, "{schema}", placement.SharedSchema)
	change = func(sql string) {
		t.Helper()
		_, err := super.Exec(t.Context(), names.Replace(sql))
		require.NoError(t, err, sql)
	}
	change("create role {role} login password 'prober' in role " + isolation.AppRole)
	t.Cleanup(func() { s.SuperExec(t, "postgres", "drop role "+role) })
	cfg := super.Config().Copy()
	cfg.User, cfg.Password = role, "prober"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	return conn, change
}
