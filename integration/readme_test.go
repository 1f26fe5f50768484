package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheExamplesOfThePagesCompile(t *testing.T) {
	t.Parallel()
	for page, shown := range map[string]string{"README.md": "serve", "docs/observability.md": "observed"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			compile(t, page, shown)
		})
	}
}

// compile vets the first Go example of a page, which is a file without main that declares the function shown.
func compile(t *testing.T, page, shown string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), page))
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, example, "%s has no Go example", page)

	dir, err := os.MkdirTemp(filepath.Join(root(), "integration"), "page-") // inside the module, to import it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, append(example[1], "\nfunc main() { _ = "+shown+" }\n"...), 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "vet", file)
	cmd.Dir = root()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
