package fleet_test

import (
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// goosed empties homes and lets real goose make them up to a version, as the superuser or, where it is given, as another role.
func goosed(t *testing.T, h *testhouse.House, fsys fs.FS, to int64, role string, homes ...placement.Home) {
	t.Helper()
	for _, home := range homes {
		inHome(t, h, home, "drop table if exists order_lines, orders, customers, currencies cascade; delete from landlord.schema_version where schema = "+
			"'"+home.Schema+"'; delete from landlord.schema_step")
		cfg, err := pgx.ParseConfig(pgtest.WithDatabase(h.Server.DSN, home.Database))
		require.NoError(t, err)
		cfg.RuntimeParams["search_path"] = pgx.Identifier{home.Schema}.Sanitize() + ", extensions"
		if role != "" {
			h.SuperExec(t, home.Database, "grant create, usage on schema "+pgx.Identifier{home.Schema}.Sanitize()+", extensions to "+role+
				"; grant usage on schema landlord to "+role+"; grant execute on function landlord.tenant to "+role)
			cfg.RuntimeParams["role"] = role
		}
		db := stdlib.OpenDB(*cfg)
		provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true))
		require.NoError(t, err)
		_, err = provider.UpTo(t.Context(), to)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}

func takeOver(t *testing.T, f *fleet.Fleet, o fleet.BaselineOptions) map[placement.Home]fleet.Taken {
	t.Helper()
	results, err := f.Baseline(t.Context(), o)
	require.NoError(t, err)
	byHome := map[placement.Home]fleet.Taken{}
	for _, r := range results {
		byHome[r.Home] = r
	}
	return byHome
}

func TestAFleetOfGooseIsTakenOverAndGoesOn(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	shared, dedicated, one, two := all[0].Home, all[1].Home, all[2].Home, all[3].Home
	owner := "landlord_test_shopkeeper_" + h.Clusters[0]
	h.SuperExec(t, "postgres", `do $$ begin if to_regrole('`+owner+`') is null then create role `+owner+`; end if; end $$`)
	files := sample(t)
	goosed(t, h, files, 3, "", shared, one)
	goosed(t, h, files, 2, owner, dedicated)
	f := newFleet(t, h, with(t, "00004_note.sql", addAndDrop))

	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	var problems int
	for _, g := range plan.Groups {
		if g.Problem != "" {
			require.Contains(t, g.Problem, "run landlord migrate baseline")
			problems += g.Count
		}
	}
	require.Equal(t, 3, problems)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, 3, s.Counts[placement.TargetFailed])

	dry := takeOver(t, f, fleet.BaselineOptions{DryRun: true})
	require.Equal(t, []string{"00001_currencies.sql", "00002_customers.sql", "00003_orders.sql"}, dry[shared].Files)
	require.Equal(t, []string{"00001_currencies.sql", "00002_customers.sql"}, dry[dedicated].Files)
	require.Empty(t, versions(t, h, shared))
	named := takeOver(t, f, fleet.BaselineOptions{Tenants: []string{string(all[2].Slug)}})
	require.Len(t, named, 1)
	require.Equal(t, migrate.Taken, named[one].State)

	taken := takeOver(t, f, fleet.BaselineOptions{})
	for home, want := range map[placement.Home]migrate.TakeoverState{shared: migrate.Taken, dedicated: migrate.Taken, one: migrate.Versioned, two: migrate.Versioned} {
		require.NoError(t, taken[home].Err)
		require.Equal(t, want, taken[home].State, home)
	}
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, shared))
	require.Equal(t, []int64{1, 2}, versions(t, h, dedicated))
	before := versions(t, h, shared)
	for home, r := range takeOver(t, f, fleet.BaselineOptions{}) {
		require.Equal(t, migrate.Versioned, r.State, home)
	}
	require.Equal(t, before, versions(t, h, shared), "twice is once")

	up(t, f)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
		require.True(t, has(t, h, p.Home, "note"))
	}
	// They are what the files make, but for goose's table, which stays, and what the role that was the owner may still do.
	inHome(t, h, dedicated, "revoke all on schema public, extensions from "+owner)
	targets, err := drift.Targets(t.Context(), h.Catalog)
	require.NoError(t, err)
	results, err := drift.Check(t.Context(), drift.Config{Catalog: h.Catalog, Set: with(t, "00004_note.sql", addAndDrop)}, targets)
	require.NoError(t, err)
	for _, r := range results {
		for _, d := range r.Differences {
			require.Contains(t, d.Object, "goose_db_version", "%s: %+v", r.Home, d)
		}
		if r.Home == two {
			require.Equal(t, drift.InSync, r.State)
		}
		inHome(t, h, r.Home, "drop table if exists goose_db_version")
	}
	results, err = drift.Check(t.Context(), drift.Config{Catalog: h.Catalog, Set: with(t, "00004_note.sql", addAndDrop)}, targets)
	require.NoError(t, err)
	for _, r := range results {
		require.Equal(t, drift.InSync, r.State, "%s: %v", r.Home, r.Differences)
	}
}

