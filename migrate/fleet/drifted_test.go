package fleet_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// wary lets a fleet look for drift.
func wary(c *fleet.Config) { c.AllowDrift = false }

func TestAHomeThatHasDriftedIsLeftAsItIsAndKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := with(t, "00004_note.sql", addNote)
	f := newFleet(t, h, set, wary)
	strange := all[2]
	inHome(t, h, strange.Home, "alter table orders add column x int")
	s, err := f.Up(t.Context(), fleet.Options{First: []string{string(strange.Slug)}})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State, "it halts no run, not even as its canary")
	require.Equal(t, len(all)-1, s.Counts[placement.TargetVerified])
	require.Len(t, s.Failures, 1)
	require.Equal(t, []placement.Home{strange.Home}, s.Failures[0].Homes)
	require.Equal(t, "drifted: extra column orders.x (landlord migrate drift shows all)", s.Failures[0].Error)
	require.False(t, has(t, h, strange.Home, "note"))
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, strange.Home))

	// Nor does a retry touch it, before it is put right.
	_, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.ErrorContains(t, err, "extra column orders.x")
	require.ErrorContains(t, err, "--allow-drift")
	require.False(t, has(t, h, strange.Home, "note"))
	inHome(t, h, strange.Home, "alter table orders drop column x")
	s, err = f.Retry(t.Context(), &strange.Home, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.True(t, has(t, h, strange.Home, "note"))
}

func TestDriftCanBeAllowed(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	set := with(t, "00004_note.sql", addNote)
	f := newFleet(t, h, set, wary)
	inHome(t, h, all[0].Home, "drop index orders_by_customer")
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, s.Counts[placement.TargetFailed], "the shared home")
	s, err = f.Up(t.Context(), fleet.Options{AllowDrift: true})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, 1, s.Counts[placement.TargetVerified])
	require.True(t, has(t, h, all[0].Home, "note"))
}

func TestAHomeThatCannotBeLookedAtIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	dark, busy := all[1], all[2] // a database of its own that takes nobody in, and a table that somebody keeps
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), wary, func(c *fleet.Config) { c.Patience = 100 * time.Millisecond })
	connections := func(can string) {
		h.SuperExec(t, "postgres", `alter database "`+dark.Home.Database+`" allow_connections `+can)
	}
	connections("false")
	holder := h.Super(t, busy.Home.Database)
	_, err := holder.Exec(t.Context(), "begin; lock table "+pgx.Identifier{busy.Home.Schema, "orders"}.Sanitize()+" in access exclusive mode")
	require.NoError(t, err)

	s, err := f.Up(t.Context(), fleet.Options{First: []string{string(busy.Slug)}})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State, "it halts no run, not even as its canary")
	require.Equal(t, 1, s.Counts[placement.TargetVerified], "the shared home")
	reasons := make(map[placement.Home]string)
	for _, failure := range s.Failures {
		for _, home := range failure.Homes {
			reasons[home] = failure.Error
		}
	}
	require.Len(t, reasons, 2)
	require.Contains(t, reasons[dark.Home], "could not be looked at for drift: connect to")
	require.Contains(t, reasons[busy.Home], "could not be looked at for drift: somebody has locked a table there")

	// Nor does a retry touch what it cannot look at, though it could be migrated by now for all that a lock says.
	_, err = f.Retry(t.Context(), &busy.Home, fleet.Options{})
	require.ErrorContains(t, err, "somebody has locked a table there")
	require.ErrorContains(t, err, "--allow-drift")
	_, err = holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.False(t, has(t, h, busy.Home, "note"))

	connections("true")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
	require.True(t, has(t, h, busy.Home, "note"))
	require.True(t, has(t, h, dark.Home, "note"))
}

func TestAHomeThatCannotBeLookedAtIsMigratedWhereDriftIsAllowed(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), wary)
	h.SuperExec(t, all[0].Home.Database, "create schema landlord_drift") // not landlord's, so that nothing can be built to compare with
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, map[placement.TargetState]int{placement.TargetFailed: len(all)}, s.Counts)
	require.Len(t, s.Failures, 1)
	require.Contains(t, s.Failures[0].Error, "landlord_drift")
	s, err = f.Up(t.Context(), fleet.Options{AllowDrift: true})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, len(all), s.Counts[placement.TargetVerified])
}

func TestARunInWhichAllHomesHaveDriftedEnds(t *testing.T) {
	t.Parallel()
	h, all := street(t, 0, "a")
	set := with(t, "00004_note.sql", addNote)
	for _, p := range all {
		inHome(t, h, p.Home, "alter table orders add column x int")
	}
	s, err := newFleet(t, h, set, wary).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, map[placement.TargetState]int{placement.TargetFailed: len(all)}, s.Counts)
	require.Len(t, s.Failures, 1, "they differ in the same way")
}

func TestAHomeThatIsAheadBlocksOnlyItself(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	ahead := all[2]
	h.SuperExec(t, ahead.Home.Database, "insert into landlord.schema_version (schema, version, checksum) values ('"+ahead.Home.Schema+"', 99, 'newer')")
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	problems := 0
	for _, g := range plan.Groups {
		if g.Problem != "" {
			problems += g.Count
			require.Contains(t, g.Problem, "version 99")
			require.True(t, g.Blocked)
		}
	}
	require.Equal(t, 1, problems)

	for _, up := range []func() (fleet.Status, error){
		func() (fleet.Status, error) {
			return f.Up(t.Context(), fleet.Options{First: []string{string(ahead.Slug)}})
		},
		func() (fleet.Status, error) { return f.Retry(t.Context(), nil, fleet.Options{}) }, // a worker finds the same
	} {
		s, err := up()
		require.NoError(t, err)
		require.Equal(t, placement.RunFailed, s.Run.State, "it halts no run, not even as its canary")
		require.Equal(t, len(all)-1, s.Counts[placement.TargetVerified])
		require.Equal(t, []placement.Home{ahead.Home}, s.Failures[0].Homes)
		require.Contains(t, s.Failures[0].Error, "use the newer files")
	}
	for _, p := range all {
		require.Equal(t, p.Home != ahead.Home, has(t, h, p.Home, "note"))
	}
}

