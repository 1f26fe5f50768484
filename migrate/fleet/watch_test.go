package fleet_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestARunIsWatchedThroughAnOutageOfTheCatalog(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	proxy := faultnet.New(t, h.Server.Addr())
	dsn, err := proxy.Rewrite(h.CatalogDSN)
	require.NoError(t, err)
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Retry: -1})
	require.NoError(t, err)
	t.Cleanup(catalog.Close)
	seen := make(chan fleet.Status, 1000)
	watcher := newFleet(t, h, &migrate.Set{}, func(c *fleet.Config) {
		c.Catalog = catalog
		c.Progress = func(s fleet.Status) { seen <- s }
	})
	_, err = watcher.Watch(t.Context(), nil)
	require.ErrorIs(t, err, placement.ErrNoRun)

	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	release := hold(t, h, all[3].Home)
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(t.Context(), fleet.Options{})
		return err
	})
	verified(t, f, len(all)-1)
	var lost atomic.Int32
	g.Go(func() error {
		s, err := watcher.Watch(t.Context(), func(err error) {
			require.ErrorIs(t, err, placement.ErrUnavailable)
			lost.Add(1)
		})
		if err == nil {
			require.Equal(t, placement.RunDone, s.Run.State)
			require.Equal(t, len(all), s.Counts[placement.TargetVerified])
		}
		return err
	})
	// Another one is not interested any more: that is no matter to the run.
	bored, leave := context.WithCancel(t.Context())
	leave()
	_, err = newFleet(t, h, &migrate.Set{}).Watch(bored, nil)
	require.ErrorIs(t, err, context.Canceled)

	first := <-seen
	require.Equal(t, placement.RunRunning, first.Run.State)
	require.Equal(t, "a", first.Waves[0].Clusters[0].Cluster)
	require.Equal(t, len(all), first.Waves[0].Clusters[0].Targets)
	proxy.Cut()
	require.Eventually(t, func() bool { return lost.Load() >= 2 }, time.Minute, 50*time.Millisecond)
	release()
	proxy.Restore()
	require.NoError(t, g.Wait())
}

func TestHistoryTellsWhatBecameOfEachRun(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	files := []string{"00004_note.sql", addNote}
	_, err := newFleet(t, h, with(t, files...)).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	inHome(t, h, all[2].Home, "alter table customers add column more text")
	f := newFleet(t, h, with(t, append(files, "00005_more.sql", "alter table customers add column more text;")...))
	_, err = f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)

	runs, err := f.History(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, runs, 2)
	require.EqualValues(t, 2, runs[0].Number)
	require.Equal(t, placement.RunFailed, runs[0].State)
	require.EqualValues(t, 5, runs[0].Newest)
	require.Equal(t, []int{4, 3, 1, 0}, []int{runs[0].Targets, runs[0].Verified, runs[0].Failed, runs[0].Skipped})
	require.Equal(t, runs[0].EndedAt.Sub(runs[0].StartedAt), runs[0].Took)
	require.Equal(t, "test", runs[0].Actor)
	require.Equal(t, []int{4, 4, 0, 0}, []int{runs[1].Targets, runs[1].Verified, runs[1].Failed, runs[1].Skipped})
	runs, err = f.History(t.Context(), 1)
	require.NoError(t, err)
	require.Len(t, runs, 1)

	s, err := f.StatusOf(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []placement.Home{all[2].Home}, s.Failures[0].Homes)
	s, err = f.StatusOf(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	_, err = f.StatusOf(t.Context(), 3)
	require.ErrorIs(t, err, placement.ErrNoRun)
}
