package migrate_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
)

// files makes a directory of goose files from alternating names and texts; "Up" is prefixed where
// the text has no annotation of its own.
func files(namesAndTexts ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(namesAndTexts); i += 2 {
		text := namesAndTexts[i+1]
		if !strings.Contains(text, "+goose Up") {
			text = "-- +goose Up\n" + text
		}
		fsys[namesAndTexts[i]] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestSetHoldsFilesInOrderOfVersion(t *testing.T) {
	t.Parallel()
	set, err := migrate.Load(files(
		"10_c.sql", "create table c ();",
		"9_b.sql", "create table b ();",
		"8_a.sql", "create table a ();",
		"20240102030405_d.sql", "create table d ();",
		"20250102030405_e.sql", "create table e ();",
		"helpers.go", "package migrations",
		"9_b_test.go", "package migrations",
		"notes.txt", "not a migration",
	))
	require.NoError(t, err)
	require.Equal(t, []int64{8, 9, 10, 20240102030405, 20250102030405}, set.Versions())
	require.Equal(t, []string{"create table a ();"}, set.Migrations()[0].Statements)
}

func TestSetWithoutFilesIsEmpty(t *testing.T) {
	t.Parallel()
	set, err := migrate.Load(fstest.MapFS{})
	require.NoError(t, err)
	require.Empty(t, set.Versions())
	require.Empty(t, set.Migrations())
}

func TestChecksumIsTheFilesSHA256(t *testing.T) {
	t.Parallel()
	set, err := migrate.Load(fstest.MapFS{"1_a.sql": {Data: []byte("-- +goose Up\n")}})
	require.NoError(t, err)
	// printf -- '-- +goose Up\n' | sha256sum
	require.Equal(t, "d6f9ebad8844348044d4a7babff440d1547d687488467b8e406c48fd771acfd4", set.Migrations()[0].Checksum)
}

func TestNoTransactionIsNoted(t *testing.T) {
	t.Parallel()
	set, err := migrate.Load(os.DirFS("testdata/concurrent"))
	require.NoError(t, err)
	var marked []bool
	for _, m := range set.Migrations() {
		marked = append(marked, m.NoTransaction)
	}
	require.Equal(t, []bool{false, true, false}, marked)
}

func TestVariablesAreThoseOfTheProcess(t *testing.T) {
	t.Setenv("LANDLORD_TEST_STATE", "paid")
	set, err := migrate.Load(os.DirFS("testdata/shop"))
	require.NoError(t, err)
	orders := set.Migrations()[2].Statements
	require.Contains(t, orders[0], "default 'paid'")
	require.Contains(t, orders[1], "${not} a variable")
}

func TestLoadRefusesWhatDoesNotMakeASet(t *testing.T) {
	t.Parallel()
	const ok = "select 1;"
	for name, c := range map[string]struct {
		dir  fstest.MapFS
		want []string
	}{
		"hole":       {files("1_a.sql", ok, "3_c.sql", ok), []string{"no file for version 2", "1_a.sql", "3_c.sql"}},
		"duplicate":  {files("1_a.sql", ok, "01_b.sql", ok), []string{"version 1 exists twice", "01_b.sql"}},
		"no version": {files("1_a.sql", ok, "orders.sql", ok), []string{"orders.sql", "rename"}},
		"zero byte":  {files("1_a.sql", "-- +goose Up\nselect '\x00';"), []string{"1_a.sql", "zero byte"}},
		"go":         {files("1_a.sql", ok, "2_b.go", "package x"), []string{"2_b.go", "migrate.Load(folder, migrations...)"}},
		"syntax":     {files("1_a.sql", "select 1"), []string{"1_a.sql", "semicolon"}},
		"no up":      {fstest.MapFS{"1_a.sql": {Data: []byte(ok)}}, []string{"1_a.sql", "goose"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := migrate.Load(c.dir)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestLoadRefusesStatementsThatReachBeyondTheirFile(t *testing.T) {
	t.Parallel()
	const transaction, path, role = "controls the transaction", "changes the search path", "changes the role"
	const schema = "leave the name unqualified"
	for sql, want := range map[string]string{
		"begin;":                                 transaction,
		"COMMIT;":                                transaction,
		"/* a /* nested */ comment */ rollback;": transaction,
		"start transaction isolation level serializable;":                       transaction,
		"prepare transaction 'x';":                                              transaction,
		"savepoint a;":                                                          transaction,
		"set transaction read only;":                                            transaction,
		"create table a (); commit; begin;":                                     transaction,
		"select 'a;b'; end;":                                                    transaction,
		"create rule r as on insert to a do (select 1; select 2); commit;":      transaction,
		"set search_path = public;":                                             path,
		"SET LOCAL Search_Path TO a, b;":                                        path,
		`set session "search_path" = a;`:                                        path,
		"set schema 'a';":                                                       path,
		"reset all;":                                                            path,
		"discard all;":                                                          path,
		"select pg_catalog.set_config('search_path', '', false);":               path,
		"select 1 where set_config(E'search_\\path', 'a', true) is null;":       path,
		"do $$ begin set local search_path = a; end $$;":                        path,
		"do $x$ begin perform set_config('search_path', 'a', false); end $x$;":  path,
		"set role postgres;":                                                    role,
		"set session authorization postgres;":                                   role,
		"reset session authorization;":                                          role,
		"copy a from stdin;":                                                    "use INSERT",
		"create schema a;":                                                      schema,
		"drop schema if exists a cascade;":                                      schema,
		"create table public.a (id int);":                                       schema,
		`create unlogged table if not exists "Public" . "a" ();`:                schema,
		"alter table if exists only public.a add b int;":                        schema,
		"drop table a, public.b;":                                               schema,
		"create or replace view public.v as select 1;":                          schema,
		"drop materialized view public.v;":                                      schema,
		"create sequence public.s;":                                             schema,
		"create type public.t as enum ('a');":                                   schema,
		"create or replace function public.f() returns int language sql as '';": schema,
		"create unique index i on public.a (b);":                                schema,
		"drop index concurrently public.i;":                                     schema,
		"create trigger t after update on public.a execute function f();":       schema,
		"comment on table public.a is 'landlord: reference';":                   schema,
		"create table a (b int references public.b);":                           schema,
		"alter table a add foreign key (b) references public.b (id);":           schema,
		"insert into public.a values (1);":                                      schema,
		"with x as (select 1) update only public.a set b = 1;":                  schema,
		"delete from public.a;":                                                 schema,
		"truncate table a, public.b;":                                           schema,
		"alter table a set schema b;":                                           schema,
		"create index concurrently on a (b);":                                   "needs a name",
		"select 'open;":                                                         "never closed",
		"select 1 /* open;":                                                     "never closed",
		"select $a$ $b$;":                                                       "never closed",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			_, err := migrate.Load(files("00001_fine.sql", "select 1;", "00002_bad.sql", sql))
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, "00002_bad.sql")
		})
	}
}

func TestLoadAcceptsWhatOnlyLooksLikeIt(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"comment on table a is 'begin; commit; set search_path = b';",
		`create table "begin" ("commit" int, "set search_path" int);`,
		"create table a (role text, search_path text);",
		"update a set role = 'x', search_path = 'y';",
		"create function f() returns int language sql set search_path = pg_catalog as 'select 1';",
		"create function f() returns void language plpgsql as $$ begin set local search_path = a; end $$;",
		"create function f() returns int begin atomic select case when true then 1 end; select 2; end;",
		"create or replace procedure p() language sql begin atomic insert into a values (1); end;",
		"create function f() returns text begin atomic select set_config('search_path', 'a', true); end;",
		"create table a (id uuid default extensions.gen_random_uuid(), c extensions.citext, check (a.id is not null));",
		"create index i on a using gin (b extensions.gin_trgm_ops);",
		"create trigger t before insert or update of b on a for each row execute function pg_catalog.suppress_redundant_updates_trigger();",
		"create view v as select a.b from a join information_schema.tables t on t.table_name = a.b;",
		"drop function f(extensions.citext, pg_catalog.int4);",
		"comment on column a.b is 'public.a';",
		"insert into a select b.c from b on conflict (id) do update set c = excluded.c;",
		"update a set b = c.d from c where a.id = c.id;",
		"delete from a using b where b.id = a.id;",
		"create table a (b int references b on delete cascade on update set null, primary key (b));",
		"create function pg_temp.f() returns int language sql as 'select 1';",
		"create extension if not exists citext schema extensions;",
		"alter default privileges in schema a grant select on tables to b;",
		"set local lock_timeout = '1s';",
		"set time zone 'UTC';",
		"set constraints all deferred;",
		"prepare q as select $1;",
		"select $1::text, $tag$ commit; $tag$, e'\\'; commit;';",
		"-- commit;\nselect 1 -- ; rollback;\n;",
		"copy a from '/tmp/x';",
		"do language plpgsql $$ begin update users set role = 'x'; end $$;",
		"create unique index concurrently if not exists \"a b\" on a (b);",
		";;",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			_, err := migrate.Load(files("00001_a.sql", sql))
			require.NoError(t, err)
		})
	}
}
