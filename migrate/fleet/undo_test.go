package fleet_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

const (
	addAndDrop = "-- +goose Up\nalter table customers add column note text;\n-- +goose Down\nalter table customers drop column note;\n"
	addOther   = "-- +goose Up\nalter table customers add column other text;\n-- +goose Down\nalter table customers drop column other;\n"
)

// noted is the sample with two more files that can be undone.
func noted(t *testing.T) *migrate.Set {
	t.Helper()
	return with(t, "00004_note.sql", addAndDrop, "00005_other.sql", addOther)
}

func TestARunDownUndoesWhatARunUpHasDone(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a", "b")
	f := newFleet(t, h, noted(t))
	up(t, f)
	_, err := f.PlanDown(t.Context(), 7, fleet.Options{})
	require.ErrorContains(t, err, "no file of version 7")
	plan, err := f.PlanDown(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Len(t, plan.Targets, 10)
	require.Equal(t, []string{"00005_other.sql", "00004_note.sql"}, plan.Groups[0].Files, "newest first")

	s, err := f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.True(t, s.Run.Down)
	require.EqualValues(t, 3, s.Run.Newest)
	require.Equal(t, map[placement.TargetState]int{placement.TargetVerified: 10}, s.Counts)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home), p.Slug)
		require.False(t, has(t, h, p.Home, "note"))
	}
	targets, err := drift.Targets(t.Context(), h.Catalog)
	require.NoError(t, err)
	results, err := drift.Check(t.Context(), drift.Config{Catalog: h.Catalog, Set: noted(t)}, targets)
	require.NoError(t, err)
	for _, r := range results {
		require.Equal(t, drift.Behind, r.State, r.Reason)
	}

	again, err := f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Empty(t, again.Run, "nothing is above")
	require.Equal(t, 10, again.UpToDate)
	n, _, err := f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "the ledger agrees with the homes")
	plan, err = f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Len(t, plan.Targets, 10)
	up(t, f)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home), p.Slug)
		require.True(t, has(t, h, p.Home, "note"))
	}
}

func TestHomesComeDownFromWhateverVersionTheyHave(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := noted(t)
	f := newFleet(t, h, set)
	// One run was stopped half-way: some have all, some the first file, some nothing of it.
	halfway := newFleet(t, h, set.Until(4))
	s, err := halfway.Up(t.Context(), fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	s, err = f.Up(t.Context(), fleet.Options{First: []string{string(all[1].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, all[1].Home))
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, all[2].Home))
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, all[3].Home))

	s, err = f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "it takes the place of the run that was paused")
	require.Len(t, s.Counts, 1)
	require.Equal(t, 2, s.Counts[placement.TargetVerified])
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home))
	}
}

func TestARunDownIsPausedAndGoneOnWithAndOneFailureStandsAlone(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	f := newFleet(t, h, noted(t))
	up(t, f)
	stuck := all[3].Home
	inHome(t, h, stuck, "set role landlord_owner; create view uses_note as select note from customers")

	s, err := f.Down(t.Context(), 3, fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, all[2].Home))
	require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, all[4].Home))
	s, err = f.Status(t.Context())
	require.NoError(t, err)
	require.True(t, s.Run.Down)

	// The ledger agrees with the homes half-way, too.
	n, _, err := f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)

	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, "2BP01", s.Failures[0].SQLState)
	require.Equal(t, []placement.Home{stuck}, s.Failures[0].Homes)
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, stuck))
	inHome(t, h, stuck, "drop view uses_note")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home))
	}
}

func TestNothingIsUndoneWhereSomethingCannotBe(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	set := with(t, "00004_note.sql", addAndDrop, "00005_gone.sql", "-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column note;\n"+
		"-- +goose Down\nalter table customers add column note text;\n", "00006_other.sql", addNote)
	f := newFleet(t, h, set)
	up(t, newFleet(t, h, set.Until(5)))
	_, err := f.Down(t.Context(), 3, fleet.Options{})
	require.ErrorContains(t, err, "00005_gone.sql is a contract step")
	up(t, f)
	_, err = f.PlanDown(t.Context(), 5, fleet.Options{})
	require.ErrorContains(t, err, "00006_other.sql cannot be undone: it has no Down section")
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, versions(t, h, p.Home))
	}
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	require.False(t, run.Down)
}

func TestInstancesThatNeedAVersionKeepItFromBeingUndone(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, noted(t))
	up(t, f)
	inCatalog(t, h, `insert into landlord.instances (id, name, schema_version) values (gen_random_uuid(), 'web-1', 4), (gen_random_uuid(), 'web-0', 3), (gen_random_uuid(), 'silent', 0)`)
	_, err := f.Down(t.Context(), 3, fleet.Options{})
	require.ErrorIs(t, err, placement.ErrInstances)
	require.ErrorContains(t, err, "web-1 needs version 4")
	require.ErrorContains(t, err, "silent does not say which version it needs")
	require.NotContains(t, err.Error(), "web-0")
	_, err = f.PlanDown(t.Context(), 3, fleet.Options{})
	require.ErrorIs(t, err, placement.ErrInstances)

	// What they do not need may go, and then no further. One that does not say what it needs may need all.
	_, err = f.Down(t.Context(), 4, fleet.Options{})
	require.ErrorIs(t, err, placement.ErrInstances)
	inCatalog(t, h, `delete from landlord.instances where name = 'silent'`)
	s, err := f.Down(t.Context(), 4, fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	inCatalog(t, h, `update landlord.instances set schema_version = 5 where name = 'web-1'`)
	_, err = f.Resume(t.Context(), fleet.Options{})
	require.ErrorIs(t, err, placement.ErrInstances)
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	_, err = h.Catalog.GoOn(t.Context(), run, 0, placement.RunPaused)
	require.ErrorIs(t, err, placement.ErrInstances, "nor if one begins after this was looked at")
	inCatalog(t, h, `update landlord.instances set schema_version = 4 where name = 'web-1'`)
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, all[0].Home))
}

