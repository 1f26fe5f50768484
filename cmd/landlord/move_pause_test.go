package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A pause that nobody can keep is undone, as often as it is tried: the tenant works on at its home, the command says why it lives there
// yet, and with a longer pause it succeeds.
func TestACutoverThatCannotKeepItsPauseIsUndoneAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	require.Equal(t, "verified", s.move("start", "t-shared", "--to", "schema", "--wait").State)
	const why = "the tenant's writers would have waited for longer than 1ms"
	r := s.run("move", "cutover", "t-shared", "--max-pause", "1ms")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "given up after")
	require.Contains(t, r.stderr, why)
	m := s.move("status", "t-shared")
	require.Equal(t, "verified", m.State)
	require.InDelta(t, 1, m.MaxPauseMS, 0)
	require.Contains(t, m.Error, why)
	require.Equal(t, "shared", s.tenant("t-shared").Model)
	s.inside("t-shared", "insert into customers (email, name) values ('late@b', 'late')")

	m = s.move("cutover", "t-shared", "--max-pause", "5s")
	require.Equal(t, "reversing", m.State)
	require.InDelta(t, 5000, m.MaxPauseMS, 0)
	require.Less(t, m.PauseMS, 5000.0)
	require.Equal(t, "schema", s.tenant("t-shared").Model)
	require.Equal(t, 3, s.count("t-shared", "customers"))
}
