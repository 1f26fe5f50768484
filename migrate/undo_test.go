package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
)

const (
	expandNote   = "-- +goose Up\nalter table a add column note text;\n-- +goose Down\nalter table a drop column note;\n"
	expandEither = "-- +goose Up\ncreate function one() returns int language sql return 1;\n-- +goose Down\ndrop function one();\n"
)

// undo takes back from a target what is above a version.
func undo(t *testing.T, conn *pgx.Conn, set *migrate.Set, from migrate.Target, to int64, by migrate.Attempt) error {
	t.Helper()
	var have []migrate.Applied
	for _, m := range set.Scoped(from.Scope) {
		if slices.Contains(recorded(t, conn, from.Place()), m.Version) {
			have = append(have, migrate.Applied{Version: m.Version, Checksum: m.Checksum})
		}
	}
	above, err := set.Above(from.Scope, have, to)
	require.NoError(t, err)
	for _, m := range above {
		if _, err := m.Undo(t.Context(), conn, from, by, limits); err != nil {
			return err
		}
	}
	return nil
}

func TestUndoSendsWhatGooseSends(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	fsys := os.DirFS("testdata/shop")
	var compiled []string
	migrations := load(t, fsys).Migrations()
	slices.Reverse(migrations)
	for _, m := range migrations {
		compiled = append(compiled, m.Down...)
	}
	require.Len(t, compiled, 7)

	sent := &tracer{}
	cfg := conn.Config()
	cfg.Tracer = sent
	db := stdlib.OpenDB(*cfg)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.Up(t.Context())
	require.NoError(t, err)
	sent.sql = nil
	_, err = provider.DownTo(t.Context(), 0)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Equal(t, sent.sql, compiled)
}

func TestAHomeThatIsBroughtDownAndUpAgainIsTheSame(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"testdata/shop", "../cmd/landlord/sample"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			conn := newHome(t)
			newSchema(t, conn, "t_one")
			set := load(t, os.DirFS(dir))
			home := migrate.Target{Scope: migrate.ScopeTenant, Schema: "t_one", Tenant: tenantID}
			at := map[int64][]string{0: dump(t, conn, "t_one")}
			for _, m := range set.Migrations() {
				_, err := m.Apply(t.Context(), conn, home, first, limits)
				require.NoError(t, err)
				at[m.Version] = dump(t, conn, "t_one")
			}
			versions := append([]int64{0}, set.Versions()...)
			for _, to := range slices.Backward(versions[:len(versions)-1]) {
				require.NoError(t, undo(t, conn, set, home, to, first))
				require.Equal(t, at[to], dump(t, conn, "t_one"))
			}
			require.Empty(t, recorded(t, conn, "t_one"))
			require.NoError(t, apply(t, conn, set, home, first))
			require.Equal(t, at[versions[len(versions)-1]], dump(t, conn, "t_one"))
			require.NoError(t, undo(t, conn, set, home, 0, first), "all in one go")
			require.Empty(t, recorded(t, conn, "t_one"))
		})
	}
}

func TestAnUndoIsRefused(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	fsys := files("1_a.sql", createA, "2_note.sql", expandNote, "3_one.sql", expandEither)
	set := load(t, fsys)
	lease := migrate.Attempt{Run: run, Lease: 5}
	require.NoError(t, apply(t, conn, set, public, lease))
	note, one := set.Migrations()[1], set.Migrations()[2]
	before := dump(t, conn, "public")
	refused := func(err error, want string) {
		t.Helper()
		require.True(t, pgerr.Is(err, want), "%v", err)
		require.Equal(t, before, dump(t, conn, "public"))
		require.Equal(t, []int64{1, 2, 3}, recorded(t, conn, "public"))
		require.Equal(t, byte('I'), conn.PgConn().TxStatus(), "the connection can be used again")
	}
	_, err := one.Undo(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 4}, limits)
	require.ErrorIs(t, err, migrate.ErrOvertaken)
	_, err = note.Undo(t.Context(), conn, public, lease, limits)
	refused(err, pgerr.Behind)
	fsys["3_one.sql"].Data = []byte(strings.ReplaceAll(expandEither, "return 1", "return 2"))
	_, err = load(t, fsys).Migrations()[2].Undo(t.Context(), conn, public, lease, limits)
	refused(err, pgerr.Behind)
	_, err = one.Undo(t.Context(), conn, migrate.Target{Scope: migrate.ScopeDatabase}, lease, limits)
	require.ErrorContains(t, err, "its scope is tenant")

	super := superuser(t, conn)
	for set, back := range map[string]string{
		`insert into landlord.move_hold values ('public', gen_random_uuid())`:                 `delete from landlord.move_hold`,
		`update landlord.schema_version set phase = 'contract' where version = 3`:             `update landlord.schema_version set phase = 'expand'`,
		`create or replace view uses_one as select one(); grant select on uses_one to public`: `drop view uses_one`,
	} {
		_, err := super.Exec(t.Context(), set)
		require.NoError(t, err)
		_, err = one.Undo(t.Context(), conn, public, lease, limits)
		require.True(t, pgerr.Is(err, pgerr.Held, pgerr.ObjectNotInPrerequisite, pgerr.DependentObjects), "%v", err)
		require.Equal(t, []int64{1, 2, 3}, recorded(t, conn, "public"))
		_, err = super.Exec(t.Context(), back)
		require.NoError(t, err)
	}
	cfg := conn.Config()
	cfg.RuntimeParams["role"] = "landlord_app"
	app, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer app.Close(t.Context())
	_, err = one.Undo(t.Context(), app, public, lease, limits)
	refused(err, pgerr.InsufficientPrivilege)

	_, err = super.Exec(t.Context(), `insert into landlord.backfill (schema, version, checksum, batch)
		select s, v, '', 1 from unnest('{public,other}'::text[]) s, generate_series(3, 4) v`)
	require.NoError(t, err)
	ran, err := one.Undo(t.Context(), conn, public, lease, limits)
	require.NoError(t, err)
	require.True(t, ran)
	ran, err = one.Undo(t.Context(), conn, public, lease, limits)
	require.NoError(t, err)
	require.False(t, ran, "it is gone already")
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
	require.Equal(t, []string{"other 3", "other 4", "public 3"}, texts(t, super, `select schema || ' ' || version from landlord.backfill order by 1`),
		"a later backfill begins anew")
}

