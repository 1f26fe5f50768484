package main_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

type watchLine struct {
	runOutput
	NextWave string `json:"next_wave"`
	Waves    []struct {
		Wave, Targets, Verified int
		Clusters                []struct {
			Cluster           string
			Targets, Verified int
		}
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 2*time.Minute, 100*time.Millisecond, what)
}

func TestARunIsWatchedFromElsewhereAndHasAHistory(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	r := s.run("migrate", "watch")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "there is no run")
	require.Equal(t, "there is no run\n", s.ok("migrate", "history"))

	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	var g errgroup.Group
	g.Go(func() error {
		out, err := s.command("migrate", "up", "--tenant", "t-schema", "--soak", "4s").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	eventually(t, "the first wave is done", func() bool {
		r := s.run("migrate", "status", "--json")
		return r.status == 3 && parse[watchLine](t, r.stdout).NextWave != ""
	})
	// Who watches may leave.
	r = s.onTerminal(func(p *os.Process) { require.NoError(t, p.Signal(syscall.SIGINT)) }, "migrate", "watch")
	require.Equal(t, 130, r.status)
	require.Contains(t, r.stderr, "the watching ends, not the run")
	require.Contains(t, r.stderr, "wave 1 is done, and soaks for another")

	r = s.run("migrate", "watch", "--json")
	require.Zero(t, r.status, r.stderr)
	require.NoError(t, g.Wait())
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Greater(t, len(lines), 1)
	for i, text := range lines {
		line := parse[watchLine](t, text)
		require.Len(t, line.Waves, 2)
		if i < len(lines)-1 {
			require.Equal(t, "running", line.State)
			require.NotContains(t, text, "failures")
			continue
		}
		require.Equal(t, "done", line.State)
		require.Contains(t, text, `"failures":[]`)
		require.Equal(t, 3, line.Waves[1].Clusters[0].Verified+line.Waves[1].Clusters[1].Verified)
	}
	s.ok("migrate", "watch")

	// What failed is told in full, with what leads on.
	s.inside("t-schema", "insert into customers (email, name) values ('c@b', 'twin'), ('d@b', 'twin')")
	s.write(".landlord/migrations/00005_unique.sql", "-- +goose Up\nalter table customers add unique (tenant_id, name);\n")
	require.Equal(t, 3, s.run("migrate", "up").status)
	require.Equal(t, 3, s.run("migrate", "watch").status)
	home := s.tenant("t-schema").Home
	r = s.run("migrate", "status", "--failures")
	require.Equal(t, 3, r.status)
	require.Contains(t, r.stdout, "1 failed with 23505\n  00005_unique.sql: ERROR: could not create unique index")
	require.Contains(t, r.stdout, "then: landlord migrate retry "+home)
	require.Contains(t, r.stdout, "\n    "+home+"\n")

	history := parse[[]struct {
		Run, Failed, Verified int
		State                 string
		Seconds               float64
	}](t, s.ok("migrate", "history", "--json"))
	require.Len(t, history, 2)
	require.Equal(t, "failed", history[0].State)
	require.Equal(t, 1, history[0].Failed)
	require.Greater(t, history[1].Seconds, 4.0)
	require.Regexp(t, `2 +failed +expand +5 +4 +3 +1 +0 `, s.ok("migrate", "history", "--limit", "1"))
	require.Contains(t, s.ok("migrate", "history", "1"), "run 1 is done")
	require.Contains(t, s.ok("migrate", "history", "2"), "23505")
	require.Equal(t, 1, s.run("migrate", "history", "3").status)
	require.Equal(t, 2, s.run("migrate", "history", "x").status)
	require.Equal(t, 2, s.run("migrate", "history", "--limit", "0").status)
}

func TestAHealthCommandDecidesWhetherTheNextWaveBegins(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	for _, args := range [][]string{{"--soak", "-1s"}, {"--soak", "soon"}, {"--health", " "}} {
		require.Equal(t, 2, s.run(append([]string{"migrate", "up"}, args...)...).status, "%v", args)
	}
	ill := `seq 1 99; echo "run $LANDLORD_RUN, wave $LANDLORD_WAVE" >&2; exit 7`
	r := s.run("migrate", "up", "--tenant", "t-schema", "--health", ill, "--json")
	require.Equal(t, 3, r.status, r.stderr)
	require.Contains(t, r.stderr, "landlord migrate resume --health")
	out := parse[struct{ State, Why string }](t, r.stdout)
	require.Equal(t, "halted", out.State)
	require.Equal(t, "health check failed: exit status 7: 96; 97; 98; 99; run 1, wave 1", out.Why)
	require.Equal(t, 1, s.columns("note", "t-schema", "t-database", "t-shared"))

	r = s.run("migrate", "resume")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "--health none")

	// Ctrl-C ends the command with all that it has started, and says nothing of the fleet's health.
	cmd := s.command("migrate", "resume", "--health", "echo $$ > pid; sleep 1000 & sleep 1000")
	require.NoError(t, cmd.Start())
	var pid int
	eventually(t, "the command is asked", func() bool {
		text, err := os.ReadFile(s.dir + "/pid")
		_, scanErr := fmt.Sscan(string(text), &pid)
		return err == nil && scanErr == nil
	})
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	eventually(t, "its processes are gone", func() bool { return errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) })
	require.Equal(t, "running", parse[runOutput](t, s.run("migrate", "status", "--json").stdout).State)
	runs := s.ok("dev", "psql", "--database", "landlord", "-c", "select * from landlord.runs")
	require.Contains(t, runs, "running")
	require.NotContains(t, runs, "sleep 1000", "commands are stored nowhere")

	require.Contains(t, s.ok("migrate", "resume", "--health", "true"), "run 1 is done")
	require.Equal(t, 3, s.columns("note", "t-schema", "t-database", "t-shared"))
}
