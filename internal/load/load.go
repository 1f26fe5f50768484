// Package load works for one tenant as an application would, and keeps a ledger of what it was told is committed.
//
// It is the workload of the tests that move tenants under traffic, and an operator's rehearsal (landlord dev load). Writers
// insert, update, delete and change keys through the router, over the three tables of the sample shop, in transactions and
// in single statements, in every isolation level, with read-only transactions between. At the end it compares the tenant's
// home with the ledger, wherever that home is by then.
//
// It guarantees that a commit that was acknowledged and is not there, or is there twice, is found: every operation has an id
// of its own and names the one that it follows, so it cannot run a second time, or after one that has got lost. The ledger
// is in this process only. The rows stay in the home; their customers' e-mail addresses begin with "load-".
package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/router"
)

// ErrTables reports a home that is not the sample shop's.
var ErrTables = errors.New("the tenant's tables are not those of the sample shop (customers, orders, order_lines)")

// Config of a Load.
type Config struct {
	DB        *router.DB     // whom to work for; required
	Writers   int            // that work at once, each on rows of its own; 0: 16
	Length    time.Duration  // of the work; 0: until Run's context ends
	Think     time.Duration  // what a writer waits between operations; 0: nothing
	Isolation pgx.TxIsoLevel // of every operation; empty: read committed for most, repeatable read and serializable for some
	Patience  time.Duration  // the longest an operation may take, and an unknown outcome be looked into; 0: 30 s
}

// Result is what came of the work.
type Result struct {
	Acked            int64    `json:"acked"`             // writing transactions that the router has reported committed
	Reads            int64    `json:"reads"`             // read-only transactions that saw what was acknowledged before them
	Lost             int64    `json:"lost"`              // acknowledged and not there: rows or changes
	Doubled          int64    `json:"doubled"`           // there more than once, or although nothing has made them
	Errors           int64    `json:"errors"`            // calls that failed, an unknown outcome not being one
	Unknown          int64    `json:"unknown"`           // calls of which the router could not say whether they are committed
	UnknownCommitted int64    `json:"unknown_committed"` // of them those that looking has found committed
	Retries          int64    `json:"retries"`           // serialization failures, which every application has to expect
	LongestGapMS     float64  `json:"longest_gap_ms"`    // the longest time without an acknowledged commit, of all writers together
	SlowestMS        float64  `json:"slowest_ms"`        // the slowest operation
	Seconds          float64  `json:"seconds"`
	Findings         []string `json:"findings"` // what was lost, doubled or failed: the first of each writer
}

// Clean tells whether every acknowledged commit is there once, and nothing failed.
func (r Result) Clean() bool { return r.Lost == 0 && r.Doubled == 0 && r.Errors == 0 }

// Load is one piece of work for a tenant.
type Load struct {
	cfg   Config
	run   string // in the e-mail address of every customer
	pulse pulse
}

// New prepares a load; nothing happens before Run.
func New(cfg Config) *Load {
	if cfg.Writers == 0 {
		cfg.Writers = 16
	}
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	return &Load{cfg: cfg, run: hex.EncodeToString(id)}
}

// Run works until the time is over or ctx ends, lets the operations under way end, compares, and returns what it found: that
// something is lost is no error of its own. An error says that the work could not begin (ErrTables, or the router's), or
// that the home could not be read at the end. Run is to be called once.
func (l *Load) Run(ctx context.Context) (Result, error) {
	work := context.WithoutCancel(ctx) // operations end by themselves, so that their outcome is known
	if l.cfg.Length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.cfg.Length)
		defer cancel()
	}
	writers := make([]*writer, l.cfg.Writers)
	for i := range writers {
		writers[i] = newWriter(l, i)
		if err := writers[i].begin(work); err != nil {
			if pgerr.Is(err, pgerr.UndefinedTable, pgerr.UndefinedColumn) {
				err = fmt.Errorf("%w: %w", ErrTables, err)
			}
			return Result{}, fmt.Errorf("begin to work: %w", err)
		}
	}
	began := time.Now()
	l.pulse.begin(began)
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() { w.work(ctx, work) })
	}
	all.Wait()
	l.pulse.beat(time.Now(), false)
	result := Result{Seconds: time.Since(began).Seconds(), LongestGapMS: milliseconds(l.pulse.longest), Findings: []string{}}
	for _, w := range writers {
		if err := w.compare(work); err != nil {
			return result, fmt.Errorf("compare what was acknowledged with the tenant's home: %w", err)
		}
		w.addTo(&result)
	}
	return result, nil
}

// TakeGap returns the longest time without an acknowledged commit since it was called last, or since the work began. It may
// be called while Run works.
func (l *Load) TakeGap() time.Duration { return l.pulse.take(time.Now()) }

// pulse measures the time between acknowledged commits.
type pulse struct {
	mu      sync.Mutex // guards all below
	last    time.Time
	longest time.Duration
	taken   time.Duration // the longest since the last take
}

func (p *pulse) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
}

// beat takes down a commit, or only how long the last one is ago.
func (p *pulse) beat(now time.Time, commit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := now.Sub(p.last)
	p.longest, p.taken = max(p.longest, gap), max(p.taken, gap)
	if commit && gap > 0 {
		p.last = now
	}
}

func (p *pulse) take(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return 0
	}
	longest := max(p.taken, now.Sub(p.last))
	p.taken = 0
	return longest
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
