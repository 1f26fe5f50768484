package lint_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/lint"
)

// table is the rules as docs/lint.md shows them.
func table() string {
	cell := strings.NewReplacer("\n", "<br>", "|", `\|`)
	var b strings.Builder
	b.WriteString("| Rule | Severity | What is unsafe | Safe form |\n|---|---|---|---|\n")
	for _, r := range lint.Rules() {
		severity := string(r.Severity)
		if r.Refused {
			severity += ", refused"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` |\n", r.Name, severity, cell.Replace(r.Risk),
			strings.ReplaceAll(cell.Replace(r.Safe), "<br>", "`<br>`"))
	}
	return b.String()
}

// LANDLORD_UPDATE=docs writes the table anew.
func TestTheDocumentationListsEveryRule(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/lint.md", "<!-- rules -->\n", "<!-- /rules -->\n"
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
	require.Equal(t, table(), have, "write it anew with: LANDLORD_UPDATE=docs go test -run Documentation ./migrate/lint")
}
