package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/cmd/landlordvet/mistake"
)

func TestGoVetRunsIt(t *testing.T) {
	t.Parallel()
	tool := filepath.Join(t.TempDir(), "landlordvet")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", tool, ".").CombinedOutput()
	require.NoError(t, err, string(out))

	out, err = exec.CommandContext(t.Context(), "go", "vet", "-vettool="+tool, "./testdata/bad").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "goes around the router")
	out, err = exec.CommandContext(t.Context(), "go", "vet", "-vettool="+tool, "./testdata/good").CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestTheDocumentationListsEveryAnalyzer(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/landlordvet.md")
	require.NoError(t, err)
	for _, a := range mistake.Analyzers() {
		require.Contains(t, string(text), "| `"+a.Name+"` |")
	}
}
