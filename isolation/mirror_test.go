package isolation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// write runs a statement as the application and returns the row that it has written, or its error's SQLSTATE.
func write(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	exec(t, conn, "savepoint s")
	var row string
	if err := conn.QueryRow(t.Context(), sql).Scan(&row); err != nil {
		exec(t, conn, "rollback to s")
		require.NotEmpty(t, pgerr.Code(err), "%s: %v", sql, err)
		return pgerr.Code(err)
	}
	return row
}

func TestMirroredColumnsAreWrittenTogether(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			p.build(t, p.schema, p.owner(), "alter table note add column words text; call landlord.mirror_column('note', 'body', 'words')")
			const back = " returning concat_ws('|', coalesce(body, '-'), coalesce(words, '-'))"
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				for _, c := range [][2]string{
					{"insert into note (body) values ('old')", "old|old"},
					{"insert into note (words) values ('new')", "new|new"},
					{"insert into note (body, words) values ('same', 'same')", "same|same"},
					{"insert into note (body, words) values ('this', 'that')", pgerr.CheckViolation},
					{"insert into note (id, body) overriding system value values (77, 'v')", "v|v"},
					{"update note set body = 'a' where id = 77", "a|a"},
					{"update note set words = 'b' where id = 77", "b|b"},
					{"update note set body = 'c', words = 'c' where id = 77", "c|c"},
					{"update note set body = 'd', words = 'e' where id = 77", pgerr.CheckViolation},
					{"update note set words = null where id = 77", pgerr.NotNullViolation},
					{"update note set body = body, words = 'f' where id = 77", "f|f"},
					{"insert into note (id, body) overriding system value values (77, 'g') on conflict (tenant_id, id) do update set body = excluded.body", "g|g"},
					{"insert into note (id, words) overriding system value values (77, 'h') on conflict (tenant_id, id) do update set words = excluded.words", "h|h"},
				} {
					require.Equal(t, c[1], write(t, conn, c[0]+back), c[0])
				}
				// Rows from before are filled by whoever writes them.
				require.Equal(t, "own row|-", write(t, conn, "select concat_ws('|', body, coalesce(words, '-')) from note where body = 'own row' limit 1"))
				require.Equal(t, "own row|own row", write(t, conn, "update note set tenant_id = tenant_id where id = (select min(id) from note where words is null)"+back))
				require.Equal(t, "own row|own row", write(t, conn, "update note set words = body where words is null"+back))
			})
			// Nobody but the migrator mirrors.
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				_, err := conn.Exec(t.Context(), "call landlord.unmirror_column('note', 'body', 'words')")
				require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%v", err)
			})
			require.Equal(t, "landlord_owner landlord_mirror_note_body_words", text(t, p.super(t), fmt.Sprintf(
				"select proowner::regrole || ' ' || proname from pg_proc where pronamespace = %s::regnamespace and proname ~ 'mirror'", lit(ident(p.schema)))))

			p.build(t, p.schema, p.owner(), "call landlord.unmirror_column('note', 'body', 'words'); alter table note drop column body")
			require.Equal(t, "0", text(t, p.super(t), fmt.Sprintf(
				"select count(*)::text from pg_proc where pronamespace = %s::regnamespace and proname ~ 'mirror'", lit(ident(p.schema)))))
			p.visit(t, p.tenant, func(conn *pgx.Conn) {
				require.Equal(t, "x", write(t, conn, "insert into note (words) values ('x') returning words"))
			})
		})
	}
}

