package pairs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pairs"
)

// clock is a time that only passes when something is done.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// takes returns a way that takes what cost says, the n-th time from 0.
func (c *clock) takes(name, against string, cost func(n int) time.Duration) pairs.Way {
	n := 0
	return pairs.Way{Name: name, Against: against, Do: func(context.Context) error {
		c.now = c.now.Add(cost(n))
		n++
		return nil
	}}
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func TestRatiosAreOfTheMedians(t *testing.T) {
	t.Parallel()
	var c clock
	results, err := pairs.Run(t.Context(), pairs.Config{Rounds: 50, Block: 4, Now: c.Now},
		c.takes("base", "", always(10*time.Millisecond)),
		c.takes("half", "base", always(5*time.Millisecond)),
		// One in twenty is slow: the median does not show it, the 99th percentile does.
		c.takes("slow at times", "half", func(n int) time.Duration {
			if n%20 == 19 {
				return time.Second
			}
			return 15 * time.Millisecond
		}),
	)
	require.NoError(t, err)
	require.Equal(t, []pairs.Result{
		{Name: "base", Count: 200, Median: 10 * time.Millisecond, P99: 10 * time.Millisecond},
		{Name: "half", Count: 200, Median: 5 * time.Millisecond, P99: 5 * time.Millisecond, Against: "base", Ratio: 0.5, Low: 0.5, High: 0.5},
		{Name: "slow at times", Count: 200, Median: 15 * time.Millisecond, P99: time.Second, Against: "half", Ratio: 3, Low: 3, High: 3},
	}, results)
}

func TestNoiseThatHitsAWholeRoundFallsOutOfItsRatio(t *testing.T) {
	t.Parallel()
	var c clock
	// The machine is five times slower in every other round.
	slowed := func(d time.Duration) func(int) time.Duration {
		return func(n int) time.Duration { return d * time.Duration(1+4*(n/3%2)) }
	}
	results, err := pairs.Run(t.Context(), pairs.Config{Rounds: 101, Block: 3, Now: c.Now},
		c.takes("a", "b", slowed(3*time.Millisecond)), c.takes("b", "", slowed(2*time.Millisecond)))
	require.NoError(t, err)
	require.InDelta(t, 1.5, results[0].Low, 1e-9)
	require.InDelta(t, 1.5, results[0].High, 1e-9)
}

func TestASpreadShowsWhatIsNotAlike(t *testing.T) {
	t.Parallel()
	var c clock
	results, err := pairs.Run(t.Context(), pairs.Config{Rounds: 100, Now: c.Now},
		c.takes("a", "b", func(n int) time.Duration { return time.Duration(n+1) * time.Millisecond }),
		c.takes("b", "", always(time.Millisecond)))
	require.NoError(t, err)
	require.InDelta(t, 5, results[0].Low, 1e-9)
	require.InDelta(t, 50, results[0].Ratio, 1e-9)
	require.InDelta(t, 95, results[0].High, 1e-9)
}

func TestEveryRoundTimesEveryWayInAnOrderOfItsOwn(t *testing.T) {
	t.Parallel()
	var order string
	var ways []pairs.Way
	for _, name := range []string{"a", "b", "c"} {
		ways = append(ways, pairs.Way{Name: name, Do: func(context.Context) error {
			order += name
			return nil
		}})
	}
	_, err := pairs.Run(t.Context(), pairs.Config{Rounds: 200, WarmUp: 1}, ways...)
	require.NoError(t, err)
	seen := map[string]int{}
	for round := 0; round < len(order); round += 3 {
		seen[order[round:round+3]]++
	}
	require.Len(t, order, 3*201)
	require.Len(t, seen, 6, "all six orders, and no round with a way left out")
}

func TestWarmUpIsNotCounted(t *testing.T) {
	t.Parallel()
	var c clock
	results, err := pairs.Run(t.Context(), pairs.Config{Rounds: 10, WarmUp: 5, Now: c.Now},
		c.takes("a", "", func(n int) time.Duration {
			if n < 5 {
				return time.Hour
			}
			return time.Millisecond
		}))
	require.NoError(t, err)
	require.Equal(t, 10, results[0].Count)
	require.Equal(t, time.Millisecond, results[0].P99)
}

func TestWhatMakesReadyIsNotTimed(t *testing.T) {
	t.Parallel()
	var c clock
	ready := 0
	w := c.takes("a", "", func(n int) time.Duration {
		require.Equal(t, n+1, ready, "each time")
		return time.Millisecond
	})
	w.Before = func(context.Context) error {
		ready++
		c.now = c.now.Add(time.Hour)
		return nil
	}
	results, err := pairs.Run(t.Context(), pairs.Config{Rounds: 10, Block: 2, Now: c.Now}, w)
	require.NoError(t, err)
	require.Equal(t, time.Millisecond, results[0].P99)
	w.Before = func(context.Context) error { return errors.New("not ready") }
	_, err = pairs.Run(t.Context(), pairs.Config{Now: c.Now}, w)
	require.ErrorContains(t, err, "not ready")
}

func TestARunGoesOnForAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	var c clock
	results, err := pairs.Run(t.Context(), pairs.Config{For: time.Second, Now: c.Now},
		c.takes("a", "", always(10*time.Millisecond)))
	require.NoError(t, err)
	require.Equal(t, 100, results[0].Count)
}

func TestARunEndsWithTheFirstError(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	_, err := pairs.Run(t.Context(), pairs.Config{For: time.Hour}, pairs.Way{Name: "a", Do: func(context.Context) error { return boom }})
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, `"a"`)
}

func TestWaysThatCannotBeComparedAreRefused(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context) error { return nil }
	_, err := pairs.Run(t.Context(), pairs.Config{}, pairs.Way{Name: "a", Against: "b", Do: nothing})
	require.ErrorContains(t, err, `"b"`)
	_, err = pairs.Run(t.Context(), pairs.Config{}, pairs.Way{Name: "a", Do: nothing}, pairs.Way{Name: "a", Do: nothing})
	require.Error(t, err)
	_, err = pairs.Run(t.Context(), pairs.Config{})
	require.Error(t, err)
}
