package fleet_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestOneRunBringsEveryModelToTheNewVersion(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a", "b")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Len(t, plan.Targets, 10, "two shared homes stand for all who live there")
	require.Equal(t, []string{"00004_note.sql"}, plan.Groups[0].Files)

	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, map[placement.TargetState]int{placement.TargetVerified: 10}, s.Counts)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home), p.Slug)
		require.True(t, has(t, h, p.Home, "note"))
	}

	s, err = f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Empty(t, s.Run, "nothing to do: no run")
	require.Equal(t, 10, s.UpToDate)
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}