func TestWhatCannotBeUndoneSaysWhy(t *testing.T) {
	t.Parallel()
	goFunc := func(context.Context, *sql.Tx) error { return nil }
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"contract":  {"-- landlord: phase=contract\n" + expandNote, "is a contract step"},
		"backfill":  {"-- landlord: phase=backfill\n-- +goose Up\nupdate a set note = '';\n-- +goose Down\nselect 1;", "is a backfill step"},
		"validate":  {"-- landlord: phase=validate\n" + expandNote, "is a validate step"},
		"no Down":   {createA, "no Down section"},
		"empty":     {createA + "\n-- +goose Down\n", "no Down section, or an empty one"},
		"refused":   {"-- +goose Up\nselect 1;\n-- +goose Down\nset role x;", "changes the role"},
		"two alone": {"-- +goose NO TRANSACTION\n-- +goose Up\nvacuum;\n-- +goose Down\nvacuum;\nvacuum;", "2 statements"},
		"nothing":   {"-- +goose Up\n-- +goose Down\n", ""},
		"all":       {expandNote, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := load(t, files("1_a.sql", c.text)).Migrations()[0].CheckUndo()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "1_a.sql")
			require.ErrorContains(t, err, c.want)
		})
	}
	for down, want := range map[bool]string{false: "no function", true: ""} {
		m := migrate.GoMigration{Version: 1, Name: "1_a.go"}
		if down {
			m.Down = goFunc
		}
		set, err := migrate.Load(files(), m)
		require.NoError(t, err)
		if err := set.Migrations()[0].CheckUndo(); want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestAMigrationInGoIsUndoneByItsFunction(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	m := goMigration(splitNames)
	m.Down = statement(`alter table people drop column first, drop column last`)
	set, err := migrate.Load(files("1_people.sql", createPeople), m)
	require.NoError(t, err)
	require.NoError(t, apply(t, conn, set.Until(1), public, first))
	before := texts(t, conn, columns)
	require.NoError(t, apply(t, conn, set, public, first))
	require.NotEqual(t, before, texts(t, conn, columns))
	require.NoError(t, undo(t, conn, set, public, 1, first))
	require.Equal(t, before, texts(t, conn, columns))
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))
}

const columns = `select table_name || '.' || column_name from information_schema.columns where table_schema = 'public' order by 1`

func TestAConcurrentIndexIsUndoneAndWhoWasCutOffGoesOn(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := items(t, conn).Until(2)
	super := superuser(t, conn)
	require.NoError(t, apply(t, conn, set, public, first))
	require.Equal(t, []string{"items_by_name true"}, texts(t, super, indexes))
	require.NoError(t, undo(t, conn, set, public, 1, first))
	require.Empty(t, texts(t, super, indexes))
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))

	// An attempt that was killed after it had dropped the index has left the version.
	require.NoError(t, apply(t, conn, set, public, first))
	index := set.Migrations()[1]
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`select landlord.begin_undo('public', 2, '%s', '%s', 1, true)`, index.Checksum, run))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), index.Down[0])
	require.NoError(t, err)
	require.NoError(t, undo(t, conn, set, public, 1, migrate.Attempt{Run: run, Lease: 2}))
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))
	require.NoError(t, apply(t, conn, set, public, migrate.Attempt{Run: run, Lease: 3}))
	require.Equal(t, []string{"items_by_name true"}, texts(t, super, indexes))
}

func TestAnIndexThatAnUndoMakesIsWhole(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	table, err := fs.ReadFile(os.DirFS("testdata/concurrent"), "00001_items.sql")
	require.NoError(t, err)
	set := load(t, files("1_items.sql", string(table)+"\ncreate unique index items_by_name on items (tenant_id, name);",
		"2_drop.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ndrop index concurrently items_by_name;\n"+
			"-- +goose Down\ncreate unique index concurrently items_by_name on items (tenant_id, name);\n"))
	require.NoError(t, apply(t, conn, set, public, first))
	super := superuser(t, conn)
	_, err = super.Exec(t.Context(), `insert into items (tenant_id, id, name) select '`+tenantID+`', n, 'twin' from generate_series(1, 2) n`)
	require.NoError(t, err)
	require.True(t, pgerr.Is(undo(t, conn, set, public, 1, first), pgerr.UniqueViolation))
	require.Equal(t, []string{"items_by_name false"}, texts(t, super, indexes), "the trap is there")
	_, err = super.Exec(t.Context(), `delete from items where id = 2`)
	require.NoError(t, err)
	require.NoError(t, undo(t, conn, set, public, 1, first))
	require.Equal(t, []string{"items_by_name true"}, texts(t, super, indexes))
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))
}
