package migrate_test

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
)

const (
	createA = "create table a (tenant_id uuid, id int, primary key (tenant_id, id));"
	createB = "create table b (tenant_id uuid, id int, primary key (tenant_id, id));"
)

// with returns files and more of them.
func with(fsys fstest.MapFS, namesAndTexts ...string) fstest.MapFS {
	all := maps.Clone(fsys)
	maps.Copy(all, files(namesAndTexts...))
	return all
}

func TestBuildSecuresWhatItMakes(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	require.NoError(t, load(t, os.DirFS("testdata/shop")).Build(t.Context(), conn, "public", ""))
	const open = `select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
		and not (relrowsecurity and relforcerowsecurity) order by 1`
	require.Equal(t, []string{"currencies"}, texts(t, conn, open), "reference tables are read-only, all others forced")
	const writable = `select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
		and has_table_privilege('landlord_app', oid, 'insert') order by 1`
	require.Equal(t, []string{"customers", "orders"}, texts(t, conn, writable))
}

func TestBuildPutsEachHomeIntoItsSchema(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, os.DirFS("testdata/concurrent"))
	const hostile = `t "x"; drop schema landlord cascade; --'$$`
	before := texts(t, conn, "show search_path")
	for schema, tenant := range map[string]string{"t_one": tenantID, hostile: other} {
		newSchema(t, conn, schema)
		require.NoError(t, set.Build(t.Context(), conn, schema, tenant))
		require.Equal(t, []string{"items"}, tables(t, conn, schema))
		require.Equal(t, set.Versions(), recorded(t, conn, schema))
	}
	require.Empty(t, tables(t, conn, "public"))
	require.Equal(t, before, texts(t, conn, "show search_path"), "the connection is as it was")
}

func TestTableWithoutTenantColumnBelongsToTheSchemasTenant(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	newSchema(t, conn, "t_one")
	set := load(t, files("1_notes.sql", "create table notes (body text);"))
	require.NoError(t, set.Build(t.Context(), conn, "t_one", tenantID))
	const q = `select qual from pg_policies where schemaname = 't_one' and permissive = 'RESTRICTIVE'`
	require.Contains(t, texts(t, conn, q)[0], tenantID)
}

func TestBuildCanBeRepeated(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	first := files("1_a.sql", createA)
	for range 2 {
		require.NoError(t, load(t, first).Build(t.Context(), conn, "public", ""))
		require.Equal(t, []int64{1}, recorded(t, conn, "public"))
	}
	more := load(t, with(first, "2_b.sql", createB))
	require.NoError(t, more.Build(t.Context(), conn, "public", ""))
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
	require.Equal(t, []string{"a", "b"}, tables(t, conn, "public"))
}

func TestBuildOfAnEmptySetDoesNothing(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	require.NoError(t, load(t, fstest.MapFS{}).Build(t.Context(), conn, "public", ""))
	require.Empty(t, recorded(t, conn, "public"))
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA, "2_b.sql", createB+"\nselect 1/0;", "3_c.sql", "select 1;"))
	err := set.Build(t.Context(), conn, "public", "")
	require.ErrorContains(t, err, "build home public: 2_b.sql:")
	require.True(t, pgerr.Is(err, "22012"))
	require.Empty(t, tables(t, conn, "public"))
	require.Empty(t, recorded(t, conn, "public"))
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	watcher := superuser(t, conn)
	set := load(t, files("1_a.sql", createA, "2_slow.sql", "select pg_sleep(60);"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- set.Build(ctx, conn, "public", "") }()
	awaitActivity(t, watcher, "%pg_sleep(60)%", "")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Empty(t, tables(t, watcher, "public"))
	require.Empty(t, recorded(t, watcher, "public"))
}

// awaitActivity returns once another connection of the same database runs such a query and waits for such a thing.
func awaitActivity(t *testing.T, conn *pgx.Conn, like, wait string) {
	t.Helper()
	const q = `select query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
		and state = 'active' and query like $1 and ($2 = '' or wait_event_type = $2)`
	for end := time.Now().Add(time.Minute); len(texts(t, conn, q, like, wait)) == 0; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "nobody runs %s", like)
	}
}

func TestBuildsOfOneHomeWaitForEachOther(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA+"\nselect pg_sleep(0.2);", "2_b.sql", createB))
	var g errgroup.Group
	for range 4 {
		conn := again(t, conn)
		g.Go(func() error { return set.Build(t.Context(), conn, "public", "") })
	}
	require.NoError(t, g.Wait())
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
}

