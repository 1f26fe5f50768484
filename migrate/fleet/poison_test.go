package fleet_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestEachPoisonedHomeFailsAloneAndIsListed(t *testing.T) {
	t.Parallel()
	h, all := street(t, 6, "a")
	twins, column, table, locked := all[2], all[3], all[4], all[5]
	id := twins.Tenant.String()
	inHome(t, h, twins.Home, "insert into customers (tenant_id, email, name) values ('"+id+"', 'a', 'twin'), ('"+id+"', 'b', 'twin')")
	inHome(t, h, column.Home, addNote)
	inHome(t, h, table.Home, "drop table orders cascade")
	release := hold(t, h, locked.Home)

	set := with(t, "00004_note.sql", addNote+"alter table customers add unique (tenant_id, name); alter table orders add column note text;")
	f := newFleet(t, h, set, func(c *fleet.Config) { c.Retry, c.Patience = 300*time.Millisecond, time.Second })
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, map[placement.TargetState]int{placement.TargetVerified: len(all) - 4, placement.TargetFailed: 4}, s.Counts)
	failed := map[string][]placement.Home{}
	for _, f := range s.Failures {
		failed[f.SQLState] = f.Homes
		require.Contains(t, f.Error, "00004_note.sql")
		require.NotContains(t, f.Error, "twin")
	}
	require.Equal(t, map[string][]placement.Home{
		pgerr.UniqueViolation: {twins.Home}, pgerr.DuplicateColumn: {column.Home}, pgerr.UndefinedTable: {table.Home},
		pgerr.LockNotAvailable: {locked.Home},
	}, failed)
	poisoned := []placement.Home{twins.Home, column.Home, table.Home, locked.Home}
	for _, p := range all {
		require.Equal(t, slices.Contains(poisoned, p.Home), len(versions(t, h, p.Home)) == 3, p.Slug)
	}
	require.False(t, has(t, h, twins.Home, "note"), "what came before the failure is undone")

	// Each is put right, and only those are worked on.
	release()
	inHome(t, h, twins.Home, "delete from customers where email = 'b'")
	inHome(t, h, column.Home, "alter table customers drop column note")
	inHome(t, h, table.Home, "create table orders (tenant_id uuid, id bigint, primary key (tenant_id, id)); alter table orders owner to landlord_owner")
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
}

// watchReads reads a home's customers again and again, each time with so much patience, until stop is called. It returns how
// often, how often in vain, and the longest time.
func watchReads(t *testing.T, h *testhouse.House, home placement.Home, patience string) (stop func() (reads, failed int, longest time.Duration)) {
	t.Helper()
	conn := h.Super(t, home.Database)
	_, err := conn.Exec(t.Context(), "set search_path = "+home.Schema+"; set statement_timeout = '"+patience+"'")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	reads, failed, longest := 0, 0, time.Duration(0)
	g.Go(func() error {
		for ; pauseFor(ctx, time.Millisecond); reads++ {
			began := time.Now()
			_, err := conn.Exec(t.Context(), "select count(*) from customers")
			longest = max(longest, time.Since(began))
			if pgerr.Is(err, pgerr.QueryCanceled) {
				failed++
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return func() (int, int, time.Duration) {
		cancel()
		require.NoError(t, g.Wait())
		return reads, failed, longest
	}
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func TestReadersBehindAWaitingMigrationStallNoLongerThanItsLockTimeout(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	home := all[2].Home
	stalls := func(lock time.Duration) bool {
		release := hold(t, h, home) // a transaction that has read, and does not end
		stop := watchReads(t, h, home, "1s")
		f := newFleet(t, h, with(t, "00004_note.sql", addNote), func(c *fleet.Config) { c.Limits.Lock = lock })
		var g errgroup.Group
		g.Go(func() error {
			s, err := f.Up(t.Context(), fleet.Options{})
			require.Equal(t, placement.RunDone, s.Run.State)
			return err
		})
		time.Sleep(3 * time.Second)
		reads, failed, longest := stop()
		release()
		require.NoError(t, g.Wait())
		t.Logf("lock_timeout %s: %d reads, %d gave up after 1 s, the longest took %s", lock, reads, failed, longest)
		require.Positive(t, reads)
		inHome(t, h, home, "alter table customers drop column note; delete from landlord.schema_version where version = 4 and schema = '"+home.Schema+"'")
		return failed > 0
	}
	require.True(t, stalls(20*time.Second), "who waits for a lock holds up all who come later")
	require.False(t, stalls(0), "the default")
}

func TestASecondRunOfOtherFilesIsRefusedWhileTheFirstIsAtWork(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	first := newFleet(t, h, with(t, "00004_note.sql", addNote), func(c *fleet.Config) {
		c.Folder, c.Retry = "/srv/app/migrations", 100*time.Millisecond
	})
	second := newFleet(t, h, with(t, "00004_note.sql", addNote, "00005_more.sql", "alter table customers add column more text;"))
	release := hold(t, h, all[3].Home) // it is worked on, and put off, and worked on
	var g errgroup.Group
	g.Go(func() error {
		s, err := first.Up(t.Context(), fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunPaused, s.Run.State)
		}
		return err
	})
	verified(t, first, 3)
	for range 10 {
		_, err := second.Up(t.Context(), fleet.Options{})
		require.ErrorIs(t, err, placement.ErrRunState)
		require.ErrorContains(t, err, "landlord migrate pause")
		time.Sleep(50 * time.Millisecond)
	}
	_, err := second.Resume(t.Context(), fleet.Options{})
	require.ErrorContains(t, err, "in /srv/app/migrations")
	for _, p := range all {
		require.False(t, has(t, h, p.Home, "more"))
	}

	// Paused, it makes way.
	_, err = first.Pause(t.Context(), "for the hotfix")
	require.NoError(t, err)
	require.NoError(t, g.Wait())
	release()
	s, err := second.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.EqualValues(t, 2, s.Run.Number)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home))
	}
	_, err = first.Up(t.Context(), fleet.Options{})
	require.NoError(t, err, "its homes are ahead, and it says so of each")
	s, err = first.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, s.Failures[0].Error, "use the newer files")
}

func TestATenantThatIsSuspendedDuringARunIsMigrated(t *testing.T) {
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
	for _, p := range all[1:] { // one that waits, and two that are done
		member, err := h.Catalog.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.NoError(t, h.Service.Suspend(t.Context(), member))
	}
	release()
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}
}

func TestAStatementThatTakesTooLongFailsAloneUnlessItsFileGivesItTime(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	slow := all[2].Home
	wait := "select pg_sleep(1) where current_schema() = '" + slow.Schema + "';\n"
	impatient := func(c *fleet.Config) {
		c.Limits.Statement, c.Retry, c.Patience = 300*time.Millisecond, time.Millisecond, time.Millisecond
	}
	s, err := newFleet(t, h, with(t, "00004_note.sql", addNote+wait), impatient).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, pgerr.QueryCanceled, s.Failures[0].SQLState)
	require.Equal(t, []placement.Home{slow}, s.Failures[0].Homes)
	require.Contains(t, s.Failures[0].Error, "statement timeout")
	require.False(t, has(t, h, slow, "note"))
	require.Equal(t, 3, s.Counts[placement.TargetVerified])

	s, err = newFleet(t, h, with(t, "00004_note.sql", addNote, "00005_slow.sql", "set local statement_timeout = '1min';\n"+wait), impatient).
		Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State, "the others have another 00004")
	require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, slow))
}
