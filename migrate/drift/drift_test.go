package drift_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// estate is a house with a tenant of each model on cluster a.
type estate struct {
	*testhouse.House
	shared, schema, own placement.Placement
}

func newEstate(t *testing.T, opts testhouse.Options) estate {
	t.Helper()
	opts.Clusters = []string{"a"}
	h := testhouse.New(t, opts)
	return estate{
		h, h.Add(t, "in-shared", placement.ModelShared, "a"), h.Add(t, "in-schema", placement.ModelSchema, "a"),
		h.Add(t, "in-own", placement.ModelDatabase, "a"),
	}
}

// files are those that the estate's homes were made from, changed.
func files(t *testing.T, change func(fstest.MapFS)) *migrate.Set {
	t.Helper()
	m := fstest.MapFS{}
	paths, err := filepath.Glob(filepath.Join(testhouse.SampleDir(), "*.sql"))
	require.NoError(t, err)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		m[filepath.Base(p)] = &fstest.MapFile{Data: text}
	}
	if change != nil {
		change(m)
	}
	set, err := migrate.Load(fs.FS(m))
	require.NoError(t, err)
	return set
}

// more adds a file to the set.
func more(m fstest.MapFS) {
	m["00004_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nalter table orders add more text;\n")}
}

func (e estate) check(t *testing.T, set *migrate.Set) map[string]drift.Result {
	t.Helper()
	targets, err := drift.Targets(t.Context(), e.Catalog)
	require.NoError(t, err)
	results, err := drift.Check(t.Context(), drift.Config{Catalog: e.Catalog, Set: set}, targets)
	require.NoError(t, err)
	found := make(map[string]drift.Result)
	for _, r := range results {
		found[string(r.Slug)] = r
	}
	require.Len(t, found, 3) // one of them the shared home, which is nobody's
	return found
}

func (e estate) requireAll(t *testing.T, set *migrate.Set, want drift.State, version int64) {
	t.Helper()
	for slug, r := range e.check(t, set) {
		require.Equal(t, want, r.State, "%s: %s %v", slug, r.Reason, r.Differences)
		require.Equal(t, version, r.Version, slug)
	}
}

// residue is what a check has left in the shared database.
func (e estate) residue(t *testing.T) (n int) {
	t.Helper()
	const q = `select (select count(*) from pg_namespace where nspname = 'landlord_drift')
		+ (select count(*) from landlord.schema_version where schema = 'landlord_drift')`
	require.NoError(t, e.Super(t, e.shared.Home.Database).QueryRow(t.Context(), q).Scan(&n))
	return n
}

func TestHomesOfEveryModelAndModeAreInSync(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, testhouse.Options{Mode: mode})
			e.requireAll(t, files(t, nil), drift.InSync, 3)
			require.Zero(t, e.residue(t))
		})
	}
}

func TestEachHomeHasAStateOfItsOwn(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	e.requireAll(t, files(t, more), drift.Behind, 3)
	e.requireAll(t, files(t, nil).Until(2), drift.Ahead, 3)
	require.Contains(t, e.check(t, files(t, nil).Until(2))["in-own"].Reason, "version 3")

	// Behind and changed is not only behind.
	e.SuperExec(t, e.own.Home.Database, "alter table orders drop column placed_at")
	found := e.check(t, files(t, more))
	require.Equal(t, drift.Behind, found["in-schema"].State)
	require.Equal(t, drift.Behind, found[""].State)
	require.Equal(t, drift.Drifted, found["in-own"].State)
	require.Len(t, found["in-own"].Differences, 2) // the column and its index
	require.Equal(t, "orders.placed_at", found["in-own"].Differences[0].Object)
	require.Equal(t, "orders_by_customer", found["in-own"].Differences[1].Object)
	require.Contains(t, found["in-own"].Differences[1].Expected, "placed_at")

	// What was done by hand before its file is drift until the version is on record.
	e.SuperExec(t, e.shared.Home.Database, "alter table public.orders add more text")
	found = e.check(t, files(t, more))
	require.Equal(t, drift.Drifted, found[""].State)
	require.Equal(t, drift.Behind, found["in-schema"].State)

	e.SuperExec(t, e.shared.Home.Database, "drop schema "+pgx.Identifier{e.schema.Home.Schema}.Sanitize()+" cascade")
	e.SuperExec(t, e.own.Home.Database, "drop schema landlord cascade")
	found = e.check(t, files(t, nil))
	require.Equal(t, drift.Unknown, found["in-schema"].State)
	require.Contains(t, found["in-schema"].Reason, "does not exist")
	require.Equal(t, drift.Unknown, found["in-own"].State)
	require.Contains(t, found["in-own"].Reason, "landlord.")
	require.Equal(t, drift.Drifted, found[""].State)
}

