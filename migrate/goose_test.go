package migrate_test

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
)

// gooseUp runs real goose over real PostgreSQL and returns what it sent of the files' own.
func gooseUp(t *testing.T, conn *pgx.Conn, fsys fs.FS) []string {
	t.Helper()
	sent := &tracer{}
	cfg := conn.Config()
	cfg.Tracer = sent
	db := stdlib.OpenDB(*cfg)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = conn.Exec(t.Context(), `drop table goose_db_version`)
	require.NoError(t, err)
	return sent.sql
}

type tracer struct {
	mu  sync.Mutex // guards sql
	sql []string
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	switch {
	case data.SQL == "begin", data.SQL == "commit", data.SQL == "-- ping", strings.Contains(data.SQL, "goose_db_version"):
	default:
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.sql = append(tr.sql, data.SQL)
	}
	return ctx
}

func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestSetSendsWhatGooseSends(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"testdata/shop", "testdata/concurrent"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			var compiled []string
			for _, m := range load(t, os.DirFS(dir)).Migrations() {
				compiled = append(compiled, m.Statements...)
			}
			require.NotEmpty(t, compiled)
			require.Equal(t, gooseUp(t, newHome(t), os.DirFS(dir)), compiled)
		})
	}
}

func TestBuildMakesTheSchemaThatGooseMakes(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"testdata/shop", "testdata/concurrent"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			goosed, built := newHome(t), newHome(t)
			gooseUp(t, goosed, os.DirFS(dir))
			_, err := goosed.Exec(t.Context(), `call landlord.secure('public')`)
			require.NoError(t, err)
			require.NoError(t, load(t, os.DirFS(dir)).Build(t.Context(), built, "public", ""))

			want := dump(t, goosed, "public")
			require.NotEmpty(t, want)
			require.Equal(t, want, dump(t, built, "public"))
		})
	}
}

// dump describes everything in a schema, as text that is equal where the schemas are.
func dump(t *testing.T, conn *pgx.Conn, schema string) []string {
	t.Helper()
	const q = `
with rel as (select * from pg_class where relnamespace = $1::text::regnamespace)
select concat_ws(' ', 'relation', relname, relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, relacl, reloptions,
       quote_literal(obj_description(oid, 'pg_class'))) from rel
union all
select concat_ws(' ', 'column', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
       pg_get_expr(adbin, adrelid)) from rel join pg_attribute on attrelid = rel.oid and attnum > 0 and not attisdropped
       left join pg_attrdef on adrelid = rel.oid and adnum = attnum
union all
select concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
       from pg_constraint where connamespace = $1::text::regnamespace
union all
select concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) from pg_index join rel on rel.oid = indexrelid
union all
select concat_ws(' ', 'view', relname, pg_get_viewdef(oid)) from rel where relkind = 'v'
union all
select concat_ws(' ', 'function', pg_get_functiondef(oid), proowner::regrole, proacl) from pg_proc where pronamespace = $1::text::regnamespace
union all
select concat_ws(' ', 'enum', typname, enumlabel, enumsortorder) from pg_enum join pg_type on pg_type.oid = enumtypid
       where typnamespace = $1::text::regnamespace
union all
select concat_ws(' ', 'policy', tablename, policyname, permissive, roles, cmd, qual, with_check) from pg_policies where schemaname = $1::text
order by 1`
	return texts(t, conn, q, schema)
}
