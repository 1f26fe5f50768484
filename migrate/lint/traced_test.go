package lint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/lint"
)

// all is a statement that was seen to do everything to orders.
func all(statement int) lint.Traced {
	tables := []string{"orders"}
	return lint.Traced{Statement: statement, Rewritten: tables, Scanned: tables, Locked: tables, Elsewhere: []string{"schema audit"}}
}

// seen is what was seen of the first file.
func seen(statements ...lint.Traced) lint.Options {
	return lint.Options{Traced: map[string][]lint.Traced{"00001_x.sql": statements}}
}

func TestWhatWasSeenStandsAtItsStatement(t *testing.T) {
	t.Parallel()
	fsys := set("-- +goose Up\nselect 1;\n-- +goose StatementBegin\ndo $$\nbegin\n  perform f();\nend $$;\n-- +goose StatementEnd\nselect g();\n")
	findings := check(t, fsys, seen(all(1), lint.Traced{Statement: 2, Locked: []string{"customers"}}))
	require.Equal(t, []string{"1:4 traced-rewrite", "1:4 traced-scan", "1:4 traced-elsewhere", "1:9 traced-lock"}, at(findings))
	require.Contains(t, findings[0].Risk, "orders")
	require.Contains(t, findings[0].Excerpt, "do $$")
	require.Contains(t, findings[2].Risk, "schema audit")
	require.Contains(t, findings[3].Risk, "locked customers against everybody while it still had orders")
	require.Empty(t, check(t, fsys, seen(all(7))), "seen of another text")
	require.Empty(t, check(t, fsys, lint.Options{}))
}

func TestWhatTheTextShowsIsNotRepeated(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"alter table orders add column a uuid default gen_random_uuid();": {"1:2 add-column-rewrite", "1:2 traced-elsewhere"},
		"create index i on orders (tenant_id);":                           {"1:2 index-not-concurrent", "1:2 traced-rewrite", "1:2 traced-elsewhere"},
		"-- +goose StatementBegin\ndo $$\nbegin\n  update orders set a = 1;\nend $$;\n-- +goose StatementEnd": {
			"1:3 traced-rewrite", "1:3 traced-elsewhere", "1:5 unbounded-write",
		},
	} {
		require.Equal(t, want, at(check(t, set("-- +goose Up\n"+sql), seen(all(0)))), sql)
	}
	waived := set("-- landlord: allow=add-column-rewrite it has ten rows\n-- +goose Up\nalter table orders add column a uuid default gen_random_uuid();")
	findings := check(t, waived, seen(lint.Traced{Rewritten: []string{"orders"}}))
	require.Equal(t, []string{"1:3 add-column-rewrite"}, at(findings))
	require.True(t, findings[0].Waived)
}

func TestATracedFindingCanBeWaivedAndASmallTableIsNone(t *testing.T) {
	t.Parallel()
	fsys := set("-- landlord: allow=traced-rewrite done at night\n-- +goose Up\nselect f();\n")
	findings := check(t, fsys, seen(lint.Traced{Rewritten: []string{"orders"}}))
	require.Equal(t, []string{"1:3 traced-rewrite"}, at(findings))
	require.True(t, findings[0].Waived)
	require.Empty(t, check(t, fsys, lint.Options{}), "nobody looked: whether the waiver is needed is not known")
	require.Equal(t, []string{"1:1 unused-waiver"}, at(check(t, fsys, seen())), "somebody looked")

	o := seen(lint.Traced{Rewritten: []string{"orders"}}, lint.Traced{Statement: 1, Scanned: []string{"orders"}})
	o.Rows = func(string) (int64, bool) { return 10, true }
	for _, f := range check(t, set("-- +goose Up\nselect f();\nselect g();\n"), o) {
		require.Equal(t, lint.Info, f.Severity)
		require.False(t, f.Counts())
	}
}
