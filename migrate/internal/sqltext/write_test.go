package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// read reads a file's statements.
func read(t *testing.T, sql string) (sqltext.Write, error) {
	t.Helper()
	tokens, err := sqltext.Tokenize(sql)
	require.NoError(t, err)
	return sqltext.ReadWrite(sqltext.Split(tokens))
}

func TestAWriteIsReadAsFarAsBatchesNeedIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sql     string
		target  string // table, alias
		changes string
		parts   []string // before WHERE, the condition, the rest
	}{
		{"update t set a = 1;", "t t", "a", []string{"update t set a = 1", "", ""}},
		{"-- why\nupdate t set a = 1 -- all\n;", "t t", "a", []string{"update t set a = 1", "", ""}},
		{
			"update T as x set a = 1, b = f(2, 3) where a is null or b = ';'", "t x", "a b",
			[]string{"update T as x set a = 1, b = f(2, 3) ", "a is null or b = ';'", ""},
		},
		{
			`update only "T" "X y" set (a, "B") = (select 1, 2 from u where u.id = "X y".id), c[1] = d is distinct from e, f.g = 2 where a in (select b from t where true) returning id`,
			`T X y`, "a B c f",
			[]string{
				`update only "T" "X y" set (a, "B") = (select 1, 2 from u where u.id = "X y".id), c[1] = d is distinct from e, f.g = 2 `,
				"a in (select b from t where true)", " returning id",
			},
		},
		{
			"update t x set a = u.a from u join v on u.where = v.returning where u.id = x.id /* the\nend */", "t x", "a",
			[]string{"update t x set a = u.a from u join v on u.where = v.returning ", "u.id = x.id", ""},
		},
		{"update only (t) set a = $q$ where ; $q$ returning *", "t t", "a", []string{"update only (t) set a = $q$ where ; $q$", "", " returning *"}},
		{"delete from t", "t t", "", []string{"delete from t", "", ""}},
		{"DELETE FROM ONLY t * AS \"where\" WHERE \"where\".a = 1 -- so\n", "t where", "", []string{"DELETE FROM ONLY t * AS \"where\" ", "\"where\".a = 1", ""}},
		{
			"delete from t using u where t.id = u.id and (case when true then 1 end) = 1", "t t", "",
			[]string{"delete from t using u ", "t.id = u.id and (case when true then 1 end) = 1", ""},
		},
		{"delete from t using u returning 1 as where", "t t", "", []string{"delete from t using u", "", " returning 1 as where"}},
	} {
		w, err := read(t, c.sql)
		require.NoError(t, err, c.sql)
		require.Equal(t, c.target, w.Table+" "+w.Alias, c.sql)
		require.Equal(t, strings.Fields(c.changes), append([]string{}, w.Changes...), c.sql)
		condition := ""
		if w.Condition > 0 {
			condition = c.sql[w.Condition:w.Limit]
		}
		require.Equal(t, c.parts, append([]string{}, c.sql[w.Start:w.Target], condition, c.sql[w.Limit:w.End]), c.sql)
		require.Equal(t, c.parts[2] != "", w.Returning > 0, c.sql)
		require.Equal(t, strings.Contains(strings.ToLower(c.sql), " only "), w.Only, c.sql)
	}
}

func TestWhatIsNoBackfillIsRefused(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]error{
		"select 1":                      sqltext.ErrNotOneWrite,
		"":                              sqltext.ErrNotOneWrite,
		"insert into t values (1)":      sqltext.ErrNotOneWrite,
		"insert into t select * from u": sqltext.ErrNotOneWrite,
		"merge into t using u on true when matched then delete": sqltext.ErrNotOneWrite,
		"truncate t":                             sqltext.ErrNotOneWrite,
		"update t set a = 1; update t set b = 1": sqltext.ErrNotOneWrite,
		"update":                                 sqltext.ErrNotOneWrite,
		"update t":                               sqltext.ErrNotOneWrite,
		"update only (t":                         sqltext.ErrNotOneWrite,
		"update s.t set a = 1":                   sqltext.ErrNotOneWrite,
		"delete t":                               sqltext.ErrNotOneWrite,
		"delete from":                            sqltext.ErrNotOneWrite,
		"do $$ begin update t set a = 1; end $$": sqltext.ErrNotOneWrite,
		"with x as (select 1) update t set a = 1 from x":   sqltext.ErrNotBatched,
		"update t set a = 1 where current of c":            sqltext.ErrByPlace,
		"delete from t where ctid in (select ctid from t)": sqltext.ErrByPlace,
	} {
		_, err := read(t, sql)
		require.ErrorIs(t, err, want, sql)
	}
}
