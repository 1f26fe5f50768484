package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

const (
	addSeen = "alter table customers add column seen int not null default 0;"
	see     = "-- landlord: phase=backfill\n-- +goose Up\nupdate customers set seen = seen + 1;"
)

// populate gives every home so many customers and the column that counts how often a backfill has seen them.
func populate(t *testing.T, h *testhouse.House, all []placement.Placement, customers int) {
	t.Helper()
	s, err := newFleet(t, h, with(t, "00004_seen.sql", addSeen)).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.True(t, s.Whole())
	for _, p := range all {
		inHome(t, h, p.Home, fmt.Sprintf("insert into customers (tenant_id, email, name) select '%s', i, i from generate_series(1, %d) i", p.Tenant, customers))
	}
}

// requireSeen asserts that every customer of every tenant was seen once.
func requireSeen(t *testing.T, h *testhouse.House, all []placement.Placement, customers int) {
	t.Helper()
	for _, p := range all {
		var rows, once int
		q := `select count(*), count(*) filter (where seen = 1) from "` + p.Home.Schema + `".customers where tenant_id::text = $1`
		require.NoError(t, h.Super(t, p.Home.Database).QueryRow(t.Context(), q, p.Tenant.String()).Scan(&rows, &once))
		require.Equal(t, [2]int{customers, customers}, [2]int{rows, once}, p.Slug)
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home))
	}
}

func backfills(b fleet.Backfills) func(*fleet.Config) {
	return func(c *fleet.Config) { c.Backfills = b }
}

func TestABackfillReachesEveryTenantOfEveryModelOnce(t *testing.T) {
	t.Parallel()
	h, all := street(t, 3, "a", "b")
	all = append(all, h.Add(t, "shared-too", placement.ModelShared, "a"))
	populate(t, h, all, 100)
	set := with(t, "00004_seen.sql", addSeen, "00005_see.sql", see)
	var g errgroup.Group
	for range 2 {
		f := newFleet(t, h, set, backfills(fleet.Backfills{Batches: migrate.Batches{First: 9, Most: 20}}))
		g.Go(func() error {
			_, err := f.Up(t.Context(), fleet.Options{})
			return err
		})
	}
	require.NoError(t, g.Wait())
	requireSeen(t, h, all, 100)
}

// diary is a log that remembers which homes were left, and how many are done.
type diary struct {
	slog.Handler
	mu    *sync.Mutex
	homes *[]string
	done  *int
	home  string
}

func newDiary() diary {
	return diary{Handler: slog.DiscardHandler, mu: &sync.Mutex{}, homes: &[]string{}, done: new(int)}
}

func (d diary) Enabled(context.Context, slog.Level) bool { return true }

func (d diary) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "database" || a.Key == "schema" {
			d.home += " " + a.Value.String()
		}
	}
	return d
}

func (d diary) Handle(_ context.Context, r slog.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.Message {
	case "backfill makes room for others":
		*d.homes = append(*d.homes, d.home)
	case "backfill is done":
		*d.done++
	}
	return nil
}

func TestABackfillMakesRoomForOtherTenants(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a") // one shared home, two schemas beside it, a database of its own
	populate(t, h, all, 60)
	d := newDiary()
	f := newFleet(t, h, with(t, "00004_seen.sql", addSeen, "00005_see.sql", see), func(c *fleet.Config) {
		c.Workers, c.Logger = 1, slog.New(d)
		c.Backfills = fleet.Backfills{Turn: time.Nanosecond, Batches: migrate.Batches{First: 10, Most: 10}}
	})
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	requireSeen(t, h, all, 60)
	require.Equal(t, len(all), *d.done)
	homes := *d.homes
	require.Len(t, homes, 5*len(all), "six batches, and room after each but the last")
	for i := range homes { // all had a turn before any had another
		round := homes[i-i%len(all) : i]
		require.NotContains(t, round, homes[i], "%v", homes)
	}
	run, err := h.Catalog.RunTargets(t.Context(), s.Run.ID)
	require.NoError(t, err)
	for _, target := range run {
		require.Empty(t, target.Error)
	}
}

