package main_test

import (
	"bytes"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moveOutput is a move as the program prints it, in part.
type moveOutput struct {
	ID, Tenant, State, Asked, Error string
	Source, Target                  struct{ Model, Home string }
	PauseMS                         float64 `json:"pause_ms"`
	Driven                          bool
	Rows, Changes                   int64
	OfRows                          int64   `json:"of_rows"`
	MaxPauseMS                      float64 `json:"max_pause_ms"`
	MaxRate                         int64   `json:"max_rate"`
	Live                            *struct{ WAL int64 }
}

type moveProblems struct {
	Problems []struct{ Code, Object, Fix string }
	Estimate struct{ Rows int64 }
}

// move runs a command about a move that succeeds.
func (s *shop) move(args ...string) moveOutput {
	s.t.Helper()
	return parse[moveOutput](s.t, s.ok(append([]string{"move"}, append(args, "--json")...)...))
}

// working is a load at work. Stop ends it and returns what it has found.
type working struct {
	s              *shop
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func (s *shop) work(tenant string) *working {
	s.t.Helper()
	w := &working{s: s, cmd: s.command("dev", "load", "--tenant", tenant, "--writers", "4", "--for", "1h", "--json")}
	w.cmd.Stdout, w.cmd.Stderr = &w.stdout, &w.stderr
	require.NoError(s.t, w.cmd.Start())
	s.t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	require.Eventually(s.t, func() bool {
		return s.count(tenant, "order_lines") > 20
	}, time.Minute, 50*time.Millisecond, "at work")
	return w
}

func (w *working) stop() loadOutput {
	w.s.t.Helper()
	require.NoError(w.s.t, w.cmd.Process.Signal(interrupt))
	require.Error(w.s.t, w.cmd.Wait())
	require.Equal(w.s.t, 130, w.cmd.ProcessState.ExitCode(), "%s%s", w.stdout.String(), w.stderr.String())
	return parse[loadOutput](w.s.t, w.stdout.String())
}

// TestMoveFromOutside takes a tenant to another model and server and back, while it is worked for.
func TestMoveFromOutside(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	before := s.tenant("t-shared")
	other := map[string]string{"a": "b", "b": "a"}[before.Cluster]
	plan := parse[moveProblems](t, s.ok("move", "start", "t-shared", "--to", "database", "--cluster", other, "--dry-run", "--json"))
	require.Empty(t, plan.Problems)
	require.NotNil(t, plan.Problems)
	require.Positive(t, plan.Estimate.Rows)

	load := s.work("t-shared")
	m := s.move("start", "t-shared", "--to", "database", "--cluster", other, "--auto", "--wait")
	require.Equal(t, "reversing", m.State)
	require.Positive(t, m.PauseMS)
	require.Less(t, m.PauseMS, 500.0)
	require.Positive(t, m.Rows)
	require.False(t, m.Driven)
	there := s.tenant("t-shared")
	require.Equal(t, "database", there.Model)
	require.Equal(t, other, there.Cluster)
	require.Contains(t, s.ok("move", "status", "t-shared"), "landlord move complete t-shared")

	m = s.move("rollback", "t-shared", "--wait")
	require.Equal(t, "reverted", m.State)
	out := load.stop()
	require.Positive(t, out.Acked)
	require.Zero(t, out.Lost+out.Doubled+out.Errors+out.Unknown, out.Findings)
	s.isAsBefore(before)
}

// TestAKilledMoverIsResumedFromOutside kills the process that moves a tenant at several moments, while the tenant is worked for.
func TestAKilledMoverIsResumedFromOutside(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	before := s.tenant("t-shared")
	other := map[string]string{"a": "b", "b": "a"}[before.Cluster]
	load := s.work("t-shared")
	for i, phases := range [][]string{
		{"preparing"},
		{"copying", "following"},
		{"verified", "fencing", "committed", "reversing"},
	} {
		mover := []string{"move", "resume", "t-shared"}
		if i == 0 {
			mover = []string{"move", "start", "t-shared", "--to", "database", "--cluster", other, "--auto"}
		}
		killed := s.command(mover...)
		require.NoError(t, killed.Start())
		require.Eventually(t, func() bool {
			r := s.run("move", "status", "t-shared", "--json")
			return r.status == 0 && slices.Contains(phases, parse[moveOutput](t, r.stdout).State)
		}, time.Minute, 20*time.Millisecond, phases)
		require.NoError(t, killed.Process.Kill())
		require.Error(t, killed.Wait())
	}
	m := s.move("resume", "t-shared", "--wait")
	require.Equal(t, "reversing", m.State)
	m = s.move("rollback", "t-shared", "--wait")
	require.Equal(t, "reverted", m.State)
	out := load.stop()
	require.Positive(t, out.Acked)
	require.Zero(t, out.Lost+out.Doubled+out.Errors, out.Findings)
	s.isAsBefore(before)
}

// isAsBefore asserts that a tenant is at home, that its new home is gone, and that no move has left anything.
func (s *shop) isAsBefore(before tenantOutput) {
	s.t.Helper()
	now := s.tenant(before.Slug)
	require.Equal(s.t, before.Home, now.Home)
	require.Equal(s.t, before.Model, now.Model)
	require.Equal(s.t, "active", now.State)
	require.Greater(s.t, now.Epoch, before.Epoch)
	found := parse[doctorOutput](s.t, s.ok("doctor", "--json"))
	require.Empty(s.t, found.Residue)
	require.NotNil(s.t, found.Residue)
	require.Empty(s.t, found.Findings)
}
