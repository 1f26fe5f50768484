package lint_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/lint"
)

// rows knows two tables of testdata/base.sql.
func rows(table string) (int64, bool) {
	switch table {
	case "tiny":
		return 100, true
	case "orders":
		return 10_000_000, true
	}
	return 0, false
}

// traced is what a file of testdata was seen to do on a copy, as package rehearsal's tests have written it down; nil: nobody looked.
func traced(t *testing.T, file string) map[string][]lint.Traced {
	t.Helper()
	dir, name := filepath.Split(file)
	text, err := os.ReadFile(dir + "traced_" + strings.TrimSuffix(name, ".sql") + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var seen []lint.Traced
	require.NoError(t, json.Unmarshal(text, &seen))
	return map[string][]lint.Traced{"00002_x.sql": seen}
}

// fixture is what Check finds in a file of testdata that follows base.sql.
func fixture(t *testing.T, file string) []lint.Finding {
	t.Helper()
	base, err := os.ReadFile("testdata/base.sql")
	require.NoError(t, err)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	findings, err := lint.Check(fstest.MapFS{
		"00001_base.sql":               {Data: base},
		"00002_x" + filepath.Ext(file): {Data: text},
	}, lint.Options{Rows: rows, Traced: traced(t, file)})
	require.NoError(t, err)
	for _, f := range findings {
		require.NotEqual(t, "00001_base.sql", f.File, "%+v", f)
	}
	return findings
}

func TestEveryRuleFindsItsBadFilesAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, r := range lint.Rules() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			bad, err := filepath.Glob(path.Join("testdata", r.Name, "bad*"))
			require.NoError(t, err)
			require.NotEmpty(t, bad)
			for _, file := range bad {
				found := map[string]bool{}
				for _, f := range fixture(t, file) {
					found[f.Rule] = true
					require.NotEmpty(t, f.Risk)
					require.NotEmpty(t, f.Safe)
					require.NotRegexp(t, `[^$]\{[a-z]`, f.Risk+f.Safe, file)
				}
				require.Equal(t, map[string]bool{r.Name: true}, found, file)
			}
			good, err := filepath.Glob(path.Join("testdata", r.Name, "good*"))
			require.NoError(t, err)
			require.NotEmpty(t, good)
			for _, file := range good {
				for _, f := range fixture(t, file) {
					require.True(t, f.Waived, "%s: %+v", file, f)
				}
			}
		})
	}
}