func TestAFileThatWasChangedAfterItWasAppliedIsDrift(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	found := e.check(t, files(t, func(m fstest.MapFS) {
		f := m["00002_customers.sql"]
		f.Data = append(f.Data, "\n-- changed"...)
	}))
	for slug, r := range found {
		require.Equal(t, drift.Drifted, r.State, slug)
		require.Len(t, r.Differences, 1)
		require.Equal(t, "migration", r.Differences[0].Kind)
		require.Equal(t, "00002_customers.sql", r.Differences[0].Object)
	}
}

func TestWhatAKilledCheckHasLeftIsInNobodysWay(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	super := e.Super(t, e.shared.Home.Database)
	require.NoError(t, isolation.CreateSchema(t.Context(), super, "landlord_drift", "drift"))
	require.NoError(t, files(t, more).Build(t.Context(), super, "landlord_drift", "drift"))
	require.NotZero(t, e.residue(t))
	e.requireAll(t, files(t, nil), drift.InSync, 3)
	require.Zero(t, e.residue(t))

	// A schema of that name which is somebody's stays.
	e.SuperExec(t, e.shared.Home.Database, "create schema landlord_drift")
	for _, r := range e.check(t, files(t, nil)) {
		require.Equal(t, drift.Unknown, r.State)
		require.Contains(t, r.Reason, isolation.ErrForeign.Error())
	}
	require.Equal(t, 1, e.residue(t))
}

func TestHomesOfALargeDatabaseAreReadInPages(t *testing.T) {
	t.Parallel()
	var all []*drift.Result
	for i := range 25 {
		home := placement.Home{Cluster: "a", Database: []string{"large", "large", "large", "large", "small"}[i%5], Schema: fmt.Sprint(i)}
		all = append(all, &drift.Result{Target: drift.Target{Home: home}})
	}
	var read []*drift.Result
	var sizes []int
	for _, page := range drift.Pages(all, 8) {
		for _, r := range page {
			require.Equal(t, page[0].Home.Database, r.Home.Database)
		}
		read, sizes = append(read, page...), append(sizes, len(page))
	}
	require.ElementsMatch(t, []int{8, 8, 4, 5}, sizes)
	require.ElementsMatch(t, all, read, "each once")
}

func TestChecksTakeTurns(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	targets, err := drift.Targets(t.Context(), e.Catalog)
	require.NoError(t, err)
	group, ctx := errgroup.WithContext(t.Context())
	for range 3 {
		group.Go(func() error {
			results, err := drift.Check(ctx, drift.Config{Catalog: e.Catalog, Set: files(t, nil)}, targets)
			for _, r := range results {
				require.Equal(t, drift.InSync, r.State, r.Reason)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Zero(t, e.residue(t))
}

func TestFilesThatCannotBeBuiltSayNothingOfHomes(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	broken := files(t, func(m fstest.MapFS) { m["00003_orders.sql"].Data = []byte("-- +goose Up\nselect 1/0;\n") })
	for _, r := range e.check(t, broken) {
		require.Equal(t, drift.Unknown, r.State)
		require.Contains(t, r.Reason, "00003_orders.sql")
	}
	require.Zero(t, e.residue(t))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := drift.Check(ctx, drift.Config{Catalog: e.Catalog, Set: broken}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestTargetsAreHomesThatAreThere(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	homes := func(slugs ...tenant.Slug) (all []string) {
		targets, err := drift.Targets(t.Context(), e.Catalog, slugs...)
		require.NoError(t, err)
		for _, target := range targets {
			all = append(all, target.Home.String())
		}
		return all
	}
	require.ElementsMatch(t, []string{e.shared.Home.String(), e.schema.Home.String(), e.own.Home.String()}, homes())
	require.Equal(t, []string{e.shared.Home.String()}, homes("in-shared", "in-shared"))
	require.Equal(t, []string{e.own.Home.String()}, homes("in-own"))
	require.NoError(t, e.Catalog.ScheduleRemoval(t.Context(), e.own.Tenant, 0))
	require.NotContains(t, homes(), e.own.Home.String())
	_, err := drift.Targets(t.Context(), e.Catalog, "nobody")
	require.ErrorIs(t, err, placement.ErrUnknownTenant)

	_, _, err = e.Catalog.Place(t.Context(), placement.Request{ID: e.NewID(t), Slug: "half", Model: placement.ModelSchema, Cluster: "a"})
	require.NoError(t, err)
	require.Len(t, homes(), 2)
	_, err = drift.Targets(t.Context(), e.Catalog, "half")
	require.ErrorContains(t, err, "provisioning")
}
