package main_test

import (
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
)

const thing = `-- +goose Up
create type mood as enum ('good', 'bad');
create table things (tenant_id uuid, id bigint generated always as identity, name text, mood mood, primary key (tenant_id, id));
create function shout(s text) returns text language sql immutable return upper(s);
create view loud_things as select tenant_id, id, shout(name) as name from things;
`

// gooseDatabase makes database app on cluster a as an application would that knows nothing of landlord, with a role of its own,
// and lets goose migrate it.
func (s *shop) gooseDatabase() {
	s.t.Helper()
	super, err := url.Parse(strings.TrimSpace(read(s.t, s, ".landlord/secrets/a.operator.dsn")))
	require.NoError(s.t, err)
	open := func(database, role string) *sql.DB {
		u := *super
		u.Path = "/" + database
		cfg, err := pgx.ParseConfig(u.String())
		require.NoError(s.t, err)
		if role != "" {
			cfg.RuntimeParams["role"] = role
		}
		db := stdlib.OpenDB(*cfg)
		s.t.Cleanup(func() { _ = db.Close() })
		return db
	}
	for _, q := range []string{"create role shopkeeper", "create database app owner shopkeeper"} {
		_, err := open("postgres", "").ExecContext(s.t.Context(), q)
		require.NoError(s.t, err)
	}
	db := open("app", "shopkeeper")
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS(filepath.Join(s.dir, ".landlord/migrations")), goose.WithDisableGlobalRegistry(true))
	require.NoError(s.t, err)
	_, err = provider.Up(s.t.Context())
	require.NoError(s.t, err)
	_, err = db.ExecContext(s.t.Context(), `insert into things (tenant_id, name) values ('0b6ff7b6-4c2f-4a51-9d0a-8f6a2c9f4d11', 'first'), ('5a3c1c0e-97c5-4a2e-8b51-1d5d7f3f9a22', 'second')`)
	require.NoError(s.t, err)
	require.NoError(s.t, db.Close())
}

func TestADatabaseThatGooseHasMadeIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	for _, f := range []string{"00001_currencies.sql", "00002_customers.sql", "00003_orders.sql"} {
		require.NoError(t, os.Remove(filepath.Join(s.dir, ".landlord/migrations", f)))
	}
	s.write(".landlord/migrations/00001_things.sql", thing)
	s.gooseDatabase()
	psql := func(q string) string { return s.ok("dev", "psql", "--cluster", "a", "--database", "app", "-c", q) }

	// A database that nobody has handed over stays as it is.
	r := s.run("init", "--json")
	require.Equal(t, 3, r.status, r.stderr)
	require.Contains(t, r.stderr, `alter database "app" owner to landlord_owner`)
	require.NotContains(t, psql(`\dn`), "landlord")
	psql(`create role landlord_owner nologin`)
	psql(`alter database app owner to landlord_owner`)

	// Then init says what to do, and touches no table.
	for range 2 {
		r = s.run("init", "--json")
		require.Equal(t, 3, r.status, r.stderr)
		require.Contains(t, r.stderr, "goose has made the tables here")
		require.Contains(t, r.stderr, "landlord migrate baseline")
		require.NotContains(t, r.stderr, "already exists")
	}
	r = s.run("init", "--dry-run")
	require.Contains(t, r.stderr+r.stdout, "landlord migrate baseline")
	require.Contains(t, psql(`\d`), "shopkeeper")
	r = s.run("migrate", "plan")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord migrate baseline")

	type output struct {
		Homes []struct {
			Home, State, Error string
			Files              []string
		}
		States map[string]int
		Failed int
	}
	plan := parse[output](t, s.ok("migrate", "baseline", "--dry-run", "--json"))
	require.Equal(t, map[string]int{"taken": 1, "versioned": 1}, plan.States, "cluster b was built by landlord")
	require.Equal(t, []string{"00001_things.sql"}, plan.Homes[0].Files)
	require.Contains(t, s.ok("migrate", "baseline", "--table", "nothing"), "1 without a table of goose's")
	require.Contains(t, psql(`\d`), "shopkeeper")
	require.Contains(t, s.ok("migrate", "baseline"), "a/app/public: taken over with 1 file\n")
	require.NotContains(t, psql(`\d`), "shopkeeper")
	require.Equal(t, map[string]int{"versioned": 2}, parse[output](t, s.ok("migrate", "baseline", "--json")).States)
	s.ok("init")
	require.Equal(t, 0, parse[initOutput](t, s.ok("init", "--json")).Changed)

	// The tenants that were there get their own rows, and the next file is landlord's to apply.
	s.ok("tenant", "add", "one", "--model", "shared", "--cluster", "a", "--id", "0b6ff7b6-4c2f-4a51-9d0a-8f6a2c9f4d11")
	seen := s.inside("one", "select name from loud_things")
	require.Contains(t, seen, "FIRST")
	require.NotContains(t, seen, "SECOND")
	s.write(".landlord/migrations/00002_mood.sql", "-- +goose Up\nalter type mood add value 'fair' after 'good';\nalter table things add column note text;\n")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--json")).State)
	s.inside("one", "insert into things (name, note) values ('third', 'x')")
	s.drift(0)
	psql(`drop table goose_db_version`)
	s.drift(0)
}
