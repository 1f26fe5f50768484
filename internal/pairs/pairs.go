// Package pairs times several ways to do the same thing against each other.
//
// It guarantees that all of them are timed side by side: in rounds, each in a random order, so that whatever disturbs the
// machine meanwhile disturbs them alike and falls out of their ratios. What is timed, and against which other way, is the
// caller's business; so is anything that must be the same for all (connections opened, caches warm), but for a few
// rounds that are run first and not counted.
package pairs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Way is one way to do it.
type Way struct {
	Name    string // unique in a run
	Against string // the way that this one's ratio is to; empty: none
	// Before, if not nil, makes things ready for each Do. It is not timed.
	Before func(context.Context) error
	Do     func(context.Context) error
}

// Config of a run. The zero value is of use in tests only: it times a single round.
type Config struct {
	For    time.Duration // how long to go on; a round that has begun is finished
	Rounds int           // least number of rounds, however long they take; 0: 1
	WarmUp int           // rounds that are not counted; 0: none
	Block  int           // how often each way is done in a round, without a break; 0: 1

	Now func() time.Time // nil: time.Now
}

// Result is what one way took.
type Result struct {
	Name    string
	Count   int
	Median  time.Duration
	P99     time.Duration
	Against string  // empty: the rest is zero
	Ratio   float64 // of the medians
	// Low and High are the 5th and the 95th percentile of the ratios of the medians in each round: how far the ratio
	// would be off if less had been timed.
	Low, High float64
}

// Run times ways, and returns what they took in the same order. It ends with the first error.
func Run(ctx context.Context, cfg Config, ways ...Way) ([]Result, error) {
	if err := check(ways); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := run{cfg: cfg, ways: ways, block: max(cfg.Block, 1), took: make([][]time.Duration, len(ways))}
	for range cfg.WarmUp {
		if err := r.round(ctx); err != nil {
			return nil, err
		}
	}
	clear(r.took)
	end := cfg.Now().Add(cfg.For)
	for n := 0; n < max(cfg.Rounds, 1) || cfg.Now().Before(end); n++ {
		if err := r.round(ctx); err != nil {
			return nil, err
		}
	}
	return r.results(), nil
}

func check(ways []Way) error {
	named := make(map[string]bool, len(ways))
	for _, w := range ways {
		if named[w.Name] {
			return fmt.Errorf("time %q: another way has this name too", w.Name)
		}
		named[w.Name] = true
	}
	for _, w := range ways {
		if w.Against != "" && !named[w.Against] {
			return fmt.Errorf("time %q against %q: there is no such way", w.Name, w.Against)
		}
	}
	if len(ways) == 0 {
		return errors.New("time: there is nothing to time")
	}
	return nil
}

// run is a run under way.
type run struct {
	cfg   Config
	ways  []Way
	block int
	took  [][]time.Duration // by way; block of them from each round
}

// round lets every way have its turn.
func (r *run) round(ctx context.Context) error {
	for _, i := range rand.Perm(len(r.ways)) {
		for range r.block {
			if before := r.ways[i].Before; before != nil {
				if err := before(ctx); err != nil {
					return fmt.Errorf("make ready to time %q: %w", r.ways[i].Name, err)
				}
			}
			began := r.cfg.Now()
			if err := r.ways[i].Do(ctx); err != nil {
				return fmt.Errorf("time %q: %w", r.ways[i].Name, err)
			}
			r.took[i] = append(r.took[i], r.cfg.Now().Sub(began))
		}
	}
	return nil
}

func (r *run) results() []Result {
	results := make([]Result, len(r.ways))
	for i, w := range r.ways {
		results[i] = Result{
			Name: w.Name, Count: len(r.took[i]), Against: w.Against,
			Median: percentile(r.took[i], 50), P99: percentile(r.took[i], 99),
		}
	}
	for i, w := range r.ways {
		if w.Against == "" {
			continue
		}
		base := slices.IndexFunc(r.ways, func(other Way) bool { return other.Name == w.Against })
		results[i].Ratio = ratio(results[i].Median, results[base].Median)
		each := r.roundRatios(i, base)
		results[i].Low, results[i].High = percentile(each, 5), percentile(each, 95)
	}
	return results
}

// roundRatios are the ratios of two ways' medians, round by round.
func (r *run) roundRatios(way, base int) []float64 {
	var all []float64
	for at := 0; at < len(r.took[way]); at += r.block {
		all = append(all, ratio(percentile(r.took[way][at:at+r.block], 50), percentile(r.took[base][at:at+r.block], 50)))
	}
	return all
}

// ratio of two durations; what the clock cannot tell from nothing counts as a nanosecond.
func ratio(a, b time.Duration) float64 { return float64(max(a, 1)) / float64(max(b, 1)) }

// percentile returns the value that p of a hundred do not exceed.
func percentile[T time.Duration | float64](values []T, p int) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
