package audit_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation/audit"
)

// table is the rules as docs/audit.md shows them.
func table() string {
	var b strings.Builder
	b.WriteString("| Rule | Severity | Risk | `--fix` |\n|---|---|---|---|\n")
	for _, r := range audit.Rules() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Name, r.Severity, r.Risk, r.Mends)
	}
	return b.String()
}

// LANDLORD_UPDATE=docs writes the table anew.
func TestTheDocumentationListsEveryRule(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/audit.md", "<!-- rules -->\n", "<!-- /rules -->\n"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if os.Getenv("LANDLORD_UPDATE") == "docs" {
		require.NoError(t, os.WriteFile(file, []byte(before+begin+table()+end+after), 0o644))
		return
	}
	require.Equal(t, table(), have, "write it anew with: LANDLORD_UPDATE=docs go test -run Documentation ./isolation/audit")
}
