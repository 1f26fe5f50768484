package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "landlord-cli-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "landlord")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build landlord: %w\n%s", err, out)
	}
	defer func() { err = errors.Join(err, removeNewServers()) }()
	return m.Run(), nil
}

// shop is a folder in which landlord is run.
type shop struct {
	t   *testing.T
	dir string
	env []string
}

// newShop makes a folder that every user can enter, in memory where there is room: a server's account reaches the servers in it, and
// nothing waits for a disk.
func newShop(t *testing.T) *shop {
	t.Helper()
	dir, err := os.MkdirTemp(pgtest.Scratch(), "landlord-shop-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return &shop{t: t, dir: dir}
}

type result struct {
	status         int
	stdout, stderr string
}

func (s *shop) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = s.dir
	// What is configured around the tests is not part of them.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "LANDLORD_") && !strings.HasPrefix(kv, pglocal.BinEnv+"=") &&
			!strings.HasPrefix(kv, pglocal.BouncerEnv+"=")
	})
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

func (s *shop) run(args ...string) result {
	s.t.Helper()
	cmd := s.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		_, exited := errors.AsType[*exec.ExitError](err)
		require.True(s.t, exited, "run landlord: %v", err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command that succeeds and returns its results.
func (s *shop) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	require.Zero(s.t, r.status, "landlord %s: %s", strings.Join(args, " "), r.stderr)
	return r.stdout
}

func (s *shop) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
}

func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}