func TestABackfillThatIsInterruptedIsGoneOnWith(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	populate(t, h, all, 200)
	set := with(t, "00004_seen.sql", addSeen, "00005_see.sql", see)
	slow := backfills(fleet.Backfills{Batches: migrate.Batches{First: 5, Most: 5}, RowsPerSecond: 100})
	f := newFleet(t, h, set, slow)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		var g errgroup.Group
		before := changed(t, h, all)
		g.Go(func() error {
			_, err := f.Up(ctx, fleet.Options{})
			require.ErrorIs(t, err, context.Canceled)
			return nil
		})
		require.Eventually(t, func() bool { return changed(t, h, all) > before+10 }, time.Minute, 20*time.Millisecond)
		cancel()
		require.NoError(t, g.Wait())
	}
	require.Less(t, changed(t, h, all), 200*len(all))
	f = newFleet(t, h, set)
	s, err := f.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	requireSeen(t, h, all, 200)
}

// changed counts what backfills have changed.
func changed(t *testing.T, h *testhouse.House, all []placement.Placement) (rows int) {
	t.Helper()
	for _, p := range all {
		var n int
		require.NoError(t, h.Super(t, p.Home.Database).QueryRow(t.Context(),
			"select coalesce(sum(done), 0) from landlord.backfill where schema = $1", p.Home.Schema).Scan(&n))
		rows += n
	}
	return rows
}

func TestABackfillSparesAServerThatSuffers(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	all = all[1:2] // the database of its own, in which nobody else waits
	populate(t, h, all, 30)
	// One session waits for another's lock, on a table that is no business of the backfill's.
	holder := h.Super(t, all[0].Home.Database)
	_, err := holder.Exec(t.Context(), "begin; lock table orders")
	require.NoError(t, err)
	waiter := h.Super(t, all[0].Home.Database)
	waited := make(chan error)
	go func() {
		_, err := waiter.Exec(context.WithoutCancel(t.Context()), "select from orders")
		waited <- err
	}()
	f := newFleet(t, h, with(t, "00004_seen.sql", addSeen, "00005_see.sql", see), func(c *fleet.Config) {
		c.Patience = time.Second
		c.Backfills.Health = migrate.Health{WALSlow: -1, WALStop: -1, LagSlow: -1, LagStop: -1, WaitingSlow: -1, WaitingStop: 1}
	})
	s, err := f.Up(t.Context(), fleet.Options{First: []string{string(all[0].Slug)}})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State, "it halts no run, not even as its canary")
	require.Equal(t, 1, s.Counts[placement.TargetFailed])
	require.Equal(t, []placement.Home{all[0].Home}, s.Failures[0].Homes)
	require.Contains(t, s.Failures[0].Error, "the server has to be spared: 1 sessions wait for locks")
	require.Equal(t, 2, s.Counts[placement.TargetVerified])

	_, err = holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.NoError(t, <-waited)
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	requireSeen(t, h, all, 30)
}

func TestRowsArePaidForTogether(t *testing.T) {
	t.Parallel()
	pay := fleet.NewPurse(100)
	require.Zero(t, pay("a", 100), "a second's worth is there")
	require.InDelta(t, 0.5, pay("a", 50).Seconds(), 0.4)
	require.InDelta(t, 1.5, pay("a", 1000).Seconds(), 0.4, "a batch never costs more than a second")
	require.Zero(t, pay("b", 100), "another server has its own")
	require.Zero(t, fleet.NewPurse(0)("a", 1e9), "no limit")
}

func TestLimitsOfBackfillsAreChecked(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	_, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: with(t), Backfills: fleet.Backfills{RowsPerSecond: -1}})
	require.ErrorContains(t, err, "not negative")
}