func TestWhatCannotBeTakenOverStaysAsItWas(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	unknown, hole, undone, held := all[2].Home, all[3].Home, all[4].Home, all[1].Home
	files := sample(t)
	goosed(t, h, files, 3, "", unknown, hole, undone, held)
	inHome(t, h, unknown, "insert into goose_db_version (version_id, is_applied) values (9, true)")
	inHome(t, h, hole, "delete from goose_db_version where version_id = 2")
	inHome(t, h, undone, "insert into goose_db_version (version_id, is_applied) values (3, false); drop table order_lines, orders")
	inHome(t, h, held, "insert into landlord.move_hold values ('"+held.Schema+"', gen_random_uuid())")
	f := newFleet(t, h, with(t), func(c *fleet.Config) { c.Retry = 200 * time.Millisecond })
	taken := takeOver(t, f, fleet.BaselineOptions{})
	require.ErrorContains(t, taken[unknown].Err, "version 9 here, and the files know no such version")
	require.ErrorContains(t, taken[hole].Err, "00002_customers.sql is not applied here though the later version 3 is")
	require.ErrorContains(t, taken[held].Err, "it is being moved")
	require.NoError(t, taken[undone].Err)
	require.Equal(t, []string{"00001_currencies.sql", "00002_customers.sql"}, taken[undone].Files, "the last row of a version counts")
	for _, home := range []placement.Home{unknown, hole, held} {
		require.Empty(t, versions(t, h, home))
		var owner string
		require.NoError(t, h.Super(t, home.Database).QueryRow(t.Context(), `select relowner::regrole::text from pg_class where oid = to_regclass($1)`,
			pgx.Identifier{home.Schema, "customers"}.Sanitize()).Scan(&owner))
		require.NotEqual(t, "landlord_owner", owner)
	}

	// A table that somebody sits in is waited for, and left when that lasts.
	inHome(t, h, hole, "insert into goose_db_version (version_id, is_applied) values (2, true)")
	release := hold(t, h, hole)
	require.Error(t, takeOver(t, f, fleet.BaselineOptions{})[hole].Err)
	require.Empty(t, versions(t, h, hole))
	release()
	require.Equal(t, migrate.Taken, takeOver(t, f, fleet.BaselineOptions{})[hole].State)
}

func TestFilesForTheWholeDatabaseAreTakenOverOnceAndGooseMayHaveAnotherTable(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	files := sample(t, "00004_twice.sql", "-- landlord: scope=database\n-- +goose Up\nselect 1;\n",
		"00005_server.sql", "-- landlord: scope=server\n-- +goose Up\nselect 1;\n", "00006_note.sql", addNote)
	loaded, err := migrate.Load(files)
	require.NoError(t, err)
	shared, dedicated, one := all[0].Home, all[1].Home, all[2].Home
	goosed(t, h, files, 6, "", shared, dedicated, one)
	for _, home := range []placement.Home{shared, dedicated, one} {
		inHome(t, h, home, "alter table goose_db_version rename to versions")
	}
	f := newFleet(t, h, loaded)
	require.Equal(t, migrate.Untouched, takeOver(t, f, fleet.BaselineOptions{})[shared].State)
	taken := takeOver(t, f, fleet.BaselineOptions{Table: "versions"})
	require.NoError(t, taken[one].Err)
	require.Equal(t, []int64{1, 2, 3, 6}, versions(t, h, one))
	for home, want := range map[placement.Home][]int64{shared: {5}, dedicated: nil} {
		require.Equal(t, []int64{4}, databaseVersions(t, h, home, migrate.DatabasePlace))
		require.ElementsMatch(t, want, databaseVersions(t, h, home, migrate.ServerPlace))
	}
	up(t, f)
}

func TestAHomeWhoseTablesTheOperatorMayNotGiveAwaySaysWhatToGrant(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	home := all[2].Home
	goosed(t, h, os.DirFS(testhouse.SampleDir()), 3, "", home)
	// An operator that is no superuser.
	conn := h.Super(t, home.Database)
	_, err := conn.Exec(t.Context(), `set role landlord_migrator`)
	require.NoError(t, err)
	_, err = with(t).Baseline(t.Context(), conn, migrate.Target{Scope: migrate.ScopeTenant, Schema: home.Schema, Tenant: all[2].Tenant.String()}, migrate.Baseline{})
	require.Error(t, err)
	require.Regexp(t, `grant \S+ to \S+`, err.Error())
	require.Empty(t, versions(t, h, home))
}

func TestSettingUpADatabaseThatGooseHasMadeRunsNothing(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	c, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	home := placement.Home{Cluster: "a", Database: c.SharedDatabase, Schema: placement.SharedSchema}
	goosed(t, h, sample(t), 2, "", home)
	for range 2 {
		_, err = h.Service.SetUp(t.Context(), c)
		require.ErrorIs(t, err, migrate.ErrGoose)
		require.ErrorContains(t, err, "run landlord migrate baseline")
		require.Empty(t, versions(t, h, home))
	}
	require.Equal(t, migrate.Taken, takeOver(t, newFleet(t, h, with(t)), fleet.BaselineOptions{})[home].State)
	changed, err := h.Service.SetUp(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, []string{"cluster a: applied 1 migrations in " + c.SharedDatabase}, changed)
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, home))
}
