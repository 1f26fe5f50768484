package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type hardenOutput struct {
	Undo     bool
	DryRun   bool `json:"dry_run"`
	Measures []struct{ Cluster, Database, Measure, State, Why, Error string }
}

func TestHardenSaysWhatBecameOfEachMeasure(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	states := func(args ...string) map[string]int {
		t.Helper()
		count := map[string]int{}
		for _, m := range parse[hardenOutput](t, s.ok(append([]string{"harden", "--json"}, args...)...)).Measures {
			require.NotEmpty(t, m.Why)
			count[m.Database+" "+m.State]++
		}
		return count
	}
	s.ok("harden", "--undo") // tests run hardened
	require.Equal(t, "nothing to change\n", s.ok("harden", "--undo"))
	before := states("--dry-run")
	require.Equal(t, before, states("--dry-run"), "looking changes nothing")
	require.Contains(t, s.ok("harden"), "activity")
	after := states()
	for state := range after {
		require.NotContains(t, state, "done")
		require.NotContains(t, state, "would")
	}

	// A dedicated database that is made later follows.
	s.ok("tenant", "add", "late", "--model", "database")
	for state := range states("--dry-run") {
		require.NotContains(t, state, "would")
	}
}
