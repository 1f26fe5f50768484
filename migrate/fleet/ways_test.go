package fleet_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// files are the sample's migrations and then one that adds a column for each version up to the last.
func files(t testing.TB, last int) *migrate.Set {
	t.Helper()
	var more []string
	for v := 4; v <= last; v++ {
		more = append(more, fmt.Sprintf("%05d_more.sql", v), fmt.Sprintf("alter table customers add column more_%d text;", v))
	}
	return with(t, more...)
}

// way is one of the ways to bring many schemas to a version. Each has a database of its own.
type way struct {
	name string
	add  func(t testing.TB, schemas []string)                    // makes empty ones
	up   func(t testing.TB, schemas []string, last, workers int) // brings these to the version
}

// landlordWay is this package's. Its figures have the ledger in them, and, unless drift is allowed, the look for it before a run.
func landlordWay(t testing.TB, h *testhouse.House, name string, allowDrift bool) way {
	cluster, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	add := func(t testing.TB, schemas []string) {
		t.Helper()
		newHomes(t, h, cluster.SharedDatabase, schemas)
	}
	up := func(t testing.TB, schemas []string, last, workers int) {
		t.Helper()
		f := newFleet(t, h, files(t, last), func(c *fleet.Config) { c.Workers, c.AllowDrift = workers, allowDrift })
		s, err := f.Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.True(t, s.Whole(), "%+v", s)
		require.GreaterOrEqual(t, s.UpToDate+s.Counts[placement.TargetVerified], len(schemas))
	}
	return way{name, add, up}
}

// newHomes makes empty schema homes for tenants that only the catalog knows, and returns their ids.
func newHomes(t testing.TB, h *testhouse.House, database string, schemas []string) (ids []string) {
	t.Helper()
	super := h.Super(t, database)
	ids = make([]string, len(schemas))
	for i, s := range schemas {
		ids[i] = h.NewID(t).String()
		require.NoError(t, isolation.CreateSchema(t.Context(), super, s, ids[i]))
	}
	catalog, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(t.Context())
	const insert = `
with n as (select * from unnest($1::text[], $2::text[]) n (id, schema)),
t as (insert into landlord.tenants (id, slug, state) select id, replace(schema, '_', '-'), 'active' from n)
insert into landlord.placements (tenant, model, cluster, database, schema, epoch) select id, 'schema', 'a', $3, schema, 1 from n`
	_, err = catalog.Exec(t.Context(), insert, ids, schemas, database)
	require.NoError(t, err)
	return ids
}

// plainDatabase has schemas that know nothing of landlord, and one table of versions.
func plainDatabase(t testing.TB) (dsn string, add func(t testing.TB, schemas []string)) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	send(t, dsn, "create table public.versions (schema name, version bigint, primary key (schema, version))")
	return dsn, func(t testing.TB, schemas []string) {
		t.Helper()
		for page := range slices.Chunk(schemas, 100) {
			send(t, dsn, "create schema "+strings.Join(page, "; create schema "))
		}
	}
}

func send(t testing.TB, dsn, text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.PgConn().Exec(t.Context(), text).ReadAll()
	require.NoError(t, err)
}

// naiveGoose is what one does first: a connection pool and a provider for each schema.
func naiveGoose(t testing.TB) way {
	dsn, add := plainDatabase(t)
	up := func(t testing.TB, schemas []string, last, workers int) {
		t.Helper()
		fsys := fstest.MapFS{}
		for _, m := range files(t, last).Migrations() {
			fsys[m.File] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + strings.Join(m.Statements, "\n"))}
		}
		var g errgroup.Group
		g.SetLimit(workers)
		for _, schema := range schemas {
			g.Go(func() error {
				cfg, err := pgx.ParseConfig(dsn)
				if err != nil {
					return err
				}
				cfg.RuntimeParams["search_path"] = schema
				db := stdlib.OpenDB(*cfg)
				defer db.Close()
				provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true))
				if err != nil {
					return err
				}
				_, err = provider.Up(context.WithoutCancel(t.Context()))
				return err
			})
		}
		require.NoError(t, g.Wait())
	}
	return way{"goose, naive", add, up}
}

// rawString is the least that it can cost: one message for each schema, whatever number of files, and nothing is looked at.
func rawString(t testing.TB) way {
	dsn, add := plainDatabase(t)
	have := make(map[string]int) // what a schema has already
	up := func(t testing.TB, schemas []string, last, workers int) {
		t.Helper()
		set, texts := files(t, last), make(map[string]string)
		for _, s := range schemas {
			texts[s] = rawText(set, s, have[s])
			have[s] = last
		}
		var g errgroup.Group
		for page := range slices.Chunk(schemas, (len(schemas)+workers-1)/workers) {
			g.Go(func() error {
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					return err
				}
				for _, s := range page {
					if _, err := conn.PgConn().Exec(t.Context(), texts[s]).ReadAll(); err != nil {
						return err
					}
				}
				return conn.Close(t.Context())
			})
		}
		require.NoError(t, g.Wait())
	}
	return way{"raw string", add, up}
}

