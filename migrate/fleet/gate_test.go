package fleet_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

// dropName takes away what the sample application reads.
const dropName = "-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column name;\n"

// phases is the sample with a change in phases: expand, validate, contract.
func phases(t testing.TB, more ...string) *migrate.Set {
	t.Helper()
	return with(t, append([]string{
		"00004_note.sql", addNote,
		"00005_whole.sql", "-- landlord: phase=validate\n-- +goose Up\nalter table customers add constraint short check (length(note) < 9);\n",
		"00006_drop_name.sql", dropName,
	}, more...)...)
}

// catalogSQL runs SQL in the catalog.
func catalogSQL(t testing.TB, h *testhouse.House, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// instance is one of the application, written for a version.
func instance(t testing.TB, h *testhouse.House, name string, version int64) {
	t.Helper()
	catalogSQL(t, h, `select landlord.beat(gen_random_uuid(), $1, $2)`, name, version)
}

// gone lets an instance end.
func gone(t testing.TB, h *testhouse.House, name string) {
	t.Helper()
	catalogSQL(t, h, `select landlord.leave(id) from landlord.instances where name = $1`, name)
}

// newcomers returns a function that brings tenants in with these files, as far as they may run.
func newcomers(t testing.TB, h *testhouse.House, set *migrate.Set) func(slug string, model placement.Model) placement.Placement {
	t.Helper()
	s, err := onboard.New(onboard.Config{
		Catalog: h.Catalog, Keys: h.Keys, Builder: fleet.Builder{Catalog: h.Catalog, Set: set}, Mode: isolation.Sealed,
	})
	require.NoError(t, err)
	return func(slug string, model placement.Model) placement.Placement {
		t.Helper()
		house := *h
		house.Service = s
		return house.Add(t, slug, model, h.Clusters[0])
	}
}

func up(t testing.TB, f *fleet.Fleet) fleet.Status {
	t.Helper()
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.True(t, s.Whole(), "%+v", s)
	return s
}

func TestContractWaitsForTheOldApplicationAndForNobodyElse(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := phases(t)
	f, add := newFleet(t, h, set), newcomers(t, h, set)
	instance(t, h, "web-1", 3)
	instance(t, h, "web-2", 5)

	s := up(t, f)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.EqualValues(t, 5, s.Run.Newest)
	require.Equal(t, []string{"00006_drop_name.sql"}, s.Gate.Files)
	require.Len(t, s.Gate.Waits, 1)
	require.Contains(t, s.Gate.Waits[0], "web-1")
	require.Contains(t, s.Gate.Waits[0], "version 3")
	told, err := f.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.Gate.Files, told.Gate.Files)
	require.Len(t, told.Gate.Waits, 1)

	// Who comes now gets the old shape, and one who comes with older files is brought to it.
	for i, model := range models {
		all = append(all, add(fmt.Sprintf("new-%d", i), model))
	}
	all = append(all, h.Add(t, "late", placement.ModelSchema, "a"))
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Len(t, plan.Targets, 1)
	require.Len(t, plan.Gate.Waits, 2)
	require.Contains(t, plan.Gate.Waits[0], "lack 00004_note.sql, 00005_whole.sql")
	require.Len(t, up(t, f).Gate.Waits, 1)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home), p.Slug)
		require.True(t, has(t, h, p.Home, "name"))
	}

	gone(t, h, "web-1")
	s, err = f.Up(t.Context(), fleet.Options{ExpandOnly: true})
	require.NoError(t, err)
	require.Empty(t, s.Gate.Waits)
	require.Equal(t, []string{"00006_drop_name.sql"}, s.Gate.Files)
	require.True(t, has(t, h, all[0].Home, "name"), "it was not asked for")

	s = up(t, f)
	require.EqualValues(t, 6, s.Run.Newest)
	require.Nil(t, s.Gate)
	all = append(all, add("newer", placement.ModelSchema))
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, versions(t, h, p.Home), p.Slug)
		require.False(t, has(t, h, p.Home, "name"))
	}
	require.Empty(t, up(t, f).Run, "nothing to do")
}

func TestContractRunsThatFollowEachOtherAreSharedByProcesses(t *testing.T) {
	t.Parallel()
	h, all := street(t, 12, "a")
	contract := "-- landlord: phase=contract scope=database\n-- +goose Up\nselect 1;\n"
	set := phases(t, "00007_also.sql", contract, "00008_more.sql", "alter table customers add column more text;", "00009_end.sql",
		"-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column more;\n")
	var g errgroup.Group
	for range 3 {
		f := newFleet(t, h, set, func(c *fleet.Config) { c.Catalog = h.OpenCatalog(t, h.CatalogDSN) })
		g.Go(func() error {
			s, err := f.Up(t.Context(), fleet.Options{})
			if err == nil && (!s.Whole() || s.Gate != nil) {
				err = fmt.Errorf("it ended before all was done: %+v", s.Gate)
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 8, 9}, versions(t, h, p.Home))
		require.False(t, has(t, h, p.Home, "more"))
	}
	gate, err := h.Catalog.Gate(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.Gate{Contracted: 9, Needs: 8}, gate)
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 9, run.Newest)
}

