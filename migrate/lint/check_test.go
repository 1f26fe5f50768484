package lint_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/lint"
)

func TestMain(m *testing.M) {
	// The files are read as they are, whatever the variables around the tests are.
	_ = os.Unsetenv("LANDLORD_NOTHING")
	os.Exit(m.Run())
}

// set makes a directory of files from their texts.
func set(texts ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, text := range texts {
		fsys[fmt.Sprintf("%05d_x.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func check(t *testing.T, fsys fs.FS, o lint.Options) []lint.Finding {
	t.Helper()
	findings, err := lint.Check(fsys, o)
	require.NoError(t, err)
	return findings
}

// at shows where findings are: line and rule.
func at(findings []lint.Finding) []string {
	places := []string{}
	for _, f := range findings {
		places = append(places, fmt.Sprintf("%s:%d %s", strings.TrimLeft(f.File[:5], "0"), f.Line, f.Rule))
	}
	return places
}

func TestFindingsStandAtTheLineOfTheirStatement(t *testing.T) {
	t.Parallel()
	const text = `-- landlord: phase=expand

-- +goose NO TRANSACTION
-- +goose Up
-- a comment; with a semicolon
alter table a
    add column b json; drop table c;

  -- indented
create table
    d ();
-- +goose StatementBegin
-- within
do $$
begin
    -- a comment
    create index i on a (b);
end $$;
-- +goose StatementEnd
-- +goose ENVSUB ON
comment on table a is '${HOME}';
-- +goose ENVSUB OFF
drop table e;
-- +goose Down
drop table f;
`
	want := []string{
		"1:6 not-resumable", "1:6 json-column", "1:7 drop-table", "1:10 table-unclassed", "1:17 index-not-concurrent",
		"1:20 environment-variables", "1:23 drop-table",
	}
	require.ElementsMatch(t, want, at(check(t, set(text), lint.Options{})))
	require.ElementsMatch(t, want, at(check(t, set(strings.ReplaceAll(text, "\n", "\r\n")), lint.Options{})), "with the ends of lines of Windows")
}

func TestFilesThatLoadRefusesAreAllFound(t *testing.T) {
	t.Parallel()
	fsys := set(
		"-- +goose Up\nbegin;\nset role a;\n",
		"-- +goose Up\nset search_path = a;\n",
		"-- +goose Up\ncreate table a.b ();\ncopy c from stdin;",
		"select 1;",
		"-- +goose Up\n-- landlord: phase=never\ndrop table a;",
	)
	fsys["00007_gap.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nselect 1;\n")}
	fsys["00008_code.go"] = &fstest.MapFile{Data: []byte("package migrations")}
	fsys["orders.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nselect 1;\n")}
	fsys["helpers.go"] = &fstest.MapFile{Data: []byte("package migrations")}
	findings := check(t, fsys, lint.Options{})
	require.Equal(t, []string{
		"order:0 unreadable-file", "1:2 transaction-control", "1:3 changes-role", "2:2 changes-search-path", "3:2 fixed-schema",
		"3:3 copy-from-client", "4:0 unreadable-file", "5:2 unreadable-file", "5:3 drop-table", "7:0 unreadable-file", "8:0 go-migration",
	}, at(findings))
	require.Contains(t, findings[0].Risk, "rename it")
	require.Contains(t, findings[9].Risk, "no file for version 6")
	inGo := findings[len(findings)-1]
	require.Equal(t, lint.Info, inGo.Severity, "a program may bring it along")
	require.False(t, inGo.Counts())
	for _, f := range findings[:len(findings)-1] {
		require.Equal(t, lint.Error, f.Severity)
		require.True(t, f.Counts())
	}
}

func TestAWaivedFindingIsShownAndDoesNotCount(t *testing.T) {
	t.Parallel()
	findings := check(t, set("-- +goose Up\n-- landlord: allow=drop-table nobody ever used it\ndrop table a;\ndrop function f();\n"), lint.Options{})
	require.Equal(t, []string{"1:3 drop-table", "1:4 drop-object"}, at(findings))
	require.True(t, findings[0].Waived)
	require.Equal(t, "nobody ever used it", findings[0].Reason)
	require.False(t, findings[0].Counts())
	require.True(t, findings[1].Counts())
}

func TestAWaiverThatWaivesNothingIsAFinding(t *testing.T) {
	t.Parallel()
	findings := check(t, set("-- +goose Up\n-- landlord: allow=drop-tabel a\n-- landlord: allow=rename b\n-- landlord: allow=changes-role c\nset role a;\n"), lint.Options{})
	require.Equal(t, []string{"1:2 unknown-waiver", "1:3 unused-waiver", "1:4 unused-waiver", "1:5 changes-role"}, at(findings))
	require.Contains(t, findings[0].Risk, "drop-tabel")
	require.Contains(t, findings[2].Risk, "refused whatever")
	require.True(t, findings[3].Counts(), "what is refused cannot be waived")
}

func TestAFileThatCannotBeReadCannotBeWaived(t *testing.T) {
	t.Parallel()
	findings := check(t, set("-- landlord: allow=unreadable-file so what\nselect 1;\n"), lint.Options{})
	require.Equal(t, []string{"1:0 unreadable-file", "1:1 unused-waiver"}, at(findings))
	require.False(t, findings[0].Waived)
}

func TestOnlyTheRulesAskedForAreReported(t *testing.T) {
	t.Parallel()
	fsys := set("-- +goose Up\n-- landlord: allow=drop-table unused\ndrop table a;\ndrop function f();\n")
	require.Equal(t, []string{"1:4 drop-object"}, at(check(t, fsys, lint.Options{Rules: []string{"drop-object", "unused-waiver"}})))
	_, err := lint.Check(fsys, lint.Options{Rules: []string{"drop-everything"}})
	require.ErrorIs(t, err, lint.ErrUnknownRule)
	require.ErrorContains(t, err, "drop-everything")
}

func TestAFolderThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := lint.Check(os.DirFS(t.TempDir()+"/none"), lint.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Empty(t, check(t, fstest.MapFS{}, lint.Options{}))
}

func TestSmallTablesMakeScansHarmless(t *testing.T) {
	t.Parallel()
	for rows, want := range map[int64]lint.Severity{0: lint.Info, lint.SmallTable - 1: lint.Info, lint.SmallTable: lint.Error} {
		for _, sql := range []string{
			"create index i on a (b);", "alter table a add check (b > 0);", "alter table a alter b set not null;", "update a set b = 1;",
		} {
			o := lint.Options{Rows: func(table string) (int64, bool) { return rows, table == "a" }}
			findings := check(t, set("-- +goose Up\n"+sql), o)
			require.Len(t, findings, 1, sql)
			require.Equal(t, want, findings[0].Severity, sql)
			require.Equal(t, want != lint.Info, findings[0].Counts())
		}
	}
	unknown := lint.Options{Rows: func(string) (int64, bool) { return 0, false }}
	require.Equal(t, lint.Error, check(t, set("-- +goose Up\ncreate index i on a (b);"), unknown)[0].Severity)
}

func TestTheSafeFormNamesTheTableAtHand(t *testing.T) {
	t.Parallel()
	f := check(t, set("-- +goose Up\nalter table orders add constraint paid check (state <> 'x' and total > 10);"), lint.Options{})[0]
	require.Contains(t, f.Safe, "alter table orders add constraint paid check (state <> 'x' and total > 10) not valid;")
	require.Contains(t, f.Safe, "alter table orders validate constraint paid;")
	f = check(t, set("-- +goose Up\ncreate unique index orders_note on orders (tenant_id, note);"), lint.Options{})[0]
	require.Contains(t, f.Safe, "create unique index concurrently orders_note on orders (tenant_id, note);")
}

func TestATableIsNewOnlyInItsOwnFile(t *testing.T) {
	t.Parallel()
	const table, index = "create table a (tenant_id uuid, b bigint, primary key (tenant_id, b));\n", "create index i on a (tenant_id, b);\n"
	require.Empty(t, check(t, set("-- +goose Up\n"+table+index), lint.Options{}))
	require.Equal(t, []string{"2:2 index-not-concurrent"}, at(check(t, set("-- +goose Up\n"+table, "-- +goose Up\n"+index), lint.Options{})))
}

func TestEveryFilesWaiversAreItsOwn(t *testing.T) {
	t.Parallel()
	findings := check(t, set("-- +goose Up\n-- landlord: allow=drop-table x\ndrop table a;\n", "-- +goose Up\ndrop table b;\n"), lint.Options{})
	require.Equal(t, []string{"1:3 drop-table", "2:2 drop-table"}, at(findings))
	require.True(t, findings[0].Waived)
	require.False(t, findings[1].Waived)
}

func TestAGrantOnAMaterializedViewIsFoundInWhateverFile(t *testing.T) {
	t.Parallel()
	findings, err := lint.Check(fstest.MapFS{
		"00001_sums.sql":  {Data: []byte("-- landlord: allow=view-without-security-invoker for the back office\n-- +goose Up\ncreate materialized view sums as select 1 as n;\n")},
		"00002_grant.sql": {Data: []byte("-- +goose Up\ngrant select on table sums to landlord_app;\n")},
	}, lint.Options{})
	require.NoError(t, err)
	var rules []string
	for _, f := range findings {
		if f.File == "00002_grant.sql" {
			rules = append(rules, f.Rule)
		}
	}
	require.Equal(t, []string{"grant-past-policies"}, rules)
}