// inCatalog runs SQL in the catalog.
func inCatalog(t *testing.T, h *testhouse.House, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestNoInstanceBeginsThatNeedsWhatIsBeingUndone(t *testing.T) {
	t.Parallel()
	h, _ := street(t, 10, "a")
	f := newFleet(t, h, noted(t))
	up(t, f)
	s, err := f.Down(t.Context(), 3, fleet.Options{StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	id := uuid.NewString()
	err = h.Catalog.Beat(t.Context(), placement.Instance{ID: id, Name: "new", SchemaVersion: 5})
	require.True(t, pgerr.Is(err, pgerr.Behind), "%v", err)
	require.NoError(t, h.Catalog.Beat(t.Context(), placement.Instance{ID: id, Name: "old", SchemaVersion: 3}))
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	up(t, f)
	require.NoError(t, h.Catalog.Beat(t.Context(), placement.Instance{ID: uuid.NewString(), Name: "new", SchemaVersion: 5}))
}

func TestDatabasesAreUndoneAfterTheirHomes(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := with(t,
		"00004_twice.sql", "-- landlord: scope=database\n-- +goose Up\ncreate function twice(n numeric) returns numeric language sql immutable return 2 * n;\n"+
			"-- +goose Down\ndrop function twice(numeric);\n",
		"00005_double.sql", "-- +goose Up\nalter table customers add column double numeric default twice(1);\n"+
			"-- +goose Down\nalter table customers drop column double;\n",
		"00006_server.sql", "-- landlord: scope=server\n-- +goose Up\ncreate role landlord_undo_test;\n-- +goose Down\ndrop role landlord_undo_test;\n")
	f := newFleet(t, h, set)
	up(t, f)
	stuck := all[2].Home
	inHome(t, h, stuck, "set role landlord_owner; create view uses_double as select double from customers")
	s, err := f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, []int64{4}, databaseVersions(t, h, stuck, migrate.DatabasePlace), "a home there still uses it")
	require.Equal(t, []int64{6}, databaseVersions(t, h, stuck, migrate.ServerPlace))
	require.Empty(t, databaseVersions(t, h, all[1].Home, migrate.DatabasePlace), "a dedicated database goes by itself")
	require.Equal(t, 3, s.Counts[placement.TargetFailed])

	inHome(t, h, stuck, "drop view uses_double")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home))
		require.Empty(t, databaseVersions(t, h, p.Home, migrate.DatabasePlace))
		require.Empty(t, databaseVersions(t, h, p.Home, migrate.ServerPlace))
	}
}

func databaseVersions(t *testing.T, h *testhouse.House, home placement.Home, place string) []int64 {
	t.Helper()
	home.Schema = place
	return versions(t, h, home)
}

func TestMigrationsInGoRunInTheWholeFleetAndATenantAddedMeanwhileIsUndoneToo(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	goUp := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `alter table customers add column note text`)
		return err
	}
	set := withGo(t, migrate.GoMigration{Version: 4, Name: "00004_note.go", Up: goUp, Down: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `alter table customers drop column note`)
		return err
	}})
	f := newFleet(t, h, set)
	release := hold(t, h, all[2].Home)
	var g errgroup.Group
	g.Go(func() error { up(t, f); return nil })
	verified(t, f, 3)
	release()
	require.NoError(t, g.Wait(), "a lock is waited for")
	for _, p := range all {
		require.True(t, has(t, h, p.Home, "note"))
	}

	release = hold(t, h, all[2].Home)
	g.Go(func() error {
		s, err := f.Down(t.Context(), 3, fleet.Options{})
		require.Equal(t, placement.RunDone, s.Run.State)
		return err
	})
	verified(t, f, 3)
	late := h.Add(t, "late", placement.ModelSchema, "a") // from older files
	conn := h.Super(t, late.Home.Database)
	m := set.Migrations()[3]
	_, err := m.Apply(t.Context(), conn, migrate.Target{Scope: migrate.ScopeTenant, Schema: late.Home.Schema, Tenant: late.Tenant.String()},
		migrate.Attempt{Run: "7b0f4f0e-1bd1-4df7-8a39-61d3a3b60a20", Lease: 1}, migrate.Limits{Lock: time.Second})
	require.NoError(t, err)
	release()
	require.NoError(t, g.Wait())
	for _, p := range append(all, late) {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home))
	}
}

func TestARunUpTakesThePlaceOfARunDownThatIsPaused(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, noted(t))
	up(t, f)
	s, err := f.Down(t.Context(), 4, fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	_, err = f.Down(t.Context(), 4, fleet.Options{})
	require.ErrorIs(t, err, placement.ErrRunState, "the same run is resumed, not begun again")
	up(t, f)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home))
	}
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	require.False(t, run.Down)
	abandoned, err := h.Catalog.RunByID(t.Context(), s.Run.ID)
	require.NoError(t, err)
	require.Equal(t, placement.RunAbandoned, abandoned.State)
}
