package placement_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestWorkersClaimTheirShareAndNoLessThanIsWorthIt(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, Actor: "tester", MaxConns: 1, Retry: 300 * time.Millisecond, Timeout: 300 * time.Millisecond})
	targets := make([]placement.RunTarget, 6)
	for i := range targets {
		targets[i] = placement.RunTarget{
			Home: placement.Home{Cluster: "a", Database: "app", Schema: fmt.Sprintf("t_%d", i)}, Scope: "tenant", Wave: 1,
		}
	}
	run, _, err := c.BeginRun(t.Context(), placement.Run{Files: "x", State: placement.RunRunning, Waves: 1}, targets)
	require.NoError(t, err)
	claim := func(worker string, limit, least int) ([]placement.RunTarget, error) {
		return c.ClaimTargets(t.Context(), placement.Claim{
			Run: run.ID, Cluster: "a", Worker: worker, Limit: limit, Share: 2, Least: least, TTL: time.Hour,
		})
	}

	// Whoever has locked the run is not waited for without end, and the catalog can be asked again.
	locker := connect(t, dsn)
	exec(t, locker, "begin")
	exec(t, locker, "select from landlord.runs for update")
	_, err = claim("one", 50, 0)
	require.ErrorIs(t, err, placement.ErrBusy)
	exec(t, locker, "rollback")

	half, err := claim("one", 50, 0)
	require.NoError(t, err)
	require.Len(t, half, 3, "of six")
	two, err := claim("two", 50, 2)
	require.NoError(t, err)
	require.Len(t, two, 2, "a share of three would be one")
	rest, err := claim("three", 1, 50)
	require.NoError(t, err)
	require.Len(t, rest, 1, "no more than the limit")
	none, err := claim("four", 50, 0)
	require.NoError(t, err)
	require.Empty(t, none)

	// What is done is recorded of those that a worker holds, and of no others.
	done := func(worker string, targets []placement.RunTarget) {
		results := make([]placement.TargetResult, len(targets))
		for i, target := range targets {
			results[i] = placement.TargetResult{Target: target, State: placement.TargetVerified}
		}
		require.NoError(t, c.FinishTargets(t.Context(), run.ID, worker, time.Minute, results))
	}
	done("one", half)
	done("one", two)
	require.NoError(t, c.RenewTargets(t.Context(), run.ID, "three", -time.Second))
	again, err := claim("four", 50, 0)
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.Equal(t, rest[0].Home, again[0].Home)
	require.Greater(t, again[0].Fence, rest[0].Fence)
	done("three", rest)
	all, err := c.RunTargets(t.Context(), run.ID)
	require.NoError(t, err)
	count := map[placement.TargetState]int{}
	for _, target := range all {
		count[target.State]++
	}
	require.Equal(t, map[placement.TargetState]int{placement.TargetVerified: 3, placement.TargetLeased: 3}, count)
}

func TestARunThatWasAskedForIsRememberedUntilOneBegins(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	_, err := c.AskedRun(t.Context())
	require.ErrorIs(t, err, placement.ErrNoRun)
	for _, files := range []string{"x", "y"} {
		require.NoError(t, c.AskRun(t.Context(), placement.AskedRun{Files: files, Folder: "/srv/" + files, Flags: "{}"}))
	}
	asked, err := c.AskedRun(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), asked.At, time.Minute)
	asked.At = time.Time{}
	require.Equal(t, placement.AskedRun{Files: "y", Folder: "/srv/y", Flags: "{}"}, asked, "the last one")
	require.NoError(t, c.ForgetAskedRun(t.Context()))
	_, err = c.AskedRun(t.Context())
	require.ErrorIs(t, err, placement.ErrNoRun)

	require.NoError(t, c.AskRun(t.Context(), placement.AskedRun{Files: "x"}))
	_, begun, err := c.BeginRun(t.Context(), placement.Run{Files: "x", State: placement.RunRunning, Waves: 1}, nil)
	require.NoError(t, err)
	require.True(t, begun)
	_, err = c.AskedRun(t.Context())
	require.ErrorIs(t, err, placement.ErrNoRun, "a run has begun")
}

