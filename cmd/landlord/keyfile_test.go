package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALostKeyFileIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	keys := read(t, s, keyFile)
	require.NoError(t, os.Remove(filepath.Join(s.dir, keyFile)))
	for _, args := range [][]string{{"init"}, {"init", "--dry-run"}} {
		r := s.run(args...)
		require.Equal(t, 1, r.status)
		require.Contains(t, r.stderr, "bring the file back")
		require.Contains(t, r.stderr, "2:$(openssl rand -hex 32)")
		require.NoFileExists(t, filepath.Join(s.dir, keyFile))
	}
	// Another keyring with the same number is not taken for it.
	s.write(keyFile, "1:"+strings.Repeat("0a", 32)+"\n")
	r := s.run("init")
	require.Equal(t, 3, r.status)
	for _, cluster := range []string{"a", "b"} {
		require.Contains(t, r.stderr, "set up cluster "+cluster+": install landlord's objects: add seal key 1")
	}
	// A higher number is, and doctor tells of the one that nobody has.
	s.write(keyFile, "2:"+strings.Repeat("0a", 32)+"\n")
	s.ok("init")
	require.Contains(t, s.run("doctor").stdout, "it accepts seal key 1, which is not in ")
	s.write(keyFile, keys)
	require.Contains(t, s.run("doctor").stdout, "it accepts seal key 2, which is not in ")
	require.Zero(t, parse[initOutput](t, s.ok("init", "--json")).Changed)
}
