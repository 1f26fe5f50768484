package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// site is a folder with local servers, made by the real program.
type site struct {
	dir string
	bin string
}

func newSite(t *testing.T) site {
	t.Helper()
	s := site{dir: t.TempDir(), bin: landlord(t)}
	t.Cleanup(func() {
		_, errOut, status := s.run("dev", "down", "--purge")
		require.Zero(t, status, "%s", errOut)
	})
	s.must(t, "dev", "up")
	s.must(t, "init")
	return s
}

// run runs the program and returns what it printed and its exit status.
func (s site) run(args ...string) (stdout, stderr string, status int) {
	cmd := exec.Command(s.bin, args...)
	cmd.Dir = s.dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	_ = cmd.Run()
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func (s site) must(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, status := s.run(args...)
	require.Zero(t, status, "landlord %s: %s", strings.Join(args, " "), errOut)
	return out
}

func TestTwoHundredProcessesAddTenantsAtOnceAndNoneGoesOverCapacity(t *testing.T) {
	t.Parallel()
	const crowd = 200
	s := newSite(t)
	s.must(t, "cluster", "set", "a", "--capacity", "120")
	s.must(t, "cluster", "set", "b", "--capacity", "80")

	var wg sync.WaitGroup
	failed := make([]string, crowd)
	for i := range crowd {
		wg.Go(func() {
			if _, errOut, status := s.run("tenant", "add", fmt.Sprintf("tenant-%03d", i), "--model", "shared"); status != 0 {
				failed[i] = errOut
			}
		})
	}
	wg.Wait()
	for _, f := range failed {
		require.Empty(t, f)
	}

	var list struct {
		Tenants []struct {
			Slug, State, Cluster string
			Epoch                int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(s.must(t, "tenant", "list", "--json")), &list))
	require.Len(t, list.Tenants, crowd)
	at := map[string]int{}
	for _, p := range list.Tenants {
		require.Equal(t, "active", p.State, p.Slug)
		require.Equal(t, 1, p.Epoch, p.Slug)
		at[p.Cluster]++
	}
	require.Equal(t, map[string]int{"a": 120, "b": 80}, at)

	_, errOut, status := s.run("tenant", "add", "one-too-many", "--model", "shared")
	require.Equal(t, 1, status)
	require.Contains(t, errOut, "no cluster can take the tenant")
	require.NotContains(t, s.must(t, "tenant", "list"), "one-too-many")
	s.must(t, "doctor")
}

func TestDemoEndsWellAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(landlord(t), "demo", "--json")
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "TMPDIR="+dir)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "%s", errOut.String())
	var result struct {
		Traffic []struct {
			Model               string
			Transactions, Reads int
		}
		Attempts []struct {
			Model   string
			Crossed bool
		}
		Migration struct{ Homes, Migrated, Calls, Failed int }
	}
	require.NoError(t, json.Unmarshal(out, &result))
	models := map[string]bool{}
	for _, tr := range result.Traffic {
		models[tr.Model] = true
		require.Positive(t, tr.Transactions)
	}
	require.Len(t, models, 3)
	require.Equal(t, 7, result.Migration.Homes, "two shared ones, three schemas, two databases")
	require.Equal(t, 7, result.Migration.Migrated)
	require.Positive(t, result.Migration.Calls)
	require.Zero(t, result.Migration.Failed)
	require.GreaterOrEqual(t, len(result.Attempts), 15)
	for _, a := range result.Attempts {
		require.False(t, a.Crossed)
	}
	left, err := exec.Command("sh", "-c", "ls -A "+dir).Output()
	require.NoError(t, err)
	require.Empty(t, string(left))
}
