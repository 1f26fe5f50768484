package fleet_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// asked counts how often it is asked, and says err.
type asked struct {
	n   atomic.Int32
	err error
}

func (a *asked) health(context.Context, placement.Run) error {
	a.n.Add(1)
	return a.err
}

// firstWave are options of a run whose first wave is one home.
func firstWave(p placement.Placement) fleet.Options {
	return fleet.Options{First: []string{string(p.Slug)}}
}

// soaking waits until the first wave of the last run is done and the next one waits.
func soaking(t *testing.T, f *fleet.Fleet) placement.Run {
	t.Helper()
	var run placement.Run
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		run = s.Run
		return err == nil && run.SoakLeft != nil
	}, time.Minute, 20*time.Millisecond)
	return run
}

func ledger(t *testing.T, h *testhouse.House) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestAWaveSoaksAndIsCheckedBeforeTheNextOneBegins(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	catalog := ledger(t, h)
	var checks atomic.Int32
	o := firstWave(all[2])
	o.Soak = 2 * time.Second
	o.Health = func(ctx context.Context, run placement.Run) error {
		checks.Add(1)
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.LessOrEqual(t, time.Until(deadline), placement.CheckLimit)
		var soaked bool
		err := catalog.QueryRow(ctx, `select wave_done_at + interval '2s' <= clock_timestamp() from landlord.runs`).Scan(&soaked)
		require.NoError(t, err)
		require.True(t, soaked)
		require.Equal(t, 1, run.Wave)
		require.True(t, has(t, h, all[2].Home, "note"))
		require.False(t, has(t, h, all[3].Home, "note"))
		return nil
	}
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	s, err := f.Up(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.EqualValues(t, 1, checks.Load(), "the last wave is not followed by anything")
	require.Nil(t, s.Run.SoakLeft)
	require.True(t, has(t, h, all[3].Home, "note"))
}

func TestAHealthCheckThatFailsHaltsTheRunAndIsAskedAgain(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	ill := &asked{err: errors.New("exit status 22")}
	o := firstWave(all[2])
	o.Health = ill.health
	s, err := f.Up(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, placement.RunHalted, s.Run.State)
	require.Equal(t, "health check failed: exit status 22", s.Run.Why)
	require.False(t, has(t, h, all[3].Home, "note"))

	_, err = f.Resume(t.Context(), fleet.Options{})
	require.ErrorIs(t, err, placement.ErrRunState)
	require.ErrorContains(t, err, "--health")
	s, err = f.Resume(t.Context(), fleet.Options{Health: ill.health})
	require.NoError(t, err)
	require.Equal(t, placement.RunHalted, s.Run.State)
	require.EqualValues(t, 2, ill.n.Load())

	s, err = f.Resume(t.Context(), fleet.Options{NoHealth: true})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.True(t, has(t, h, all[3].Home, "note"))
}

func TestOnlyAProcessThatWasGivenAHealthCommandBeginsTheNextWave(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := with(t, "00004_note.sql", addNote)
	well := &asked{}
	o := firstWave(all[2])
	o.Soak, o.Health = time.Hour, well.health
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		_, err := newFleet(t, h, set).Up(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		return nil
	})
	f := newFleet(t, h, set)
	run := soaking(t, f)
	require.Greater(t, *run.SoakLeft, 50*time.Minute)
	cancel()
	require.NoError(t, g.Wait())

	// One without a command helps, and then waits.
	catalog := ledger(t, h)
	_, err := catalog.Exec(t.Context(), `update landlord.runs set soak = '0'`)
	require.NoError(t, err)
	waited := make(chan placement.Run, 1000)
	helper := newFleet(t, h, set, func(c *fleet.Config) {
		c.Progress = func(s fleet.Status) { waited <- s.Run }
	})
	g.Go(func() error {
		s, err := helper.Up(t.Context(), fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunDone, s.Run.State)
		}
		return err
	})
	for range 4 {
		run := <-waited
		require.Equal(t, 1, run.Wave)
		require.LessOrEqual(t, *run.SoakLeft, time.Duration(0), "nothing but the check is missing")
		require.False(t, run.Checking)
	}
	require.False(t, has(t, h, all[3].Home, "note"))

	// Several with one ask it once.
	for range 2 {
		g.Go(func() error {
			_, err := newFleet(t, h, set).Resume(t.Context(), fleet.Options{Health: well.health})
			if errors.Is(err, placement.ErrRunState) { // the others were done before it had begun
				return nil
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	require.EqualValues(t, 1, well.n.Load())
	require.True(t, has(t, h, all[3].Home, "note"))
}

func TestAProcessThatDiesDuringItsHealthCheckIsReplaced(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	o := firstWave(all[2])
	o.Soak = time.Hour
	o.Health = (&asked{}).health
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		return nil
	})
	run := soaking(t, f)
	cancel()
	require.NoError(t, g.Wait())
	require.NoError(t, h.Catalog.SetBetween(t.Context(), run.ID, placement.Between{Checked: true}))
	check, err := h.Catalog.PassWave(t.Context(), run.ID, 1, "the dead", true)
	require.NoError(t, err)
	require.True(t, check)
	check, err = h.Catalog.PassWave(t.Context(), run.ID, 1, "another", true)
	require.NoError(t, err)
	require.False(t, check, "it has time")

	_, err = ledger(t, h).Exec(t.Context(), `update landlord.runs set check_until = clock_timestamp()`)
	require.NoError(t, err)
	well := &asked{}
	s, err := f.Resume(t.Context(), fleet.Options{Health: well.health})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	require.EqualValues(t, 1, well.n.Load())
	require.NoError(t, h.Catalog.EndCheck(t.Context(), run.ID, 1, "the dead", placement.CheckFailed, "too late"))
	s, err = f.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestAWaveThatIsReopenedSoaksAnew(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	o := firstWave(all[2])
	o.Soak = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := f.Up(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		return nil
	})
	run := soaking(t, f)
	cancel()
	require.NoError(t, g.Wait())
	catalog := ledger(t, h)
	_, err := catalog.Exec(t.Context(), `update landlord.run_targets set state = 'pending' where wave = 1`)
	require.NoError(t, err)
	_, err = catalog.Exec(t.Context(), `update landlord.runs set soak = '0', wave_done_at = wave_done_at - interval '1 day'`)
	require.NoError(t, err)
	run, open, err := h.Catalog.AdvanceRun(t.Context(), run.ID, false)
	require.NoError(t, err)
	require.Equal(t, 1, open)
	require.Equal(t, 1, run.Wave)
	require.Nil(t, run.SoakLeft)
	s, err := f.Resume(t.Context(), fleet.Options{Soak: -1})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}
