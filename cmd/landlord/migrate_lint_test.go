package main_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

type lintOutput struct {
	Dir      string
	Findings []struct {
		File, Rule, Severity, Statement, Risk, Safe, Reason string

		Line   int
		Waived bool
	}
	Count int
}

func TestLintNeedsNoServerAndNoConfiguration(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("../../migrate/lint/testdata/unsafe")
	require.NoError(t, err)
	s := newShop(t)
	r := s.run("migrate", "lint", "--dir", dir, "--json")
	require.Equal(t, 4, r.status)
	require.Empty(t, r.stderr)
	out := parse[lintOutput](t, r.stdout)
	rules := map[string]int{}
	for _, f := range out.Findings {
		rules[f.Rule]++
		require.FileExists(t, f.File)
		require.Positive(t, f.Line)
		require.NotEmpty(t, f.Risk)
		require.NotEmpty(t, f.Safe)
		require.Equal(t, f.Rule == "drop-column", f.Waived)
	}
	require.Equal(t, 2, rules["transaction-control"], "both, not the first alone")
	require.Equal(t, 1, rules["index-not-concurrent"])
	require.Equal(t, 1, rules["unused-waiver"])
	require.Equal(t, 10, out.Count)

	r = s.run("migrate", "lint", "--dir", dir)
	require.Equal(t, 4, r.status)
	require.Contains(t, r.stdout, "00002_everything_at_once.sql:6: error: index-not-concurrent")
	require.Contains(t, r.stdout, "create index concurrently orders_by_note on orders (tenant_id, note);")
	require.Contains(t, r.stdout, "allowed: nothing reads it since spring")
	require.Contains(t, r.stdout, "8 error, 2 warning, 1 info, 1 waived")
}

func TestLintFindsNothingInTheSample(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("sample")
	require.NoError(t, err)
	require.Contains(t, newShop(t).ok("migrate", "lint", "--dir", dir), "nothing found")
}

func TestLintExitsZeroWhereNothingNeedsToBeDone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\nalter table a add b int;\nalter table a add c int;\n")
	require.Contains(t, s.ok("migrate", "lint", "--dir", "m"), "1 info")
	s.write("m/00002_b.sql", "-- landlord: allow=drop-table it was never used\n-- +goose Up\ndrop table b;\n")
	require.Contains(t, s.ok("migrate", "lint", "--dir", "m"), "1 info, 1 waived")
	require.NotNil(t, parse[lintOutput](t, s.ok("migrate", "lint", "--dir", "m", "--rule", "truncate", "--json")).Findings)
}

func TestLintShowsItsRules(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Contains(t, s.ok("migrate", "lint", "--list"), "index-not-concurrent")
	out := parse[struct {
		Rules []struct{ Name, Severity, Risk, Safe string }
	}](t, s.ok("migrate", "lint", "--list", "--json"))
	require.Greater(t, len(out.Rules), 50)
	for _, r := range out.Rules {
		require.NotEmpty(t, r.Safe, r.Name)
	}
}

func TestLintSaysWhatIsWrongWithItsArguments(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\nselect 1;\n")
	s.write("file", "")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--dir", "m", "--rule", "drop-everything"}, 2, "--list"},
		{[]string{"--dir", "m", "extra"}, 2, "extra"},
		{nil, 2, "--dir"},
		{[]string{"--dir", "nowhere"}, 1, "nowhere"},
		{[]string{"--dir", "file"}, 1, "file"},
	} {
		r := s.run(append([]string{"migrate", "lint"}, c.args...)...)
		require.Equal(t, c.status, r.status, "%v: %s", c.args, r.stderr)
		require.Contains(t, r.stderr, c.want)
		require.Empty(t, r.stdout)
	}
}

func TestLintKeepsATerminalFromActingOnSomebodysText(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\n-- landlord: allow=drop-table be\x1b[31mcause\ndrop table \"a\x1b[2J\x07\";\ndrop view \"\u009b2J\";\n")
	r := s.run("migrate", "lint", "--dir", "m")
	require.Equal(t, 4, r.status)
	require.NotContains(t, r.stdout, "\x1b")
	require.NotContains(t, r.stdout, "\x07")
	require.NotContains(t, r.stdout, "\u009b")
}
