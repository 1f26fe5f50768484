package rehearsal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/lint"
	"github.com/landlord-go/landlord/migrate/rehearsal"
)

// The linter's fixtures say beside them what was seen on a server. LANDLORD_UPDATE=fixtures writes it anew.
func TestTheLintersFixturesSayWhatAServerDoes(t *testing.T) {
	t.Parallel()
	const dir = "../lint/testdata"
	base, err := os.ReadFile(filepath.Join(dir, "base.sql"))
	require.NoError(t, err)
	fsys := fstest.MapFS{"00001_base.sql": {Data: base}}
	paths, err := filepath.Glob(filepath.Join(dir, "traced-*", "*.sql"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	names := make(map[string]string)
	for i, p := range paths {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		names[p] = fmt.Sprintf("%05d_x.sql", i+2)
		fsys[names[p]] = &fstest.MapFile{Data: text}
	}
	set, err := migrate.Load(fsys)
	require.NoError(t, err)
	seen, err := rehearsal.Trace(t.Context(), rehearsal.Config{Catalog: newHouse(t).Catalog, Set: set})
	require.NoError(t, err)
	for p, name := range names {
		saw := append([]lint.Traced{}, seen[name]...)
		text, err := json.MarshalIndent(saw, "", "  ")
		require.NoError(t, err)
		golden := filepath.Join(filepath.Dir(p), "traced_"+strings.TrimSuffix(filepath.Base(p), ".sql")+".json")
		if os.Getenv("LANDLORD_UPDATE") == "fixtures" {
			require.NoError(t, os.WriteFile(golden, append(text, '\n'), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), string(text)+"\n", p)
	}
}

// trace traces the sample and one more file.
func trace(t *testing.T, text string) ([]lint.Traced, error) {
	t.Helper()
	h := newHouse(t)
	seen, err := rehearsal.Trace(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: files(t, "00004_x.sql", text)})
	require.Empty(t, scratches(t, h))
	for _, f := range []string{"00001_currencies.sql", "00002_customers.sql", "00003_orders.sql"} {
		require.Empty(t, seen[f], "a file that only makes tables does nothing to others")
		require.Contains(t, seen, f)
	}
	return seen["00004_x.sql"], err
}

func TestTraceTellsRewritesScansAndLocks(t *testing.T) {
	t.Parallel()
	var sql strings.Builder
	var want []lint.Traced
	for i, c := range []struct {
		sql  string
		want lint.Traced
	}{
		{"alter table orders add column a int", lint.Traced{Locked: []string{"orders"}}},
		{"alter table orders add column b text default random()::text", lint.Traced{Rewritten: []string{"orders"}}},
		{"alter table orders add column c int check (c > 0)", lint.Traced{Scanned: []string{"orders"}}},
		{"alter table orders add constraint d check (a > 0) not valid", lint.Traced{}},
		{"alter table customers add constraint e check (name <> 'x') not valid", lint.Traced{Locked: []string{"customers"}}},
		{"create index on customers (name)", lint.Traced{Scanned: []string{"customers"}}},
		{"alter table orders alter a type bigint", lint.Traced{Rewritten: []string{"orders"}}},
		{"alter table order_lines add foreign key (tenant_id, product) references customers (tenant_id, email)", lint.Traced{Scanned: []string{"order_lines"}}},
		{"update order_lines set product = 'x'", lint.Traced{Scanned: []string{"order_lines"}}},
		{"update order_lines set product = 'x' where tenant_id = gen_random_uuid() and id = 5", lint.Traced{}},
		{"create table fresh as select 1 as a from orders limit 0", lint.Traced{}},
		{"create index on fresh (a)", lint.Traced{}},
		{"alter table fresh alter a type text", lint.Traced{}},
		{"drop table order_lines", lint.Traced{Locked: []string{"order_lines"}}},
		{"create schema elsewhere", lint.Traced{Elsewhere: []string{"schema elsewhere"}}},
		{"update public.customers set name = 'x'", lint.Traced{Elsewhere: []string{"table public.customers"}}},
	} {
		fmt.Fprintf(&sql, "-- +goose StatementBegin\ndo $$ begin execute %s; end $$;\n-- +goose StatementEnd\n", quote(c.sql))
		c.want.Statement = i
		if len(c.want.Rewritten)+len(c.want.Scanned)+len(c.want.Locked)+len(c.want.Elsewhere) > 0 {
			want = append(want, c.want)
		}
	}
	saw, err := trace(t, "-- +goose Up\n"+sql.String())
	require.ErrorContains(t, err, "42P06", "the schema is there already when the second home wants it")
	require.ErrorContains(t, err, "worked in the first home")
	require.Equal(t, want, normal(saw))
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// normal takes out the difference between nothing and none.
func normal(all []lint.Traced) []lint.Traced {
	for i := range all {
		for _, list := range []*[]string{&all[i].Rewritten, &all[i].Scanned, &all[i].Locked, &all[i].Elsewhere} {
			if len(*list) == 0 {
				*list = nil
			}
		}
	}
	return all
}

func TestTraceNamesTheStatementThatFails(t *testing.T) {
	t.Parallel()
	saw, err := trace(t, "-- +goose Up\nselect 1;\nalter table customer add column x text;\n")
	require.ErrorContains(t, err, `00004_x.sql: statement "alter table customer add column x text"`)
	require.ErrorContains(t, err, "42P01")
	require.Empty(t, saw)
}

func TestTheSafeFormsReadAndRewriteNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set := files(t,
		"00004_checks.sql", "alter table orders add column note text default 'x', add constraint orders_note check (note is not null) not valid;",
		"00005_key.sql", "alter table order_lines add constraint lines_of_product foreign key (tenant_id, product) references customers (tenant_id, email) not valid;",
		"00006_validate.sql", "alter table orders validate constraint orders_note;\nalter table order_lines validate constraint lines_of_product;",
		"00007_not_null.sql", "alter table orders alter column note set not null;\nalter table orders drop constraint orders_note;",
		"00008_index.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently orders_note_key on orders (tenant_id, id, note);",
		"00009_unique.sql", "alter table orders add constraint orders_note_key unique using index orders_note_key;",
		"00010_wider.sql", "alter table customers alter column email type text;",
		"00011_backfill.sql", "-- landlord: phase=backfill\n-- +goose Up\nupdate orders set note = 'y' where note = 'x';",
		"00012_seed.sql", "insert into currencies (code, digits) values ('SEK', 2) on conflict do nothing;\nupdate currencies set digits = 2 where code = 'SEK';",
		"00013_view.sql", "create view open_orders with (security_invoker = true) as select * from orders where status = 'open';\n"+
			"create function total() returns bigint language sql as 'select count(*) from orders';",
	)
	seen, err := rehearsal.Trace(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: set})
	require.NoError(t, err)
	require.Len(t, seen, 13)
	for file, statements := range seen {
		for _, s := range statements {
			require.Empty(t, s.Rewritten, file)
			require.Empty(t, s.Scanned, file)
			require.Empty(t, s.Elsewhere, file)
		}
	}
}
