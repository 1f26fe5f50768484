package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// runOutput is what the commands of a run print.
type runOutput struct {
	Run                       int
	State                     string
	Pending, Leased, Verified int
}

// start starts the program and returns it.
func (s site) start(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *strings.Builder) {
	t.Helper()
	cmd = exec.Command(s.bin, args...)
	cmd.Dir = s.dir
	stderr = &strings.Builder{}
	cmd.Stderr = stderr
	require.NoError(t, cmd.Start())
	return cmd, stderr
}

// status is that of the last run; zero while there is none.
func (s site) status(t *testing.T) (out runOutput) {
	t.Helper()
	stdout, _, _ := s.run("migrate", "status", "--json")
	if stdout != "" {
		require.NoError(t, json.Unmarshal([]byte(stdout), &out))
	}
	return out
}

// applied counts the version rows of a version, and how many homes are among them.
func (s site) applied(t *testing.T, cluster string, version int) (rows, homes int) {
	t.Helper()
	out := s.must(t, "dev", "psql", "--cluster", cluster, "-c",
		fmt.Sprintf("select 'rows', count(*), count(distinct schema) from landlord.schema_version where version = %d", version))
	counts := regexp.MustCompile(`rows[ |]+(\d+)[ |]+(\d+)`).FindStringSubmatch(out)
	require.Len(t, counts, 3, out)
	_, err := fmt.Sscan(counts[1]+" "+counts[2], &rows, &homes)
	require.NoError(t, err)
	return rows, homes
}

// lock keeps the migrations of a tenant's home from it, until what it returns is closed. The tenant has a schema of its own.
func (s site) lock(t *testing.T, slug string) *pgx.Conn {
	t.Helper()
	var lives struct{ Home string }
	require.NoError(t, json.Unmarshal([]byte(s.must(t, "tenant", "show", slug, "--json")), &lives))
	home := strings.Split(lives.Home, "/") // cluster/database/schema
	require.Len(t, home, 3)
	dsn, err := os.ReadFile(filepath.Join(s.dir, ".landlord", "secrets", home[0]+".operator.dsn"))
	require.NoError(t, err)
	cfg, err := pgx.ParseConfig(strings.TrimSpace(string(dsn)))
	require.NoError(t, err)
	cfg.Database = home[1]
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	_, err = conn.Exec(t.Context(), "begin; lock table "+pgx.Identifier{home[2], "customers"}.Sanitize()+" in access share mode")
	require.NoError(t, err)
	return conn
}

func TestAMigrationThatIsKilledAgainAndAgainEndsWithEveryVersionOnce(t *testing.T) {
	t.Parallel()
	const crowd = 24
	s := newSite(t)
	for i := range crowd {
		s.must(t, "tenant", "add", fmt.Sprintf("tenant-%02d", i), "--model", "schema")
	}
	slow := "-- +goose Up\nalter table customers add column note text;\nselect pg_sleep(0.4);\n"
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, ".landlord", "migrations", "00004_note.sql"), []byte(slow), 0o600))

	// The run cannot come to its end before it is interrupted: one home, not the first, is locked until then.
	locked := s.lock(t, "tenant-01")
	for i := range 2 {
		args := [][]string{{"migrate", "up", "--tenant", "tenant-00"}, {"migrate", "resume"}}[i]
		cmd, _ := s.start(t, args...)
		require.Eventually(t, func() bool {
			out := s.status(t)
			return out.State == "running" && out.Leased > 0 && out.Verified > 4*i
		}, time.Minute, 20*time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		require.Equal(t, "running", s.status(t).State, "nobody has ended it")
	}

	before := s.status(t)
	cmd, stderr := s.start(t, "migrate", "resume")
	require.Eventually(t, func() bool {
		verified := s.status(t).Verified
		return verified > before.Verified || verified == crowd+1 // all but the locked one
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	require.NoError(t, locked.Close(t.Context()))
	require.Contains(t, stderr.String(), "landlord migrate resume")
	require.LessOrEqual(t, s.status(t).Leased, before.Leased, "what was in hand is finished, the rest given back; the dead hold theirs")

	var out runOutput
	require.NoError(t, json.Unmarshal([]byte(s.must(t, "migrate", "resume", "--json")), &out))
	require.Equal(t, "done", out.State)
	require.Equal(t, crowd+2, out.Verified, "every schema, and both shared homes")
	total := 0
	for _, cluster := range []string{"a", "b"} {
		rows, homes := s.applied(t, cluster, 4)
		require.Equal(t, homes, rows)
		total += homes
	}
	require.Equal(t, crowd+2, total)
	require.Contains(t, s.must(t, "migrate", "plan"), "26 homes are up to date\n")
}

func TestAMigrationThatStoodStillDoesNothingMoreAfterALaterRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 12 {
		s.must(t, "tenant", "add", fmt.Sprintf("tenant-%02d", i), "--model", "schema", "--cluster", "a")
	}
	file := filepath.Join(s.dir, ".landlord", "migrations", "00004_note.sql")
	slow := "-- +goose Up\nalter table customers add column note text;\nselect pg_sleep(0.3);\n-- +goose Down\nalter table customers drop column note;\n"
	require.NoError(t, os.WriteFile(file, []byte(slow), 0o600))
	locked := s.lock(t, "tenant-11") // the run cannot end before it is stopped
	cmd, stderr := s.start(t, "migrate", "up")
	require.Eventually(t, func() bool {
		out := s.status(t)
		return out.State == "running" && out.Leased > 0 && out.Verified > 2
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, locked.Close(t.Context()))

	require.Eventually(t, func() bool {
		out, _, _ := s.run("migrate", "status")
		return strings.Contains(out, "no process is at work on it: landlord migrate resume")
	}, time.Minute, 500*time.Millisecond)

	// When its leases have lapsed, another run takes everything back.
	require.Eventually(t, func() bool {
		_, _, status := s.run("migrate", "down", "--to", "3", "--yes")
		return status == 0
	}, time.Minute, 500*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.Error(t, cmd.Wait())
	require.Contains(t, stderr.String(), "abandoned")
	rows, _ := s.applied(t, "a", 4)
	require.Zero(t, rows)
}
