package main_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExitStatusTellsWrongUsageFromFailure(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for line, want := range map[string]int{
		"":                                    0,
		"version":                             0,
		"dev":                                 0,
		"help dev up":                         0,
		"completion bash":                     0,
		"nonsense":                            2,
		"dev nonsense":                        2,
		"dev up nonsense":                     2,
		"dev up --nonsense":                   2,
		"version --log-level loud":            2,
		"dev psql --role nobody":              1, // there is no configuration: it is not looked at any further
		"dev psql --tenant a --cluster b":     2,
		"dev psql --tenant Not_A_Slug":        2,
		"dev psql":                            1,
		"dev psql --config /no/such/file.yml": 1,
	} {
		r := s.run(strings.Fields(line)...)
		require.Equal(t, want, r.status, "landlord %s: %s", line, r.stderr)
		if want != 0 {
			require.Empty(t, r.stdout, "results are for those who asked right")
			require.True(t, strings.HasPrefix(r.stderr, "landlord: "), r.stderr)
			require.Equal(t, want == 2, strings.Contains(r.stderr, "--help' for usage"), r.stderr)
		}
	}
}

func TestVersionSaysWhatWasBuilt(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	v := parse[map[string]string](t, s.ok("version", "--json"))
	require.Contains(t, v["go"], "go1.")
	require.NotEmpty(t, v["version"])
	require.Contains(t, s.ok("version"), "landlord "+v["version"])
}

func TestEveryCommandShowsAnExample(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, line := range []string{"", "version", "dev up", "dev down", "dev status", "dev psql"} {
		require.Contains(t, s.ok(append(strings.Fields(line), "--help")...), "Examples:\n  landlord", "landlord %s", line)
	}
}
