package migrate

import (
	"cmp"
	"time"
)

// Batches says how large the batches of a backfill are.
type Batches struct {
	Target time.Duration // how long one is to take. Default: 200 ms
	First  int           // how many rows the first one takes. Default: 1,000
	Most   int           // how many one takes at most. Default: 20,000
}

// patience is how many times the target a batch may take before it is given up.
const patience = 25

// pace finds the size at which batches take as long as they are meant to: by a moving average of the time that a row takes, in
// which the last batch counts as much as all before it. A batch that was cut off halves the size.
type pace struct {
	Batches
	size int
	row  float64 // seconds; 0: not known
}

// WithDefaults returns the batches with what is not said.
func (b Batches) WithDefaults() Batches {
	b = Batches{Target: cmp.Or(b.Target, 200*time.Millisecond), First: cmp.Or(b.First, 1000), Most: cmp.Or(b.Most, 20_000)}
	b.First = min(b.First, b.Most)
	return b
}

func newPace(b Batches) pace {
	p := pace{Batches: b.WithDefaults()}
	p.set(p.First)
	return p
}

// took notes how long a batch of so many rows took and sets the size of those to come: at most twice as large.
func (p *pace) took(rows int, d time.Duration) {
	row := max(d.Seconds(), 1e-6) / float64(rows)
	if p.row == 0 {
		p.row = row
	}
	p.row = (p.row + row) / 2
	p.set(int(min(p.Target.Seconds()/p.row, float64(2*rows))))
}

// failed notes that a batch of so many rows was given up.
func (p *pace) failed(rows int) { p.set(rows / 2) }

// resume takes over the size that another worker has found, unless batches are being given up at it.
func (p *pace) resume(size int) {
	if p.row == 0 && p.size == p.First {
		p.set(size)
	}
}

func (p *pace) set(size int) { p.size = min(max(size, 1), p.Most) }