// The planner knows nothing of targets that were written a moment ago, and of few what it believes later. Either way, what a worker
// reads of them does not grow with the run.
func TestClaimsReadLittleMoreThanTheyTake(t *testing.T) {
	t.Parallel()
	const n, page = 3000, 50
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("statistics=%t", known), func(t *testing.T) {
			t.Parallel()
			dsn := catalogDSN(t)
			c := open(t, placement.Config{DSN: dsn, Actor: "tester"})
			targets := make([]placement.RunTarget, n)
			for i := range targets {
				targets[i] = placement.RunTarget{
					Home: placement.Home{Cluster: "a", Database: "app", Schema: fmt.Sprintf("t_%d", i)}, Scope: "tenant", Wave: 1 + i/(n/2),
				}
			}
			run, _, err := c.BeginRun(t.Context(), placement.Run{Files: "x", State: placement.RunRunning, Waves: 2}, targets)
			require.NoError(t, err)
			conn := connect(t, dsn)
			if known {
				exec(t, conn, "analyze landlord.run_targets")
			} else {
				exec(t, conn, "delete from pg_statistic where starelid = 'landlord.run_targets'::regclass")
			}
			for done := 0; done < n; {
				claimed, err := c.ClaimTargets(t.Context(), placement.Claim{
					Run: run.ID, Cluster: "a", Database: "app", Worker: "one", Limit: page, Share: 2, TTL: time.Hour,
				})
				require.NoError(t, err)
				if len(claimed) == 0 {
					_, _, err := c.AdvanceRun(t.Context(), run.ID, true)
					require.NoError(t, err)
					continue
				}
				results := make([]placement.TargetResult, len(claimed))
				for i, target := range claimed {
					results[i] = placement.TargetResult{Target: target, State: placement.TargetVerified}
				}
				require.NoError(t, c.FinishTargets(t.Context(), run.ID, "one", time.Minute, results))
				done += len(claimed)
			}
			c.Close() // which has its sessions tell what they have read
			const query = `
select idx_tup_fetch + seq_tup_read from pg_stat_user_tables where relid = 'landlord.run_targets'::regclass`
			var read int
			require.Eventually(t, func() bool {
				require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&read))
				return read >= n
			}, time.Minute, 100*time.Millisecond)
			require.Less(t, read, 60*n, "%d of each target", read/n)
			t.Logf("%d targets, each read %d times", n, read/n)
		})
	}
}

func TestAHomeThatGoesMeanwhileHaltsNoRun(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	var targets []placement.RunTarget
	for _, slug := range []string{"goes", "gone", "stays"} {
		p := place(t, c, placement.Request{Slug: tenant.Slug(slug), Model: placement.ModelSchema, Cluster: "a"})
		require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
		targets = append(targets, placement.RunTarget{Home: p.Home, Tenant: p.Tenant.String(), Scope: "tenant", Wave: 1})
		if slug == "stays" {
			continue
		}
		require.NoError(t, c.ScheduleRemoval(t.Context(), p.Tenant, 0))
		if slug == "gone" {
			require.NoError(t, c.DeleteTenant(t.Context(), p.Tenant))
		}
	}
	run, _, err := c.BeginRun(t.Context(), placement.Run{Files: "x", State: placement.RunRunning, Waves: 1, Canary: true}, targets)
	require.NoError(t, err)
	claimed, err := c.ClaimTargets(t.Context(), placement.Claim{Run: run.ID, Cluster: "a", Worker: "w", Limit: 9, Share: 1, TTL: time.Hour})
	require.NoError(t, err)
	require.Len(t, claimed, len(targets))
	for _, want := range []struct {
		homes []placement.RunTarget
		state placement.RunState
	}{{targets[:2], placement.RunRunning}, {targets[2:], placement.RunHalted}} {
		var results []placement.TargetResult
		for _, target := range claimed {
			if slices.ContainsFunc(want.homes, func(h placement.RunTarget) bool { return h.Home == target.Home }) {
				results = append(results, placement.TargetResult{Target: target, State: placement.TargetFailed, SQLState: "3F000", Error: "no schema"})
			}
		}
		require.Len(t, results, len(want.homes))
		require.NoError(t, c.FinishTargets(t.Context(), run.ID, "w", time.Minute, results))
		run, err = c.RunByID(t.Context(), run.ID)
		require.NoError(t, err)
		require.Equal(t, want.state, run.State)
	}
}
