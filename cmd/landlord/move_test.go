package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var interrupt = os.Interrupt

// count is the number of rows of a tenant's table.
func (s *shop) count(tenant, table string) (n int) {
	s.t.Helper()
	type rows struct{ N int }
	out := s.ok("tenant", "psql", tenant, "-c", "select 'rows ' || count(*) || ';' from "+table)
	_, out, _ = strings.Cut(out, "rows ")
	out, _, _ = strings.Cut(out, ";")
	return parse[rows](s.t, `{"N":`+out+`}`).N
}

func TestAMoveIsSaidToStandStillAndIsGoneOnWith(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	require.Equal(t, 1, s.run("move", "status", "t-schema").status)
	require.Contains(t, s.ok("move", "list"), "there is none")

	for _, rate := range []string{"1", "31kB", "-1MB", "fast"} {
		require.Equal(t, 2, s.run("move", "start", "t-schema", "--to", "shared", "--max-rate", rate).status, rate)
	}
	m := s.move("start", "t-schema", "--to", "shared", "--wait", "--max-rate", "5MB")
	require.Equal(t, "verified", m.State)
	require.Empty(t, m.Error)
	require.EqualValues(t, 5<<20, m.MaxRate)
	require.Contains(t, s.ok("move", "status", "t-schema"), "5MB a second at most")
	require.Positive(t, m.Rows)
	require.Equal(t, m.Rows, m.OfRows, "which nobody has changed since")
	require.Contains(t, s.ok("move", "status", "t-schema"), "of about")
	require.Equal(t, "moving", s.tenant("t-schema").State)
	m = s.move("status", "t-schema")
	require.False(t, m.Driven)
	require.NotNil(t, m.Live)
	require.Len(t, parse[[]moveOutput](t, s.ok("move", "list", "--json")), 1)
	r := s.run("doctor", "--json")
	require.Equal(t, 4, r.status)
	found := parse[doctorOutput](t, r.stdout)
	require.Empty(t, found.Residue)
	require.Len(t, found.Findings, 1)
	require.Contains(t, found.Findings[0].Fix, "landlord move resume t-schema")

	require.Equal(t, 2, s.run("move", "resume", "t-schema", "--max-rate", "1").status)
	require.EqualValues(t, 1<<20, s.move("resume", "t-schema", "--max-rate", "1MB", "--wait").MaxRate)
	require.EqualValues(t, 1<<20, s.move("resume", "t-schema", "--wait").MaxRate)
	require.Zero(t, s.move("resume", "t-schema", "--max-rate", "0", "--wait").MaxRate)

	require.Equal(t, 1, s.run("move", "start", "t-schema", "--to", "database").status, "it is being moved")
	require.Equal(t, 1, s.run("move", "rollback", "t-schema").status, "it is not cut over")
	r = s.run("move", "complete", "t-schema", "--yes")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord move cutover t-schema")
	require.Equal(t, "verified", s.move("cutover", "t-schema", "--dry-run").State)
	require.Equal(t, "verified", s.move("verify", "t-schema").State)
	require.Equal(t, "reversing", s.move("cutover", "t-schema").State)
	require.Equal(t, "shared", s.tenant("t-schema").Model)
	require.Equal(t, "reversing", s.move("cutover", "t-schema").State, "it is done already")
	require.Equal(t, 2, s.run("move", "complete", "t-schema").status, "not confirmed")
	require.Equal(t, "done", s.move("complete", "t-schema", "--confirm", "t-schema").State)
	require.Equal(t, "done", s.move("complete", "t-schema", "--yes").State, "it is done already")
	require.Equal(t, "active", s.tenant("t-schema").State)
	require.Equal(t, 2, s.count("t-schema", "customers"))
	require.Contains(t, s.ok("move", "list", "--all"), "done")
	require.Contains(t, s.ok("move", "watch", "t-schema"), "done")
	require.Empty(t, parse[doctorOutput](t, s.ok("doctor", "--json")).Residue)
}

func TestAProcessThatMovesDoesWhatIsAskedElsewhere(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	mover := s.command("move", "start", "t-shared", "--to", "schema")
	require.NoError(t, mover.Start())
	s.moveIs("t-shared", "verified")
	r := s.run("move", "resume", "t-shared")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "another process drives the move")
	require.Equal(t, 2, s.run("move", "cutover", "t-shared", "--max-pause", "-1s").status)
	m := s.move("cutover", "t-shared", "--wait", "--max-pause", "2s")
	require.Equal(t, "reversing", m.State)
	require.InDelta(t, 2000, m.MaxPauseMS, 0)
	require.Equal(t, "schema", s.tenant("t-shared").Model)
	m = s.move("rollback", "t-shared", "--max-pause", "3s")
	require.Equal(t, "rollback", m.Asked)
	require.InDelta(t, 3000, m.MaxPauseMS, 0)
	require.NoError(t, mover.Wait(), "the move is over")
	require.Equal(t, "reverted", s.move("status", "t-shared").State)
	require.Equal(t, "shared", s.tenant("t-shared").Model)
	require.Equal(t, 2, s.count("t-shared", "customers"))
}