// bareStep is what a run sends to homes, and nothing else of it: for each file of each home landlord's own message, with settings, lease,
// securing and version row, on one connection for each worker. The homes are those of an installation of its own.
func bareStep(t testing.TB) way {
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	cluster, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	login, err := cluster.LoginConfig(isolation.MigratorRole, cluster.SharedDatabase)
	require.NoError(t, err)
	tenants := make(map[string]string) // by schema
	add := func(t testing.TB, schemas []string) {
		t.Helper()
		for i, id := range newHomes(t, h, cluster.SharedDatabase, schemas) {
			tenants[schemas[i]] = id
		}
	}
	have := make(map[string]int) // what a schema has already
	by := migrate.Attempt{Run: uuid.NewString()}
	limits := migrate.Limits{Lock: 100 * time.Millisecond, Statement: time.Minute} // those of fleet.New
	up := func(t testing.TB, schemas []string, last, workers int) {
		t.Helper()
		set := files(t, last)
		by.Lease++
		var g errgroup.Group
		for page := range slices.Chunk(schemas, (len(schemas)+workers-1)/workers) {
			g.Go(func() error {
				conn, err := pgx.ConnectConfig(t.Context(), login)
				if err != nil {
					return err
				}
				for _, s := range page {
					to := migrate.Target{Scope: migrate.ScopeTenant, Schema: s, Tenant: tenants[s]}
					for _, m := range set.Migrations()[have[s]:] {
						if _, err := m.Apply(t.Context(), conn, to, by, limits); err != nil {
							return err
						}
					}
				}
				return conn.Close(t.Context())
			})
		}
		require.NoError(t, g.Wait())
		for _, s := range schemas {
			have[s] = last
		}
	}
	return way{"bare step", add, up}
}

func rawText(set *migrate.Set, schema string, have int) string {
	var b strings.Builder
	b.WriteString("begin;set local lock_timeout = 100;set local search_path = " + schema + ";\n")
	for _, m := range set.Migrations()[have:] {
		b.WriteString(strings.Join(m.Statements, "\n;\n"))
		fmt.Fprintf(&b, "\n;insert into public.versions values ('%s', %d);\n", schema, m.Version)
	}
	return b.String() + "commit"
}

// race lets all ways do the same by turns, in an order drawn anew for each round, so that what disturbs the machine disturbs
// all. before, if not nil, prepares a round. It returns what each way cost, by name and round.
func race(c clock, ways []way, rounds int, before func(round int), run func(w way, round int)) map[string][]cost {
	costs := make(map[string][]cost)
	for round := range rounds {
		if before != nil {
			before(round)
		}
		for _, i := range rand.Perm(len(ways)) {
			costs[ways[i].name] = append(costs[ways[i].name], c.measure(func() { run(ways[i], round) }))
		}
	}
	return costs
}

// rows are a table's lines: schemas per second and processor time for each, by each way's median round, and how many times
// landlord's time and processor time a way took, as the median of the rounds' ratios, with their range.
func rows(what string, workers, schemas int, ways []way, costs map[string][]cost) string {
	var b strings.Builder
	ours := costs["landlord"]
	for _, w := range ways {
		var took, cpu, byTime, byCPU []float64
		for i, c := range costs[w.name] {
			t, p := c.ratio(ours[i])
			took, cpu, byTime, byCPU = append(took, c.time.Seconds()), append(cpu, c.cpu.Seconds()), append(byTime, t), append(byCPU, p)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %.0f | %.2f |", what, workers, w.name, float64(schemas)/median(took), 1000*median(cpu)/float64(schemas))
		if w.name == "landlord" {
			b.WriteString(" | | |\n")
			continue
		}
		fmt.Fprintf(&b, " %s | %s to %s | %s |\n", times(median(byTime)), times(slices.Min(byTime)), times(slices.Max(byTime)), times(median(byCPU)))
	}
	return b.String()
}

// table grows while the races are run, and is printed as it grows: they take a while.
type table struct{ strings.Builder }

func (tab *table) add(t testing.TB, rows string) {
	t.Helper()
	tab.WriteString(rows)
	t.Log("\n" + rows)
}

func median[T cmp.Ordered](all []T) T {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}
