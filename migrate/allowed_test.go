package migrate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
)

func TestContractFilesAreAllowedSegmentBySegment(t *testing.T) {
	t.Parallel()
	file := func(phase string) string { return "-- landlord: phase=" + phase + "\n-- +goose Up\nselect 1;\n" }
	set, err := migrate.Load(files(
		"1_a.sql", file("expand"), "2_b.sql", file("validate"), "3_c.sql", file("contract"), "4_d.sql", file("contract"),
		"5_e.sql", file("expand"), "6_f.sql", file("contract")))
	require.NoError(t, err)
	for _, c := range []struct {
		contracted    int64
		allowed, next []int64
		needs         int64
	}{
		{0, []int64{1, 2}, []int64{3, 4}, 2},
		{2, []int64{1, 2}, []int64{3, 4}, 2},
		{3, []int64{1, 2, 3}, []int64{4}, 2},
		{4, []int64{1, 2, 3, 4, 5}, []int64{6}, 5},
		{6, []int64{1, 2, 3, 4, 5, 6}, nil, 0},
		{9, []int64{1, 2, 3, 4, 5, 6}, nil, 0},
	} {
		require.Equal(t, c.allowed, set.Allowed(c.contracted).Versions())
		next, needs := set.NextContract(c.contracted)
		var versions []int64
		for _, m := range next {
			versions = append(versions, m.Version)
		}
		require.Equal(t, c.next, versions)
		require.Equal(t, c.needs, needs)
	}
	empty := &migrate.Set{}
	require.Empty(t, empty.Allowed(0).Versions())
	first, err := migrate.Load(files("1_a.sql", file("contract")))
	require.NoError(t, err)
	require.Empty(t, first.Allowed(0).Versions())
	_, needs := first.NextContract(0)
	require.Zero(t, needs)
}
