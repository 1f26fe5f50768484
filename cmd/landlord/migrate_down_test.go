package main_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMigrateDownUndoesExpandStepsWhenItIsToldSoTwice(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	all := []string{"t-shared", "neighbour", "t-schema", "t-database"}
	const note = ".landlord/migrations/00004_note.sql"
	s.write(note, "-- +goose Up\nalter table customers add column note text;\n-- +goose Down\nalter table customers drop column note;\n")
	require.Equal(t, 2, s.run("migrate", "down").status, "to which version?")
	require.Equal(t, 2, s.run("migrate", "down", "--to", "-1").status)
	require.Equal(t, 1, s.run("migrate", "down", "--to", "9", "--yes").status, "there is no such version")
	require.Contains(t, s.ok("migrate", "down", "--to", "3"), "4 homes are not above version 3", "nothing is to be asked about")
	s.ok("migrate", "up")
	require.Equal(t, 4, s.columns("note", all...))

	plan := parse[struct {
		Targets int
		Down    *int64
		Groups  []struct{ Files []string }
	}](t, s.ok("migrate", "down", "--to", "3", "--dry-run", "--json"))
	require.Equal(t, 4, plan.Targets)
	require.EqualValues(t, 3, *plan.Down)
	require.Equal(t, []string{"00004_note.sql"}, plan.Groups[0].Files)

	refused := s.run("migrate", "down", "--to", "3", "--json")
	require.Equal(t, 2, refused.status)
	require.Empty(t, refused.stdout)
	require.NotContains(t, refused.stderr, "would lose", "nobody reads prose there")

	for _, typed := range []string{"", "yes\n", "4\n"} {
		cmd := s.command("migrate", "down", "--to", "3")
		cmd.Stdin = strings.NewReader(typed)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 2, cmd.ProcessState.ExitCode())
		require.Contains(t, string(out), "would lose 00004_note.sql")
	}
	require.Equal(t, 4, s.columns("note", all...))
	cmd := s.command("migrate", "down", "--to", "3")
	cmd.Stdin = strings.NewReader("3\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), ", down to version 3, is done")
	require.Zero(t, s.columns("note", all...))
	require.Contains(t, s.ok("migrate", "status"), "down to version 3")
	require.Equal(t, map[string]int{"behind": 4}, s.drift(0).States)
	require.Contains(t, s.ok("migrate", "plan"), "lack 00004_note.sql")

	s.ok("migrate", "up")
	require.Equal(t, 4, s.columns("note", all...))
	s.inside("t-schema", "select note from customers")
	require.True(t, parse[struct{ Down bool }](t, s.ok("migrate", "down", "--to", "3", "--yes", "--json")).Down)
	require.Zero(t, s.columns("note", all...))

	// What cannot be undone is refused before anything is.
	s.write(note, "-- +goose Up\nalter table customers add column note text;\n")
	s.ok("migrate", "up")
	r := s.run("migrate", "down", "--to", "3", "--yes")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "00004_note.sql cannot be undone: it has no Down section")
	require.Equal(t, 4, s.columns("note", all...))
}

func TestAFolderWithAMigrationInGoSaysWhatRunsIt(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	s.write(".landlord/migrations/00004_split.go", "package migrations\n")
	r := s.run("migrate", "up")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "00004_split.go: a migration in Go is run by a program that brings it along")
	require.Contains(t, r.stderr, "migrate.Load(folder, migrations...)")
	out := parse[lintOutput](t, s.ok("migrate", "lint", "--json"))
	rules := map[string]string{}
	for _, f := range out.Findings {
		rules[f.Rule] = f.Severity
	}
	require.Equal(t, "info", rules["go-migration"])
}