func TestRowsAreThoseOfTheLargestHome(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a", "b")
	f := newFleet(t, h, with(t))
	rows, missed, err := f.Rows(t.Context())
	require.NoError(t, err)
	require.Zero(t, missed)
	require.Zero(t, rows["customers"])
	require.Contains(t, rows, "orders")
	require.NotContains(t, rows, "schema_version", "it is not the homes'")

	fill := func(p placement.Placement, n string) {
		inHome(t, h, p.Home, "insert into customers (tenant_id, email, name) select '"+p.Tenant.String()+"', n::text, 'x' from generate_series(1, "+n+") n;")
	}
	fill(all[1], "300") // a database of its own, never analysed
	fill(all[2], "5000")
	inHome(t, h, all[2].Home, `create table events (id int) partition by range (id);
		create table events_1 partition of events for values from (1) to (100); create table events_2 partition of events for values from (100) to (200);
		insert into events select generate_series(1, 150); analyze customers, events_1, events_2`)
	require.Eventually(t, func() bool {
		rows, _, err := f.Rows(t.Context())
		return err == nil && rows["customers"] >= 4900 && rows["customers"] <= 5100 && rows["events"] == 150
	}, 10*time.Second, 50*time.Millisecond)

	h.SuperExec(t, "postgres", `alter database "`+all[1].Home.Database+`" rename to "`+all[1].Home.Database+`_gone"`)
	defer h.SuperExec(t, "postgres", `alter database "`+all[1].Home.Database+`_gone" rename to "`+all[1].Home.Database+`"`)
	_, missed, err = f.Rows(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, missed)
}

func TestSizesOfHomesAreThoseOfFilesWhereTheServerHasLostCount(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t))
	large, small, own := all[2], all[3], all[1]
	for _, p := range []placement.Placement{large, own} {
		inHome(t, h, p.Home, "insert into customers (tenant_id, email, name) select '"+p.Tenant.String()+"', n::text, 'x' from generate_series(1, 3000) n;"+
			"select pg_stat_force_next_flush();")
		h.SuperExec(t, p.Home.Database, "select pg_stat_reset()")
	}
	sizes := func() []int64 {
		sizes, err := f.Sizes(t.Context(), large.Home, small.Home, own.Home)
		require.NoError(t, err)
		return sizes
	}
	found := sizes()
	require.GreaterOrEqual(t, found[0], int64(3000))
	require.Less(t, found[1], int64(3000), "a few pages of what the files themselves insert")
	require.GreaterOrEqual(t, found[2], int64(3000))

	// What is locked is not waited for, and hides nobody else's.
	holder := h.Super(t, small.Home.Database)
	_, err := holder.Exec(t.Context(), "begin; lock table "+pgx.Identifier{small.Home.Schema, "customers"}.Sanitize()+" in access exclusive mode")
	require.NoError(t, err)
	require.Equal(t, found, sizes())
	_, err = holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
}

func TestAHomeThatDriftsBeforeItsTurnIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{false, true} {
		h, all := street(t, 2, "a")
		f := newFleet(t, h, with(t, "00004_note.sql", addNote), wary)
		o := firstWave(all[2])
		o.StopAfter, o.AllowDrift = 1, allowed
		s, err := f.Up(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, placement.RunPaused, s.Run.State)
		require.Equal(t, []string{"expand"}, s.Run.Phases)
		inHome(t, h, all[3].Home, "alter table orders add column x int")
		s, err = f.Resume(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, allowed, has(t, h, all[3].Home, "note"), "the run remembers what it was begun with")
		require.True(t, has(t, h, all[0].Home, "note"))
		if !allowed {
			require.Equal(t, placement.RunFailed, s.Run.State)
			require.Contains(t, s.Failures[0].Error, "extra column orders.x")
		}
	}
}

func TestAHomeThatComesLateIsLookedAtLikeTheOthers(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), wary)
	release := hold(t, h, all[2].Home)
	ended := make(chan fleet.Status, 1)
	go func() {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err != nil {
			t.Error(err)
		}
		ended <- s
	}()
	verified(t, f, 2)
	late := h.Add(t, "late", placement.ModelSchema, "a")
	inHome(t, h, late.Home, "alter table orders add column x int")
	release()
	s := <-ended
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, []placement.Home{late.Home}, s.Failures[0].Homes)
	require.False(t, has(t, h, late.Home, "note"))
}

func TestWhatAFailedIndexHasLeftIsNoDrift(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_unique.sql",
		"-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently customers_name on customers (tenant_id, name);"), wary)
	odd := all[2]
	double := "insert into customers (tenant_id, email, name) select '" + odd.Tenant.String() + "', e, 'same' from (values ('a'), ('b')) v (e)"
	inHome(t, h, odd.Home, double)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, pgerr.UniqueViolation, s.Failures[0].SQLState)
	inHome(t, h, odd.Home, "delete from customers where email = 'b'")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
}
