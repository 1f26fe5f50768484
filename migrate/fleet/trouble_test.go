package fleet_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// hold lets a reader sit in a home's table until release is called.
func hold(t *testing.T, h *testhouse.House, home placement.Home) (release func()) {
	t.Helper()
	conn := h.Super(t, home.Database)
	_, err := conn.Exec(t.Context(), "begin; lock table "+pgx.Identifier{home.Schema, "customers"}.Sanitize()+" in access share mode")
	require.NoError(t, err)
	return func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "rollback")
		require.NoError(t, err)
	}
}

// verified waits until so many targets of the last run are.
func verified(t *testing.T, f *fleet.Fleet, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		return err == nil && s.Counts[placement.TargetVerified] >= n
	}, time.Minute, 20*time.Millisecond)
}

func TestTwoProcessesShareARun(t *testing.T) {
	t.Parallel()
	h, all := street(t, 30, "a")
	set := with(t, "00004_note.sql", addNote+"select pg_sleep(0.02);")
	var g errgroup.Group
	for range 3 {
		f := newFleet(t, h, set, func(c *fleet.Config) { c.Catalog = h.OpenCatalog(t, h.CatalogDSN) })
		g.Go(func() error {
			s, err := f.Up(t.Context(), fleet.Options{})
			if err == nil && s.Run.ID != "" {
				require.Equal(t, placement.RunDone, s.Run.State)
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, run.Number)
}

func TestAReaderIsWaitedForWithoutHoldingOthersUp(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), func(c *fleet.Config) { c.Retry = 300 * time.Millisecond })
	release := hold(t, h, all[3].Home)
	go func() {
		time.Sleep(2 * time.Second)
		release()
	}()
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)

	// Nor is it waited for without end, and it fails alone.
	f = newFleet(t, h, with(t, "00004_note.sql", addNote, "00005_more.sql", "alter table customers add column more text;"),
		func(c *fleet.Config) { c.Retry, c.Patience = 300*time.Millisecond, time.Second })
	release = hold(t, h, all[3].Home)
	s, err = f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, pgerr.LockNotAvailable, s.Failures[0].SQLState)
	require.Equal(t, []placement.Home{all[3].Home}, s.Failures[0].Homes)
	require.Equal(t, 4, s.Counts[placement.TargetVerified])
	release()
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestAHomeWhoseLockIsNotToBeHadStallsNoneOfItsPage(t *testing.T) {
	t.Parallel()
	h, all := street(t, 4, "a")
	// One worker has all homes of the shared database in its page, and would never give one up.
	f := newFleet(t, h, with(t, "00004_note.sql", addNote, "00005_more.sql", "alter table orders add column more text;"), func(c *fleet.Config) {
		c.Workers, c.Retry, c.Patience = 1, time.Hour, time.Hour
	})
	// Of those in schemas of their own, the one whose turn comes last: nobody is left then that it could be put behind.
	last := slices.MaxFunc(all[2:], func(a, b placement.Placement) int { return strings.Compare(a.Home.Schema, b.Home.Schema) })
	first, second := hold(t, h, all[0].Home), hold(t, h, last.Home)
	var g errgroup.Group
	g.Go(func() error {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err == nil && s.Run.State != placement.RunDone {
			t.Errorf("%+v", s.Failures)
		}
		return err
	})
	verified(t, f, 3)
	first()
	second()
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home))
	}
}

func TestAHomeThatIsBeingMovedStaysAsItIs(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	moved := all[2].Home
	h.SuperExec(t, moved.Database, "insert into landlord.move_hold (schema, move) values ('"+moved.Schema+"', gen_random_uuid())")
	s, err := f.Up(t.Context(), fleet.Options{First: []string{"schema-a-000"}})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State, "it halts no run, not even as its canary")
	require.Equal(t, pgerr.Held, s.Failures[0].SQLState)
	require.False(t, has(t, h, moved, "note"))
	require.Equal(t, len(all)-1, s.Counts[placement.TargetVerified])

	h.SuperExec(t, moved.Database, "delete from landlord.move_hold")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.True(t, has(t, h, moved, "note"))
}

func TestAnOrphanIsFoundInEveryModel(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	orders := `create table visits (tenant_id uuid, id int, customer_id bigint, primary key (tenant_id, id));`
	s, err := newFleet(t, h, with(t, "00004_visits.sql", orders)).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range all {
		inHome(t, h, p.Home, "insert into visits values ('"+p.Tenant.String()+"', 1, 4711)")
	}
	key := "alter table visits add foreign key (tenant_id, customer_id) references customers (tenant_id, id);"
	s, err = newFleet(t, h, with(t, "00004_visits.sql", orders, "00005_key.sql", key)).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Len(t, s.Failures, 1)
	require.Equal(t, pgerr.ForeignKeyViolation, s.Failures[0].SQLState)
	require.Len(t, s.Failures[0].Homes, len(models))
}