// unsafe is every known way in which a change of a schema hurts, and the rules that find it. A form without a rule is safe, and
// testdata/safe shows it.
var unsafe = map[string][]string{
	"DDL that waits for locks without a time-out":                 {"sets-lock-timeout"},
	"another statement behind one that keeps everybody out":       {"after-exclusive-lock"},
	"ADD COLUMN, nullable or with a steady default":               nil,
	"ADD COLUMN that rewrites":                                    {"add-column-rewrite"},
	"ADD COLUMN with CHECK":                                       {"add-column-check"},
	"ADD COLUMN with REFERENCES":                                  {"add-column-references"},
	"ADD COLUMN with UNIQUE or PRIMARY KEY":                       {"add-column-unique"},
	"ADD COLUMN NOT NULL without a default":                       {"add-column-not-null"},
	"ALTER TYPE that rewrites":                                    {"change-type-rewrite"},
	"ALTER TYPE of a column with a CHECK":                         {"change-type-checked"},
	"SET NOT NULL":                                                {"set-not-null"},
	"ADD CHECK":                                                   {"add-check", "validate-in-same-transaction"},
	"ADD FOREIGN KEY":                                             {"add-foreign-key", "validate-in-same-transaction"},
	"dropping a foreign key, or the table that has it":            {"drop-foreign-key"},
	"a foreign key without an index":                              {"foreign-key-without-index"},
	"ADD UNIQUE or PRIMARY KEY":                                   {"add-unique"},
	"PRIMARY KEY USING INDEX over nullable columns":               {"primary-key-nullable"},
	"ADD EXCLUDE":                                                 {"add-exclude"},
	"CREATE INDEX":                                                {"index-not-concurrent", "concurrently-on-small-table"},
	"DROP INDEX, REINDEX":                                         {"drop-index-not-concurrent", "reindex-not-concurrent"},
	"CONCURRENTLY in a transaction":                               {"concurrently-in-transaction"},
	"CONCURRENTLY without a clean-up":                             {"concurrent-index-unnamed", "concurrent-index-if-not-exists"},
	"DROP and RENAME of what the application uses":                {"drop-column", "drop-table", "drop-not-null", "rename", "drop-object"},
	"TRUNCATE, DROP DATABASE, DROP SCHEMA":                        {"truncate", "drop-schema-or-database"},
	"UPDATE, DELETE, INSERT ... SELECT without a bound":           {"unbounded-write"},
	"backfills that cannot be run in batches":                     {"not-batchable"},
	"enum values used at once, or without a position":             {"enum-value-used", "enum-value-position"},
	"columns of type json":                                        {"json-column"},
	"domains with constraints":                                    {"domain-constraint"},
	"DETACH and ATTACH PARTITION":                                 {"detach-not-concurrent", "attach-without-check"},
	"SET LOGGED, CLUSTER, VACUUM FULL, SET TABLESPACE":            {"table-rewrite"},
	"triggers, policies, row-level security on":                   nil,
	"policies that are changed":                                   {"alters-policy"},
	"grants where no policy looks":                                {"grant-past-policies"},
	"several ALTERs where one will do":                            {"combine-alters"},
	"files without a transaction that cannot be resumed":          {"not-resumable"},
	"BEGIN, COMMIT, ROLLBACK":                                     {"transaction-control"},
	"long names, 32-bit keys, times without a zone, char(n)":      {"identifier-too-long", "small-key", "timestamp-without-time-zone", "char-type"},
	"F1 fixed names of schemas":                                   {"fixed-schema"},
	"F2 look-ups in catalogs that show all homes":                 {"unbound-catalog-lookup"},
	"F3 search path, role and other settings of the session":      {"changes-search-path", "changes-role", "session-setting"},
	"F4 what is there once on a server":                           {"cluster-wide"},
	"F5 what is there once in a database":                         {"database-wide"},
	"F6 functions and views with their owner's rights":            {"security-definer-path", "fixed-function-path", "view-without-security-invoker"},
	"F7 shared tables without tenant, policy or keys to match":    {"table-unclassed", "key-without-tenant", "row-security-off"},
	"F8 names from clocks, chance and environments":               {"names-from-clock", "environment-variables"},
	"F9 contract statements in other phases":                      {"drop-column", "drop-table", "drop-not-null", "rename", "drop-object"},
	"F10 migrations in Go":                                        {"go-migration"},
	"what is not a migration at all, or waits for a client":       {"unreadable-file", "copy-from-client"},
	"waivers that waive nothing, or something else than intended": {"unknown-waiver", "unused-waiver"},
	"what a statement does and does not say":                      {"traced-rewrite", "traced-scan", "traced-lock", "traced-elsewhere"},
}

func TestEveryKnownWayToHurtHasARuleAndEveryRuleAWay(t *testing.T) {
	t.Parallel()
	var known []string
	for _, r := range lint.Rules() {
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, r.Name)
		require.NotContains(t, known, r.Name)
		known = append(known, r.Name)
	}
	used := map[string]bool{}
	for way, rules := range unsafe {
		for _, r := range rules {
			require.Contains(t, known, r, way)
			used[r] = true
		}
	}
	for _, r := range known {
		require.True(t, used[r], r)
	}
	dirs, err := os.ReadDir("testdata")
	require.NoError(t, err)
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "safe" && d.Name() != "unsafe" {
			require.Contains(t, known, d.Name(), "fixtures of a rule that does not exist")
		}
	}
}

func TestWhatIsSafeIsNotFound(t *testing.T) {
	t.Parallel()
	good, err := filepath.Glob("testdata/safe/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, good)
	for _, file := range good {
		require.Empty(t, fixture(t, file), file)
	}
}
