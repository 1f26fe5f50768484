package main_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var subcommand = regexp.MustCompile(`(?m)^  ([a-z]+) `)

// leaves calls fn with the help of every command that does something.
func leaves(s *shop, path []string, fn func(line, help string)) {
	s.t.Helper()
	help := s.ok(append(path, "--help")...)
	_, list, group := strings.Cut(help, "Available Commands:\n")
	if !group {
		fn(strings.Join(path, " "), help)
		return
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
		if m[1] != "help" && m[1] != "completion" { // cobra's own
			leaves(s, append(slices.Clip(path), m[1]), fn)
		}
	}
}

func TestEveryCommandHasAnExampleAndADryRunWhereItWrites(t *testing.T) {
	t.Parallel()
	reads := regexp.MustCompile(`^(version|demo|bench|dev (status|psql)|.* (list|show|psql|plan|status|lint|drift|watch|history))$`)
	seen := 0
	leaves(newShop(t), nil, func(line, help string) {
		seen++
		require.Contains(t, help, "Examples:\n  landlord", "landlord %s", line)
		require.Contains(t, help, "--json", "landlord %s", line)
		if !reads.MatchString(line) {
			require.Contains(t, help, "--dry-run", "landlord %s", line)
		}
	})
	require.Greater(t, seen, 20)
}
