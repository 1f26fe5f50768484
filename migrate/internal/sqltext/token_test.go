package sqltext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

func FuzzTokenize(f *testing.F) {
	for _, s := range []string{
		"select 'a;b', E'\\'', $$x$$, $a$ $b$ $a$, \"q\"\"q\"", "/* /* */", "$", "$a", "e'", "--", "create function f() begin atomic select case; end; end;", "é",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		tokens, err := sqltext.Tokenize(sql)
		if err != nil {
			require.ErrorIs(t, err, sqltext.ErrUnterminated)
			return
		}
		end := 0
		for _, token := range tokens {
			require.GreaterOrEqual(t, token.Pos, end)
			require.Greater(t, token.End, token.Pos)
			end = token.End
		}
		require.LessOrEqual(t, end, len(sql))
		for _, statement := range sqltext.Split(tokens) {
			require.NotEmpty(t, statement)
			_ = sqltext.Refuse(statement)
			sqltext.ConcurrentIndex(statement)
		}
		if w, err := sqltext.ReadWrite(sqltext.Split(tokens)); err == nil {
			require.LessOrEqual(t, w.Start, w.Target)
			require.LessOrEqual(t, max(w.Target, w.Condition), w.Limit)
			require.LessOrEqual(t, w.Limit, w.End)
		}
		sqltext.Excerpt(sql)
	})
}