func TestAHomeThatIsNotWhereItShouldBeKeepsTheGateClosed(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	odd := all[2]
	f := newFleet(t, h, phases(t))
	inHome(t, h, odd.Home, "alter table customers add column note int;")
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	_, err = f.Skip(t.Context(), odd.Home, "later")
	require.NoError(t, err)
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)

	closed := func(want string) {
		t.Helper()
		gate, err := f.OpenGate(t.Context())
		require.NoError(t, err)
		require.Len(t, gate.Waits, 1)
		require.Contains(t, gate.Waits[0], odd.Home.String())
		require.Contains(t, gate.Waits[0], want)
		require.True(t, has(t, h, all[3].Home, "name"))
	}
	closed("lack 00004_note.sql")

	inHome(t, h, odd.Home, "alter table customers drop column note, add column odd int;")
	require.Contains(t, up(t, f).Gate.Waits[0], "drift")
	closed("differs from its files in 1 objects")

	inHome(t, h, odd.Home, "alter table customers drop column odd; alter table customers rename to away;")
	closed("differs")
	inHome(t, h, odd.Home, "alter table away rename to customers;")
	h.SuperExec(t, odd.Home.Database, "update landlord.schema_version set version = 77 where version = 5 and schema = '"+odd.Home.Schema+"'")
	closed("version 77")
	h.SuperExec(t, odd.Home.Database, "update landlord.schema_version set version = 5 where version = 77")
	deaf := "alter database " + pgx.Identifier{odd.Home.Database}.Sanitize() + " allow_connections "
	h.SuperExec(t, "postgres", deaf+"false")
	gate, err := f.OpenGate(t.Context())
	h.SuperExec(t, "postgres", deaf+"true")
	require.NoError(t, err)
	require.Contains(t, gate.Waits[0], "not currently accepting connections")
	require.Nil(t, up(t, f).Gate)
	require.False(t, has(t, h, odd.Home, "name"))
}

func TestARunOfContractFilesIsPausedAndGoneOnWith(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	f := newFleet(t, h, phases(t))
	first := fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1}
	for version := range int64(2) {
		s, err := f.Up(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, placement.RunPaused, s.Run.State)
		require.Equal(t, 5+version, s.Run.Newest)
		_, err = f.Up(t.Context(), fleet.Options{})
		require.ErrorContains(t, err, "landlord migrate resume")
		require.True(t, has(t, h, all[3].Home, "name"))
		n, _, err := f.Reconcile(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		s, err = f.Resume(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, placement.RunDone, s.Run.State)
		require.Equal(t, version == 0, s.Gate != nil, "it opens no gate")
	}
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, versions(t, h, p.Home))
	}
}

func TestAContractFileThatFailsIsRetried(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, phases(t))
	instance(t, h, "web", 3)
	up(t, f)
	gone(t, h, "web")
	moved := all[2].Home
	h.SuperExec(t, moved.Database, "insert into landlord.move_hold (schema, move) values ('"+moved.Schema+"', gen_random_uuid())")
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	h.SuperExec(t, moved.Database, "delete from landlord.move_hold")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, versions(t, h, moved))
}

func TestReconcileTellsAnOlderCatalogWhichContractFilesHaveRun(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, phases(t))
	up(t, f)
	catalogSQL(t, h, "update landlord.gate set contracted = 0, needs = 0")
	catalogSQL(t, h, "delete from landlord.runs where newest = 6")

	_, err := f.Up(t.Context(), fleet.Options{})
	require.ErrorContains(t, err, "landlord migrate reconcile")
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Contains(t, plan.Groups[0].Problem, "landlord migrate reconcile")
	n, _, err := f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "no home is behind")
	gate, err := h.Catalog.Gate(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.Gate{Contracted: 6, Needs: 5}, gate)
	require.Nil(t, up(t, f).Gate)

	// The same with a run that was not over, and a home that contract files have not reached.
	late := h.Add(t, "late", placement.ModelSchema, "a")
	catalogSQL(t, h, "update landlord.gate set contracted = 0, needs = 0")
	catalogSQL(t, h, "update landlord.runs set state = 'paused' where newest = 5")
	_, s, err := f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	require.EqualValues(t, 6, s.Run.Newest)
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range append(all, late) {
		require.False(t, has(t, h, p.Home, "name"), p.Slug)
	}
}

func TestTenantsComeWhileTheGateOpens(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := phases(t)
	f, add := newFleet(t, h, set), newcomers(t, h, set)
	instance(t, h, "web", 3)
	up(t, f)
	ctx, stop := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		for n := 0; ctx.Err() == nil; n++ {
			all = append(all, add(fmt.Sprintf("guest-%d", n), models[n%len(models)]))
			time.Sleep(time.Second) // while one is being made, the gate stays closed
		}
		return nil
	})
	require.NotEmpty(t, up(t, f).Gate.Waits)
	gone(t, h, "web")
	var opened fleet.Status
	require.Eventually(t, func() bool {
		opened = up(t, f)
		return opened.Gate == nil
	}, 2*time.Minute, 100*time.Millisecond)
	stop()
	require.NoError(t, g.Wait())
	require.Empty(t, up(t, f).Run, "nobody was overlooked")
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, versions(t, h, p.Home), p.Slug)
	}
}
