// Package race shows as Go benchmarks what package pairs measures. It is for benchmarks only.
//
// Each way becomes a sub-benchmark, with its metrics beside those of the way that it is compared with. A way is not repeated for as
// long as -benchtime says: how many rounds there are is the caller's business, so that all ways have as many.
package race

import (
	"slices"
	"testing"
	"time"

	"github.com/landlord-go/landlord/internal/pairs"
)

// Run times ways that each do amount units of work, by turns, and reports how many of them a second that is by the median round.
// A way that is against another one also reports how many times as fast it is as that, "x-" and the other's name, and between which
// values ("low", "high") that lies in nine of ten rounds.
func Run(b *testing.B, cfg pairs.Config, amount int, unit string, ways ...pairs.Way) {
	b.Helper()
	results, err := pairs.Run(b.Context(), cfg, ways...)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range results {
		metrics := map[string]float64{unit + "/s": float64(amount) / r.Median.Seconds()}
		if r.Against != "" {
			metrics["x-"+r.Against] = 1 / r.Ratio
			metrics["x-low"], metrics["x-high"] = 1/r.High, 1/r.Low
		}
		Report(b, r.Name, metrics)
	}
}

// Report shows metrics as those of a sub-benchmark.
func Report(b *testing.B, name string, metrics map[string]float64) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(0, "ns/op") // leaves it out
		for unit, value := range metrics {
			b.ReportMetric(value, unit)
		}
	})
}

// Milliseconds are the median, the 99th percentile and the longest of times, and how many there are.
func Milliseconds(times []time.Duration) map[string]float64 {
	sorted := slices.Sorted(slices.Values(times))
	return map[string]float64{
		"p50-ms": milliseconds(Percentile(sorted, 50)), "p99-ms": milliseconds(Percentile(sorted, 99)),
		"max-ms": milliseconds(sorted[len(sorted)-1]), "times": float64(len(sorted)),
	}
}

// Percentile returns the value that p of a hundred of the sorted times do not exceed.
func Percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