func TestMirroredColumnsAreConverted(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "schema")
	p.build(t, p.schema, p.owner(), `
create type mood as enum ('sad', 'happy');
create function smile(m mood) returns text language sql immutable return case m when 'happy' then ':)' else ':(' end;
create table parts (tenant_id uuid, id int, "The Mood" mood default 'sad', face text, small int, large bigint, short varchar(3), long text,
    first text, last text, whole text, primary key (tenant_id, id)) partition by range (id);
create table parts_1 partition of parts for values from (0) to (1000);
call landlord.mirror_column('parts', 'The Mood', 'face', forward => 'smile("The Mood")', back => 'case face when '':)'' then ''happy'' else ''sad'' end::mood');
call landlord.mirror_column('parts', 'small', 'large');
call landlord.mirror_column('parts', 'short', 'long');
call landlord.mirror_column('parts', 'last', 'whole', forward => 'concat_ws('' '', first, last)', back => 'coalesce(nullif(split_part(whole, '' '', 2), ''''), last)')`)
	const back = ` returning concat_ws('|', id, "The Mood", face, small, large, short, long, last, whole)`
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		for _, c := range [][2]string{
			{`insert into parts (id, "The Mood", small) values (1, 'happy', 5)`, "1|happy|:)|5|5|"},
			{`insert into parts (id, face, large) values (2, ':)', 6)`, "2|happy|:)|6|6|"}, // the default is what nobody said
			{`insert into parts (id) values (3)`, "3|sad|:(|"},
			{`insert into parts (id, "The Mood", face) values (4, 'happy', ':(')`, pgerr.CheckViolation},
			{`update parts set large = 5000000000 where id = 1`, pgerr.NumericOutOfRange},
			{`update parts set long = 'four' where id = 1`, pgerr.StringTooLong},
			{`update parts set long = 'abc' where id = 1`, "1|happy|:)|5|5|abc|abc|"},
			{`update parts set first = 'Ada', last = 'Lovelace' where id = 2`, "2|happy|:)|6|6|Lovelace|Ada Lovelace"},
			{`update parts set whole = 'Grace Hopper' where id = 2`, "2|happy|:)|6|6|Hopper|Grace Hopper"},
			{`update parts set small = 7 where id = 2`, "2|happy|:)|7|7|Hopper|Grace Hopper"}, // what does not come back stays
			{`update parts set whole = concat_ws(' ', first, last) where id = 2`, "2|happy|:)|7|7|Hopper|Ada Hopper"},
		} {
			require.Equal(t, c[1], write(t, conn, c[0]+back), c[0])
		}
	})
}

func TestWhatCannotBeMirroredIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, p.owner(), `
create table t (tenant_id uuid, id int, a text, b text, d text default '', j json, g text generated always as (a) stored,
    i bigint generated always as identity, v uuid default gen_random_uuid(), w uuid, "q""uote" text, primary key (tenant_id, id)) partition by range (id);
create table t_1 partition of t for values from (0) to (9);
create view shown with (security_invoker = true) as select a, b from t;
call landlord.mirror_column('t', 'a', 'b')`)
	for call, want := range map[string]string{
		"mirror_column('nothing', 'a', 'b')":                     pgerr.UndefinedTable,
		"mirror_column('t', 'a', 'nothing')":                     pgerr.UndefinedColumn,
		"mirror_column('t', 'a', 'a')":                           pgerr.InvalidParameterValue,
		"mirror_column('t', 'a', 'w', forward => 'a')":           pgerr.InvalidParameterValue,
		"mirror_column('t', 'a', 'b')":                           pgerr.DuplicateObject,
		"mirror_column('t', 'a', 'd')":                           pgerr.FeatureNotSupported,
		"mirror_column('t', 'a', 'g')":                           pgerr.FeatureNotSupported,
		"mirror_column('t', 'i', 'w')":                           pgerr.FeatureNotSupported,
		"mirror_column('t', 'v', 'w')":                           pgerr.FeatureNotSupported,
		"mirror_column('t', 'a', 'j')":                           pgerr.UndefinedFunction,
		"mirror_column('t_1', 'a', 'b')":                         pgerr.WrongObjectType,
		"mirror_column('shown', 'a', 'b')":                       pgerr.WrongObjectType,
		"mirror_column('t', 'a', 'w', 'nothing(a)', 'w::text')":  pgerr.UndefinedFunction,
		"mirror_column('t', 'a', 'w', 'a::uuid', 'nothing')":     pgerr.UndefinedColumn,
		"mirror_column('t', 'a', 'w', 'a::uuid) --', 'w::text')": pgerr.SyntaxError,
		"unmirror_column('t', 'b', 'a')":                         pgerr.UndefinedObject,
	} {
		_, err := p.migrator(t).PgConn().Exec(t.Context(), "begin; set local search_path = public, extensions, pg_temp; call landlord."+call+"; commit").ReadAll()
		require.True(t, pgerr.Is(err, want), "%s: %v", call, err)
		exec(t, p.migrator(t), "rollback")
	}
	// Long names are shortened alike everywhere, strange ones quoted.
	long := strings.Repeat("é", 30)
	p.build(t, p.schema, p.owner(), "alter table t add column "+ident(long)+" text; call landlord.mirror_column('t', "+lit(`q"uote`)+", "+lit(long)+")")
	p.visit(t, p.tenant, func(conn *pgx.Conn) {
		require.Equal(t, "x", write(t, conn, `insert into t (id, "q""uote") values (1, 'x') returning `+ident(long)))
	})
	p.build(t, p.schema, p.owner(), "call landlord.unmirror_column('t', "+lit(`q"uote`)+", "+lit(long)+"); call landlord.unmirror_column('t', 'a', 'b')")
}
