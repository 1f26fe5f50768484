package migrate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
)

const createPeople = `create table people (tenant_id uuid, id bigint, name text, born date, primary key (tenant_id, id));`

// splitNames uses of a transaction what functions use: statements with arguments, several in one, prepared ones, rows.
func splitNames(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `alter table people add column first text; alter table people add column last text;`); err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, `insert into people (tenant_id, id, name, born) values ($1, $2, $3, $4)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i, name := range []string{"Ada Lovelace", "Alan Turing"} {
		if _, err := insert.ExecContext(ctx, tenantID, i, name, time.Date(1912, 6, 23, 0, 0, 0, 0, time.UTC)); err != nil {
			return err
		}
	}
	rows, err := tx.QueryContext(ctx, `select id, split_part(name, ' ', 1), born, null::text, name::varchar from people where id >= $1`, 0)
	if err != nil {
		return err
	}
	defer rows.Close()
	first := map[int64]string{}
	for rows.Next() {
		var id int64
		var name, whole string
		var born time.Time
		var none sql.NullString
		if err := rows.Scan(&id, &name, &born, &none, &whole); err != nil {
			return err
		}
		if born.Year() != 1912 || none.Valid || whole == "" {
			return fmt.Errorf("read %v, %v and %q", born, none, whole)
		}
		first[id] = name
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for id, name := range first {
		result, err := tx.ExecContext(ctx, `update people set first = $2 where id = $1`, id, name)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("%d rows, %w", n, err)
		}
	}
	return nil
}

func goMigration(up migrate.GoFunc) migrate.GoMigration {
	return migrate.GoMigration{Version: 2, Name: "2_names.go", Up: up}
}

func mixed(t *testing.T, up migrate.GoFunc, more ...string) *migrate.Set {
	t.Helper()
	set, err := migrate.Load(files(append([]string{"1_people.sql", createPeople}, more...)...), goMigration(up))
	require.NoError(t, err)
	return set
}

func TestMigrationsInGoStandAmongTheFiles(t *testing.T) {
	t.Parallel()
	fsys := files("1_people.sql", createPeople, "2_names.go", "package migrations", "3_c.sql", "create index people_first on people (tenant_id, first);")
	set, err := migrate.Load(fsys, goMigration(splitNames))
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2, 3}, set.Versions())
	second := set.Migrations()[1]
	require.Equal(t, "2_names.go", second.File)
	require.Equal(t, migrate.PhaseExpand, second.Phase)
	require.Equal(t, migrate.ScopeTenant, second.Scope)
	require.Len(t, second.Checksum, 64)

	delete(fsys, "2_names.go")
	without, err := migrate.Load(fsys, goMigration(nil))
	require.NoError(t, err)
	require.Equal(t, second.Checksum, without.Migrations()[1].Checksum, "of version and name, wherever the source lies")
	renamed := goMigration(splitNames)
	renamed.Name = "2_other.go"
	other, err := migrate.Load(fsys, renamed)
	require.NoError(t, err)
	require.NotEqual(t, second.Checksum, other.Migrations()[1].Checksum)
}

func TestMigrationsInGoThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	fsys := files("1_people.sql", createPeople)
	for name, c := range map[string]struct {
		m    migrate.GoMigration
		want string
	}{
		"hole":    {migrate.GoMigration{Version: 3, Name: "c"}, "no file for version 2"},
		"twice":   {migrate.GoMigration{Version: 1, Name: "c"}, "version 1 exists twice"},
		"unnamed": {migrate.GoMigration{Version: 2}, "needs a name"},
		"zero":    {migrate.GoMigration{Name: "c"}, "not above zero"},
		"phase":   {migrate.GoMigration{Version: 2, Name: "c", Phase: "never"}, "use expand"},
		"scope":   {migrate.GoMigration{Version: 2, Name: "c", Scope: "world"}, "use tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := migrate.Load(fsys, c.m)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestOnlyFunctionsWithATransactionAreTakenFromGoose(t *testing.T) {
	t.Parallel()
	g, err := migrate.FromGoose("2_names.go", goose.NewGoMigration(2, &goose.GoFunc{RunTx: splitNames}, nil))
	require.NoError(t, err)
	require.Equal(t, int64(2), g.Version)
	require.NotNil(t, g.Up)
	require.Nil(t, g.Down)
	noTx := &goose.GoFunc{RunDB: func(context.Context, *sql.DB) error { return nil }}
	for _, m := range []*goose.Migration{goose.NewGoMigration(2, noTx, nil), goose.NewGoMigration(2, nil, noTx)} {
		_, err := migrate.FromGoose("2_names.go", m)
		require.ErrorContains(t, err, "*sql.DB")
		require.ErrorContains(t, err, "RunTx")
	}
}

func TestAMixedSetMakesTheSchemaThatGooseMakes(t *testing.T) {
	t.Parallel()
	fsys := files("1_people.sql", createPeople, "3_c.sql", "create index people_first on people (tenant_id, first);", "4_d.sql", createA)
	goosed, built, stepped := newHome(t), newHome(t), newHome(t)
	m := goose.NewGoMigration(2, &goose.GoFunc{RunTx: splitNames}, nil)
	db := stdlib.OpenDB(*goosed.Config())
	provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(m))
	require.NoError(t, err)
	results, err := provider.Up(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = goosed.Exec(t.Context(), `drop table goose_db_version; call landlord.secure('public')`)
	require.NoError(t, err)

	g, err := migrate.FromGoose("2_names.go", m)
	require.NoError(t, err)
	set, err := migrate.Load(fsys, g)
	require.NoError(t, err)
	var order []int64
	for _, r := range results {
		order = append(order, r.Source.Version)
	}
	require.Equal(t, order, set.Versions())
	require.NoError(t, set.Build(t.Context(), built, "public", ""))
	require.NoError(t, apply(t, stepped, set, public, first))
	want := dump(t, goosed, "public")
	require.Equal(t, want, dump(t, built, "public"))
	require.Equal(t, want, dump(t, stepped, "public"))
	const rows = `select concat_ws(' ', id, name, first, born) from people order by id`
	require.Equal(t, texts(t, superuser(t, goosed), rows), texts(t, superuser(t, built), rows))
	require.Equal(t, []string{"0 Ada Lovelace Ada 1912-06-23", "1 Alan Turing Alan 1912-06-23"}, texts(t, superuser(t, stepped), rows))
	require.Equal(t, []int64{1, 2, 3, 4}, recorded(t, stepped, "public"))
}

func TestAFunctionThatFailsLeavesTheHomeAsItWas(t *testing.T) {
	t.Parallel()
	add := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `alter table people add column half text`)
		return err
	}
	for name, c := range map[string]struct {
		up   migrate.GoFunc
		want string
		code string
	}{
		"error": {func(ctx context.Context, tx *sql.Tx) error { return errors.Join(add(ctx, tx), errors.New("no luck")) }, "no luck", ""},
		"panic": {func(ctx context.Context, tx *sql.Tx) error {
			if err := add(ctx, tx); err != nil {
				return err
			}
			panic(fmt.Sprint("no ", "luck"))
		}, "the function panicked: no luck", ""},
		"swallowed": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `select 1/0`)
			return nil
		}, "a statement failed", "22012"},
		"renamed error": {func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `select 1/0`); err != nil {
				return errors.New("it went wrong")
			}
			return nil
		}, "it went wrong", "22012"},
		"commits":     {func(ctx context.Context, tx *sql.Tx) error { return errors.Join(add(ctx, tx), tx.Commit()) }, "not its own", ""},
		"rolls back":  {func(ctx context.Context, tx *sql.Tx) error { return errors.Join(add(ctx, tx), tx.Rollback()) }, "not its own", ""},
		"in SQL":      {statement(`commit`), "controls the transaction", ""},
		"search path": {statement(`set local search_path = pg_temp`), "search path", ""},
		"schema":      {statement(`create table public.elsewhere ()`), "unqualified", ""},
		"deferred": {statement(`alter table people add constraint c check (id > 0); alter table people add foreign key (tenant_id, id) references people deferrable initially deferred;
			select landlord.nothing()`), "does not exist", pgerr.UndefinedFunction},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newHome(t)
			set := mixed(t, c.up)
			require.NoError(t, set.Until(1).Build(t.Context(), conn, "public", ""))
			before := dump(t, conn, "public")
			for range 2 {
				_, err := set.Migrations()[1].Apply(t.Context(), conn, public, first, limits)
				require.ErrorContains(t, err, "2_names.go: ")
				require.ErrorContains(t, err, c.want)
				require.Equal(t, c.code, pgerr.Code(err))
				require.Equal(t, byte('I'), conn.PgConn().TxStatus(), "the connection can be used again")
				require.Error(t, set.Build(t.Context(), conn, "public", ""))
			}
			require.Equal(t, before, dump(t, conn, "public"))
			require.Equal(t, []int64{1}, recorded(t, conn, "public"))
		})
	}
}

// statement is a function of one statement.
func statement(text string) migrate.GoFunc {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text)
		return err
	}
}

func TestAFunctionHoldsTheLimitsAndTheFenceOfItsStep(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	var path, timeout string
	set := mixed(t, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `select current_setting('search_path'), current_setting('lock_timeout') from people for update`).Scan(&path, &timeout)
	})
	m := set.Migrations()[1]
	require.NoError(t, set.Until(1).Build(t.Context(), conn, "public", ""))
	super := superuser(t, conn)
	_, err := super.Exec(t.Context(), `begin; insert into people (tenant_id, id) values ('`+tenantID+`', 1); commit; begin; select from people for update`)
	require.NoError(t, err)
	_, err = m.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 5}, limits)
	require.Equal(t, migrate.Again, migrate.Judge(err), "%v", err)
	_, err = super.Exec(t.Context(), `rollback`)
	require.NoError(t, err)

	_, err = m.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 5}, limits)
	require.NoError(t, err)
	require.Equal(t, "public, extensions, pg_temp", path)
	require.Equal(t, "100ms", timeout)
	ran, err := m.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 5}, limits)
	require.NoError(t, err)
	require.False(t, ran)
	_, err = m.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 4}, limits)
	require.ErrorIs(t, err, migrate.ErrOvertaken)
}

func TestRowsThatAFunctionLeavesOpenAreClosed(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := mixed(t, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `select n, now(), true, 1.5::float8, 'x'::bytea, null::int from generate_series(1, 1000) n`)
		if err != nil {
			return err
		}
		rows.Next()
		var n, whole any
		var at time.Time
		var ok bool
		var f float64
		var b []byte
		return rows.Scan(&n, &at, &ok, &f, &b, &whole)
	})
	require.NoError(t, apply(t, conn, set, public, first))
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus())
}

func TestTheFolderOfASetWithMigrationsInGoMayHoldTheirSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"1_people.sql": "-- +goose Up\n" + createPeople, "2_names.go": "package migrations"} {
		require.NoError(t, os.WriteFile(dir+"/"+name, []byte(text), 0o600))
	}
	_, err := migrate.Load(os.DirFS(dir))
	require.ErrorIs(t, err, migrate.ErrGo)
	_, err = migrate.Load(os.DirFS(dir), goMigration(splitNames))
	require.NoError(t, err)
	_, err = migrate.Load(fstest.MapFS{}, migrate.GoMigration{Version: 1, Name: "alone"})
	require.NoError(t, err)
}
