package main_test

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// onTerminal runs a command whose stderr is a terminal of 60 columns, and returns what the terminal got. during, if not nil, is
// called once bars are to be seen.
func (s *shop) onTerminal(during func(*os.Process), args ...string) (r result) {
	s.t.Helper()
	master, tty, err := pty.Open()
	require.NoError(s.t, err)
	defer master.Close()
	require.NoError(s.t, pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 60}))
	cmd := s.command(args...)
	cmd.Env = append(cmd.Env, "TERM=xterm", "LC_ALL=C.UTF-8")
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, tty
	require.NoError(s.t, cmd.Start())
	require.NoError(s.t, tty.Close())
	var seen bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, err := master.Read(buf)
		seen.Write(buf[:n])
		if during != nil && strings.Contains(seen.String(), "\x1b[J") {
			during(cmd.Process)
			during = nil
		}
		if err != nil { // the last one who had it open has closed it
			break
		}
	}
	_ = cmd.Wait() // its status is looked at by the caller
	return result{cmd.ProcessState.ExitCode(), stdout.String(), seen.String()}
}

func TestProgressIsBarsOnATerminalAndLinesElsewhere(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\nselect pg_sleep(0.5);\n")
	r := s.onTerminal(nil, "migrate", "up", "--tenant", "t-schema", "--json")
	require.Zero(t, r.status, r.stderr)
	require.Equal(t, "done", parse[runOutput](t, r.stdout).State)
	require.Contains(t, r.stderr, "\x1b[32m█", "in colour")
	require.Contains(t, r.stderr, "\x1b[3Arun 1 ", "in place")
	frames := strings.Split(r.stderr, "\x1b[?25l")
	last := frames[len(frames)-1]
	for _, want := range []string{"run 1 ", "  wave 1 ", "  wave 2 ", "4/4", "run 1 is done"} {
		require.Contains(t, last, want)
	}
	require.NotContains(t, r.stderr, "targets verified")

	s.write(".landlord/migrations/00005_more.sql", "-- +goose Up\nalter table customers add column more text;\nselect pg_sleep(0.5);\n")
	s.env = append(s.env, "NO_COLOR=1")
	r = s.onTerminal(func(p *os.Process) { require.NoError(t, p.Signal(syscall.SIGINT)) }, "migrate", "up")
	require.Equal(t, 130, r.status, r.stderr)
	require.NotContains(t, r.stderr, "\x1b[3")
	require.Contains(t, r.stderr, "landlord migrate resume goes on")
	require.Greater(t, strings.LastIndex(r.stderr, "\x1b[?25h"), strings.LastIndex(r.stderr, "\x1b[?25l"), "the cursor is back")

	plain := s.run("migrate", "resume")
	require.Zero(t, plain.status, plain.stderr)
	require.Contains(t, plain.stderr, "run 2, wave 1 of 1: ")
	require.NotContains(t, plain.stderr, "\x1b")
	require.Contains(t, plain.stdout, "run 2 is done")
}