func TestATenantAddedDuringARunGetsThere(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	release := hold(t, h, all[2].Home)
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(t.Context(), fleet.Options{})
		return err
	})
	verified(t, f, 2)
	// The house's service still has the old files.
	late := []placement.Placement{h.Add(t, "late", placement.ModelSchema, "a"), h.Add(t, "late-too", placement.ModelDatabase, "a")}
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, late[0].Home))
	release()
	require.NoError(t, g.Wait())
	for _, p := range late {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}
}

func TestATenantThatIsRemovedDuringARunIsLeftOut(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	release := hold(t, h, all[2].Home)
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(t.Context(), fleet.Options{})
		return err
	})
	verified(t, f, 3)
	leaver, err := h.Catalog.Tenant(t.Context(), all[2].Tenant)
	require.NoError(t, err)
	require.NoError(t, h.Service.Remove(t.Context(), leaver, 0))
	leaver, err = h.Catalog.Tenant(t.Context(), leaver.ID)
	require.NoError(t, err)
	release()
	require.NoError(t, h.Service.Purge(t.Context(), leaver))
	require.NoError(t, g.Wait())
	s, err := f.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestACanaryThatFailsHaltsTheRun(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	inHome(t, h, all[2].Home, "insert into customers (tenant_id, email, name) values ('"+all[2].Tenant.String()+"', 'a', 'x'), ('"+all[2].Tenant.String()+"', 'b', 'x')")
	f := newFleet(t, h, with(t, "00004_unique.sql", "alter table customers add unique (tenant_id, name);"))
	s, err := f.Up(t.Context(), fleet.Options{First: []string{string(all[2].Slug)}})
	require.NoError(t, err)
	require.Equal(t, placement.RunHalted, s.Run.State)
	require.Equal(t, "1 of the first wave failed", s.Run.Why)
	require.Equal(t, 4, s.Counts[placement.TargetPending])

	_, err = f.Up(t.Context(), fleet.Options{})
	require.ErrorIs(t, err, placement.ErrRunState)
	require.ErrorContains(t, err, "landlord migrate resume")
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, 4, s.Counts[placement.TargetVerified])
}

func TestARunPausesAfterTheWaveThatWasAskedForAndWhenSomebodySaysSo(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	s, err := f.Up(t.Context(), fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	require.True(t, has(t, h, all[2].Home, "note"))
	require.False(t, has(t, h, all[3].Home, "note"))

	release := hold(t, h, all[3].Home)
	var g errgroup.Group
	g.Go(func() error {
		s, err := f.Resume(t.Context(), fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunPaused, s.Run.State)
			require.Equal(t, "incident 471", s.Run.Why)
		}
		return err
	})
	verified(t, f, 4)
	_, err = f.Pause(t.Context(), "incident 471")
	require.NoError(t, err)
	require.NoError(t, g.Wait())
	release()
	require.False(t, has(t, h, all[3].Home, "note"))

	other := newFleet(t, h, with(t, "00004_other.sql", "alter table customers add column other text;"))
	_, err = other.Resume(t.Context(), fleet.Options{})
	require.ErrorContains(t, err, "the files are not those")
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestAnInterruptedRunIsGoneOnWith(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote), func(c *fleet.Config) { c.Grace = 200 * time.Millisecond })
	release := hold(t, h, all[3].Home)
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(ctx, fleet.Options{})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "landlord migrate resume")
		return nil
	})
	verified(t, f, 4)
	cancel()
	require.NoError(t, g.Wait())
	release()
	s, err := f.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, s.Counts[placement.TargetPending], "what it held was given back")
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestTheLedgerIsRebuiltFromTheHomes(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	_, err := f.Up(t.Context(), fleet.Options{First: []string{string(all[2].Slug)}, StopAfter: 1})
	require.NoError(t, err)
	catalog, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer catalog.Close(t.Context())

	// The ledger forgets, and lies.
	_, err = catalog.Exec(t.Context(), `update landlord.run_targets set state = case state when 'verified' then 'pending' else 'verified' end`)
	require.NoError(t, err)
	n, s, err := f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, 1, s.Counts[placement.TargetVerified])
	_, err = catalog.Exec(t.Context(), `delete from landlord.runs`)
	require.NoError(t, err)
	n, s, err = f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, placement.RunPaused, s.Run.State)
	s, err = f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	n, _, err = f.Reconcile(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}
