package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheExampleOfTheReadmeCompiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(root(), "README.md"))
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, example, "README.md has no Go example")

	dir, err := os.MkdirTemp(filepath.Join(root(), "integration"), "readme-") // inside the module, to import it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, append(example[1], "\nfunc main() { _ = serve }\n"...), 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "vet", file)
	cmd.Dir = root()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
