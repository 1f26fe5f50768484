package mistake_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"
	"golang.org/x/tools/go/analysis/passes/inspect"

	"github.com/landlord-go/landlord/cmd/landlordvet/mistake"
)

// all runs every analyzer, so that one package can hold the mistakes of all and each line says what is found there.
var all = &analysis.Analyzer{
	Name: "all", Doc: "run all analyzers", Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		for _, a := range mistake.Analyzers() {
			if _, err := a.Run(pass); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
}

func TestEveryMistakeIsFoundAndNothingElse(t *testing.T) {
	t.Parallel()
	module, err := filepath.Abs("../../..") // the fixtures use the real router
	require.NoError(t, err)
	for _, folder := range []string{"bad", "good"} {
		results := analysistest.Run(t, module, all, "./cmd/landlordvet/testdata/"+folder)
		require.Len(t, results, 1)
	}
}

func TestAnalyzersFitGoVet(t *testing.T) {
	t.Parallel()
	require.NoError(t, analysis.Validate(mistake.Analyzers()))
	require.Len(t, mistake.Analyzers(), 6)
}
