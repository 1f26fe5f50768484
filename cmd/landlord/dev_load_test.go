package main_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// loadOutput is what `dev load --json` prints, in part.
type loadOutput struct {
	Acked, Reads, Lost, Doubled, Errors, Unknown int64
	LongestGapMS                                 float64 `json:"longest_gap_ms"`
	Findings                                     []string
	Tenants                                      []struct {
		Tenant, Home string
		Acked        int64
	}
}

func TestLoadWorksForEveryTenantAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	plan := parse[[]placed](t, s.ok("dev", "load", "--dry-run", "--json"))
	require.Len(t, plan, 4)
	const written = "select count(*) from customers where email like 'load-%'"
	require.Regexp(t, `(?m)^ *0$`, s.ok("tenant", "psql", "t-shared", "-c", written))

	out := parse[loadOutput](t, s.ok("dev", "load", "--for", "1s", "--writers", "2", "--json"))
	require.Len(t, out.Tenants, 4)
	for _, tenant := range out.Tenants {
		require.Positive(t, tenant.Acked, tenant.Tenant)
	}
	require.Positive(t, out.LongestGapMS)
	require.Zero(t, out.Lost+out.Doubled+out.Errors+out.Unknown, out.Findings)
	require.NotRegexp(t, `(?m)^ *0$`, s.ok("tenant", "psql", "t-shared", "-c", written))

	require.Equal(t, 2, s.run("dev", "load", "--isolation", "none").status)
	r := s.run("dev", "load", "--tenant", "nobody")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord tenant list")
}

func TestLoadThatIsInterruptedStillCompares(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	cmd := s.command("dev", "load", "--tenant", "t-schema", "--for", "1h", "--json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		return strings.Contains(s.ok("tenant", "psql", "t-schema", "-c", "select 'at work' from order_lines limit 1"), "at work")
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode(), stderr.String())
	out := parse[loadOutput](t, stdout.String())
	require.Positive(t, out.Acked)
	require.Zero(t, out.Lost+out.Doubled+out.Errors, out.Findings)
}
