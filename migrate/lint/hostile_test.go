package lint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/lint"
)

func TestWhatOnlyLooksDangerousIsNotFound(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"comment on table a is 'drop table b; truncate c;';",
		"comment on table a is E'it\\'s; drop table b;';",
		"comment on table a is $x$ drop table b; $y$ ; $x$;",
		"/* drop table a; /* truncate b; */ drop table c; */ select 1;",
		"select 'x' -- ; drop table a;\n;",
		"select 1; -- drop table a;",
		`select "drop table" from "truncate";`,
		`select 1 as "été; drop table a";`,
		"select U&'d\\0061t' || 'drop';",
		"select été.naïve from été;",
		"select $1, a$b$c from x;",
		"",
		";;",
		"\n\n\n",
	} {
		require.Empty(t, check(t, set("-- +goose Up\n"+sql+"\n"), lint.Options{}), sql)
	}
}

func TestWhatHidesADangerousStatementDoesNot(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"select 'a;b'; drop table a;",
		"select E'\\''; drop table a;",
		"select $q$'$q$; drop table a;",
		"/* /* */ ' */ drop table a;",
		"DROP\n/**/ TABLE -- ;\n a;",
		"drop table \"été;\";",
		"drop table ünïcode;",
		"select 1;;drop table a;;",
		"do $$ begin drop table a; end $$;",
		"do language plpgsql 'begin if true then drop table a; end if; end';",
		"do $$ begin for i in 1..2 loop drop table a; end loop; exception when others then null; end $$;",
	} {
		findings := check(t, set("-- +goose Up\n-- +goose StatementBegin\n"+sql+"\n-- +goose StatementEnd\n"), lint.Options{})
		require.Len(t, findings, 1, sql)
		require.Equal(t, "drop-table", findings[0].Rule, sql)
	}
}

func TestLargeAndDeepFilesAreRead(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	// Many statements with a finding each, of which goose sees one: it takes megabytes to look for the end of each.
	some := func(s string) string {
		return "-- +goose StatementBegin\n" + strings.Repeat(s, size/16/len(s)) + "-- +goose StatementEnd\n"
	}
	for name, text := range map[string]string{
		"rows":       "-- +goose Up\ninsert into a values (1)" + fill(", ('some text; and more')") + ";\n",
		"statements": "-- +goose Up\n" + some("drop view a;\n"),
		"values":     "-- +goose Up\n" + some("alter type a add value 'b';\n"),
		"alters":     "-- +goose Up\n" + some("alter table a drop constraint a_b_fkey, add column b text;\n"),
		"one line":   "-- +goose Up\n-- +goose StatementBegin\n" + fill("select 1;") + "\n-- +goose StatementEnd\n",
		"block":      "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin " + fill("perform 1; ") + " end $$;\n-- +goose StatementEnd\n",
		"parens":     "-- +goose Up\nalter table a add check " + fill("(") + ";\n",
		"comments":   "-- +goose Up\n" + fill("/*") + ";\n",
		"open":       "-- +goose Up\nselect '" + fill("a") + ";\n",
		"waivers":    "-- +goose Up\n" + strings.Repeat("-- landlord: allow=drop-table x\n", 5000),
		"binary":     "-- +goose Up\n" + fill("\x00\xff\xfe$") + ";\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, set(text), lint.Options{})
		})
	}
	findings := check(t, set("-- +goose Up\n-- +goose StatementBegin\nselect 1"+fill(",\n1")+";\ndrop table a;\n-- +goose StatementEnd\n"), lint.Options{})
	require.Len(t, findings, 1)
	require.Equal(t, size/len(",\n1")+4, findings[0].Line)
}

func TestNoExcerptOfAnUnreadableFileIsLong(t *testing.T) {
	t.Parallel()
	findings := check(t, set("-- +goose Up\nselect '"+strings.Repeat("x", 5000)), lint.Options{})
	require.Len(t, findings, 1)
	require.Less(t, len(findings[0].Risk), 500)
}

// FuzzCheck promises that no text makes the linter fail, panic or go on for ever.
func FuzzCheck(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*/*.sql")
	require.NoError(f, err)
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Add("alter table a add constraint n not; alter table add; create; drop; do; set; comment on table; create index concurrently;")
	f.Add("create table a (, b, c default, check); alter type a add value; grant; with; insert into; reindex; create view; update")
	base, err := os.ReadFile("testdata/base.sql")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		for _, f := range check(t, set(string(base), text, "-- +goose Up\n-- +goose StatementBegin\n"+text+"\n-- +goose StatementEnd\n"), lint.Options{}) {
			require.LessOrEqual(t, f.Line, strings.Count(text, "\n")+4)
			require.NotEmpty(t, f.Rule)
		}
	})
}