func TestAMoveIsInterruptedAndAborted(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	mover := s.command("move", "start", "t-database", "--to", "shared")
	require.NoError(t, mover.Start())
	s.moveIs("t-database", "verified")
	require.NoError(t, mover.Process.Signal(interrupt))
	require.Error(t, mover.Wait())
	require.Equal(t, 130, mover.ProcessState.ExitCode())
	require.Equal(t, 2, s.run("move", "abort", "t-database", "--forget-unreachable").status, "not confirmed")
	r := s.run("move", "abort", "t-database", "--forget-unreachable", "--confirm", "t-database")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "the target's server answers")
	require.Equal(t, "aborted", s.move("abort", "t-database").State)
	require.Equal(t, "aborted", s.move("abort", "t-database").State, "it is done already")
	require.Equal(t, "database", s.tenant("t-database").Model)
	require.Empty(t, parse[doctorOutput](t, s.ok("doctor", "--json")).Residue)
}

// moveIs waits until a tenant's move is in a phase.
func (s *shop) moveIs(tenant, phase string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		r := s.run("move", "status", tenant, "--json")
		return r.status == 0 && parse[moveOutput](s.t, r.stdout).State == phase
	}, time.Minute, 50*time.Millisecond, phase)
}

func TestAMoveThatCannotBeIsRefusedWithAllProblems(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	cluster := s.tenant("t-shared").Cluster
	s.ok("dev", "psql", "--cluster", cluster, "--role", "owner", "-c", "alter table customers add column x int")
	other := map[string]string{"a": "b", "b": "a"}[cluster]
	r := s.run("move", "start", "t-shared", "--to", "schema", "--cluster", other, "--dry-run", "--json")
	require.Equal(t, 1, r.status)
	plan := parse[moveProblems](t, r.stdout)
	require.NotEmpty(t, plan.Problems)
	require.NotEmpty(t, plan.Problems[0].Fix)
	r = s.run("move", "start", "t-shared", "--to", "schema", "--cluster", other)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, plan.Problems[0].Fix)
	require.Equal(t, "active", s.tenant("t-shared").State)
	for _, args := range [][]string{
		{"t-shared"},
		{"t-shared", "--to", "table"},
		{"t-shared", "--to", "schema", "--max-wal", "much"},
		{"t-shared", "--to", "schema", "--auto", "--at", "22:00"},
		{"t-shared", "--to", "schema", "--at", "22:00-23:00"},
		{"t-shared", "--to", "schema", "--max-pause", "0s"},
	} {
		require.Equal(t, 2, s.run(append([]string{"move", "start"}, args...)...).status, args)
	}
}

func TestACutoverWaitsForItsWindow(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	now := time.Now()
	later := now.Add(3*time.Hour).Format("15:04") + "-" + now.Add(4*time.Hour).Format("15:04")
	mover := s.command("move", "start", "t-shared", "--to", "schema", "--auto", "--at", later)
	require.NoError(t, mover.Start())
	s.moveIs("t-shared", "verified")
	around := now.Add(-time.Hour).Format("15:04") + "-" + now.Add(2*time.Hour).Format("15:04")
	require.Equal(t, "reversing", s.move("cutover", "t-shared", "--at", around).State)
	require.Equal(t, "done", s.move("complete", "t-shared", "--yes", "--wait").State)
	require.NoError(t, mover.Wait())
}

func TestAClusterIsDrainedByMoves(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	from := s.tenant("t-shared").Cluster
	plan := parse[drainOutput](t, s.ok("cluster", "drain", from, "--dry-run", "--json"))
	require.NotEmpty(t, plan.Residents)
	require.Len(t, plan.Moves, len(plan.Residents))
	require.Equal(t, "active", s.cluster(from).State)
	require.Equal(t, 2, s.run("cluster", "drain", from, "--max-rate", "1kB").status)
	require.Equal(t, 2, s.run("cluster", "drain", from, "--stay", "--max-rate", "1MB").status)
	require.Equal(t, 2, s.run("cluster", "drain", from, "--complete").status)

	s.ok("tenant", "suspend", "neighbour")
	r := s.run("cluster", "drain", from, "--json")
	require.Equal(t, 3, r.status, r.stderr)
	for _, m := range parse[drainOutput](t, r.stdout).Moves {
		if m.Tenant == "neighbour" {
			require.Contains(t, m.Error, "suspended")
			continue
		}
		require.Equal(t, "reversing", m.State, m.Error)
	}
	s.ok("tenant", "resume", "neighbour")
	for _, m := range parse[drainOutput](t, s.ok("cluster", "drain", from, "--complete", "--yes", "--json")).Moves {
		require.Equal(t, "done", m.State, m.Tenant)
	}
	for _, slug := range []string{"t-shared", "t-schema", "t-database", "neighbour"} {
		require.NotEqual(t, from, s.tenant(slug).Cluster, slug)
	}
	require.Empty(t, parse[doctorOutput](t, s.ok("doctor", "--json")).Residue)
	s.ok("cluster", "remove", from)
}