func TestBuildRefusesAHomeThatDoesNotFitTheSet(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	applied := files("1_a.sql", createA, "2_b.sql", createB, "20240101000000_c.sql", "select 1;")
	require.NoError(t, load(t, applied).Build(t.Context(), conn, "public", ""))
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"ahead":   {files("1_a.sql", createA, "2_b.sql", createB), "version 20240101000000 is applied here and the files know no such version"},
		"empty":   {fstest.MapFS{}, "version 1 is applied here"},
		"gone":    {files("1_a.sql", createA, "20240101000000_c.sql", "select 1;"), "version 2 is applied here and its file is gone"},
		"edited":  {with(applied, "2_b.sql", createB+"\nselect 2;"), "2_b.sql was changed after it was applied"},
		"skipped": {with(applied, "20230101000000_late.sql", "select 1;"), "20230101000000_late.sql is not applied here though the later version"},
	} {
		t.Run(name, func(t *testing.T) {
			// Not parallel: they share the home, and none may change it.
			set := load(t, with(c.files, "20250101000000_new.sql", "create table never ();"))
			if name == "ahead" || name == "empty" {
				set = load(t, c.files)
			}
			require.ErrorContains(t, set.Build(t.Context(), conn, "public", ""), c.want)
			require.Equal(t, []string{"a", "b"}, tables(t, conn, "public"))
		})
	}
}

func TestFilesWithoutTransactionRunInTheirPlace(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	newSchema(t, conn, "t_one")
	set := load(t, os.DirFS("testdata/concurrent"))
	for range 2 {
		require.NoError(t, set.Build(t.Context(), conn, "t_one", tenantID))
	}
	require.Equal(t, []int64{1, 2, 3}, recorded(t, conn, "t_one"))
	const valid = `select indexrelid::regclass::text from pg_index where indisvalid and indrelid = 't_one.items'::regclass order by 1`
	require.Contains(t, texts(t, conn, valid), "t_one.items_by_name")
}

func TestInterruptedConcurrentIndexIsBuiltAgain(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	all := load(t, os.DirFS("testdata/concurrent"))
	table, err := os.ReadFile("testdata/concurrent/00001_items.sql")
	require.NoError(t, err)
	require.NoError(t, load(t, fstest.MapFS{"00001_items.sql": {Data: table}}).Build(t.Context(), conn, "public", ""))

	// A writer that never ends holds the build of the index up until it is killed.
	writer := again(t, conn)
	_, err = writer.Exec(t.Context(), `begin; lock table public.items in row exclusive mode`)
	require.NoError(t, err)
	watcher := superuser(t, conn)
	building := again(t, conn)
	done := make(chan error, 1)
	go func() { done <- all.Build(t.Context(), building, "public", "") }()
	awaitActivity(t, watcher, "create unique index concurrently%", "Lock")
	const kill = `select pg_terminate_backend(pid)::text from pg_stat_activity
		where datname = current_database() and query like 'create unique index concurrently%'`
	require.Equal(t, []string{"true"}, texts(t, watcher, kill))
	require.ErrorContains(t, <-done, "00002_items_by_name.sql")
	require.Equal(t, []string{"items_by_name"},
		texts(t, watcher, `select indexrelid::regclass::text from pg_index where not indisvalid`), "the trap is there")
	require.Equal(t, []int64{1}, recorded(t, watcher, "public"))

	_, err = writer.Exec(t.Context(), `rollback`)
	require.NoError(t, err)
	require.NoError(t, all.Build(t.Context(), conn, "public", ""))
	require.Equal(t, []int64{1, 2, 3}, recorded(t, conn, "public"))
	require.Empty(t, texts(t, watcher, `select indexrelid::regclass::text from pg_index where not indisvalid`))
}

func TestEachFileFindsWhatATransactionOfItsOwnWouldFind(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	tree := `create table tree (id int primary key, parent int references tree deferrable initially deferred);
		comment on table tree is 'landlord: reference';`
	set := load(t, files(
		"1_tree.sql", tree+"\ninsert into tree values (1, 2), (2, 1);\nset local search_path_of_mine.x = 'y';\nset timezone = 'Asia/Tokyo';",
		"2_alter.sql", "alter table tree add column name text;", // fails while constraints wait to be checked
		"3_zone.sql", "create table zone (tenant_id uuid primary key, z text);\nalter table zone alter z set default current_setting('timezone');\n"+
			"do $$ begin assert current_setting('timezone') = 'UTC', 'the settings of an earlier file'; end $$;",
	))
	require.NoError(t, set.Build(t.Context(), conn, "public", ""))

	conn = newHome(t)
	set = load(t, files("1_tree.sql", tree, "2_orphan.sql", "insert into tree values (1, 2);", "3_fine.sql", "select 1;"))
	require.ErrorContains(t, set.Build(t.Context(), conn, "public", ""), "2_orphan.sql")
	require.Empty(t, tables(t, conn, "public"))
}

func TestBuildRefusesNamesThatPostgreSQLWouldCut(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA))
	for _, schema := range []string{"", strings.Repeat("x", 64), "a\x00b"} {
		require.ErrorContains(t, set.Build(t.Context(), conn, schema, tenantID), "1 to 63 bytes")
	}
	require.ErrorContains(t, set.Build(t.Context(), conn, "public", "a\x00b"), "zero bytes")
}

func TestBuildRefusesAConnectionInATransaction(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, load(t, files("1_a.sql", createA)).Build(t.Context(), conn, "public", ""), "in a transaction")
	require.NoError(t, tx.Rollback(t.Context()))
}
