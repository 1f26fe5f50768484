package rehearsal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/rehearsal"
)

// Rules of the linter's which say that a table is rewritten or read from end to end.
var (
	rewriting = []string{"add-column-rewrite", "change-type-rewrite", "table-rewrite", "truncate", "traced-rewrite"}
	scanning  = []string{
		"add-check", "add-column-check", "add-column-references", "add-column-unique", "add-foreign-key", "add-unique", "attach-without-check",
		"change-type-checked", "index-not-concurrent", "reindex-not-concurrent", "set-not-null", "validate-in-same-transaction", "traced-scan",
	}
)

// otherwise are fixtures of which the server knows more than the text.
var otherwise = map[string]string{
	"add-column-references/bad_1.sql": "a new column is null everywhere, so that no rows are compared; both tables are locked all the same",
	"attach-without-check/good_1.sql": "the partition has no index to match the parent's key, so that one is built",
	"traced-rewrite/good_2.sql":       "it is waived",
	"traced-scan/good_2.sql":          "it is waived",
}

func TestTheRulesOfTheTextSayWhatAServerDoes(t *testing.T) {
	t.Parallel()
	const dir = "../lint/testdata/"
	base, err := os.ReadFile(dir + "base.sql")
	require.NoError(t, err)
	set, err := migrate.Load(fstest.MapFS{"00001_base.sql": {Data: base}})
	require.NoError(t, err)
	files := make(map[string]migrate.Migration)
	expected := make(map[string]bool) // whether the evidence is a rewrite
	for i, rules := range [][]string{rewriting, scanning} {
		for _, rule := range rules {
			paths, err := filepath.Glob(dir + rule + "/*.sql")
			require.NoError(t, err)
			require.NotEmpty(t, paths)
			for _, p := range paths {
				text, err := os.ReadFile(p)
				require.NoError(t, err)
				set, err := migrate.Load(fstest.MapFS{"00001_base.sql": {Data: base}, "00002_x.sql": {Data: text}})
				require.NoError(t, err)
				if m := set.Migrations()[1]; !m.NoTransaction {
					name := strings.TrimPrefix(p, dir)
					files[name], expected[name] = m, i == 0
				}
			}
		}
	}
	seen, failed, err := rehearsal.Peek(t.Context(), rehearsal.Config{Catalog: newHouse(t).Catalog, Set: set}, "a", files)
	require.NoError(t, err)
	require.Greater(t, len(seen)-len(failed), 40, "%v", failed)
	for name := range files {
		if failed[name] != nil || otherwise[name] != "" {
			continue // it needs what this server or the base has not
		}
		var rewritten, scanned []string
		for _, s := range seen[name] {
			rewritten, scanned = append(rewritten, s.Rewritten...), append(scanned, s.Scanned...)
		}
		switch bad := strings.Contains(name, "/bad"); {
		case !bad:
			require.Empty(t, append(rewritten, scanned...), name)
		case expected[name]:
			require.NotEmpty(t, rewritten, name)
		default:
			require.NotEmpty(t, append(scanned, rewritten...), name)
		}
	}
}