type drainOutput struct {
	State     string
	Residents []placed
	Moves     []struct{ Tenant, To, State, Error string }
}

// moveBecomes waits until a tenant's move is as it is asked to be.
func (s *shop) moveBecomes(tenant string, is func(moveOutput) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		r := s.run("move", "status", tenant, "--json")
		return r.status == 0 && is(parse[moveOutput](s.t, r.stdout))
	}, 2*time.Minute, 50*time.Millisecond)
}

// The first Ctrl-C hands the move over, the second one ends the process where it stands; what it was at is gone on with.
func TestCtrlCTwiceEndsAMoverAtOnceAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	before := s.tenant("t-shared")
	other := map[string]string{"a": "b", "b": "a"}[before.Cluster]
	load := s.work("t-shared")
	mover := s.command("move", "start", "t-shared", "--to", "database", "--cluster", other, "--auto", "--wait")
	require.NoError(t, mover.Start())
	s.moveBecomes("t-shared", func(m moveOutput) bool { return m.State != "planned" })
	require.NoError(t, mover.Process.Signal(interrupt))
	_ = mover.Process.Signal(interrupt) // it may have ended meanwhile
	_ = mover.Wait()
	require.Contains(t, []int{130, -1}, mover.ProcessState.ExitCode(), "it has ended by a signal")

	m := s.move("resume", "t-shared", "--wait")
	require.Equal(t, "reversing", m.State)
	m = s.move("rollback", "t-shared", "--wait")
	require.Equal(t, "reverted", m.State)
	out := load.stop()
	require.Positive(t, out.Acked)
	require.Zero(t, out.Lost+out.Doubled+out.Errors, out.Findings)
	s.isAsBefore(before)
}

// A drain that was interrupted, or killed, goes on with the moves that it has begun.
func TestADrainThatWasCutShortGoesOn(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	from := s.tenant("t-shared").Cluster
	load := s.work("t-shared")
	begun := func() (moves []moveOutput) { return parse[[]moveOutput](t, s.ok("move", "list", "--all", "--json")) }
	for i, end := range []os.Signal{interrupt, os.Kill} {
		drain := s.command("cluster", "drain", from, "--complete", "--yes")
		require.NoError(t, drain.Start())
		require.Eventually(t, func() bool {
			moves := begun()
			return len(moves) > i && slices.ContainsFunc(moves, func(m moveOutput) bool { return m.State != "planned" })
		}, 2*time.Minute, 50*time.Millisecond)
		_ = drain.Process.Signal(end) // it may be through
		_ = drain.Wait()
	}
	for _, m := range parse[drainOutput](t, s.ok("cluster", "drain", from, "--complete", "--yes", "--json")).Moves {
		require.Equal(t, "done", m.State, m.Tenant)
	}
	tenants := map[string]bool{}
	for _, m := range begun() {
		require.Equal(t, "done", m.State, m.Tenant)
		require.False(t, tenants[m.Tenant], "%s was moved twice", m.Tenant)
		tenants[m.Tenant] = true
	}
	require.Empty(t, s.cluster(from).Residents)
	out := load.stop()
	require.Positive(t, out.Acked)
	require.Zero(t, out.Lost+out.Doubled+out.Errors, out.Findings)
	require.Empty(t, parse[doctorOutput](t, s.ok("doctor", "--json")).Residue)
	s.ok("cluster", "remove", from)
}

// A drain takes no old home away that may have what the new one has not.
func TestADrainKeepsTheOldHomeOfATenantWhoseHomesDiffer(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	from := s.tenant("t-shared").Cluster
	mover := s.command("move", "start", "t-shared", "--to", "database", "--cluster", map[string]string{"a": "b", "b": "a"}[from])
	require.NoError(t, mover.Start())
	s.moveIs("t-shared", "verified")
	place := strings.Split(s.move("status", "t-shared").Target.Home, "/")
	s.ok("dev", "psql", "--cluster", place[0], "--database", place[1], "-c",
		"set session_replication_role = replica; delete from "+place[2]+".customers where email = 'b@b'")
	m := s.move("cutover", "t-shared", "--wait")
	require.Equal(t, "reversing", m.State)
	require.Contains(t, m.Error, "after the cutover: ")
	require.NoError(t, mover.Process.Signal(interrupt))
	require.Error(t, mover.Wait())

	r := s.run("cluster", "drain", from, "--complete", "--yes", "--json")
	require.Equal(t, 3, r.status, r.stderr)
	kept := false
	for _, m := range parse[drainOutput](t, r.stdout).Moves {
		if m.Tenant != "t-shared" {
			require.Equal(t, "done", m.State, m.Error)
			continue
		}
		kept = true
		require.Equal(t, "reversing", m.State)
		require.Contains(t, m.Error, "its old home stays: after the cutover: ")
	}
	require.True(t, kept)
	require.Equal(t, "done", s.move("complete", "t-shared", "--confirm", "t-shared").State, "somebody has looked")
}
