package router_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// door is what statements go through: a router's handle or transaction, or plain pgx.
type door interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
}

// citizen is a tenant as somebody lets it work.
type citizen struct {
	id    string
	at    string                                                                // its database
	each  func(ctx context.Context, fn func(context.Context, door) error) error // every statement by itself
	tx    func(ctx context.Context, fn func(context.Context, door) error) error
	wrote atomic.Int64
}

// storm lets tenants work on few connections while everything goes wrong that can. Every row says whose it is and who wrote it,
// and every answer whose question it answers; what is not right about them is a leak.
type storm struct {
	t        *testing.T
	citizens []*citizen
	// forgetful runs a statement whose caller has not said for whom.
	forgetful func(ctx context.Context, fn func(context.Context, door) error) error
	faults    []fault // what happens to connections meanwhile, by turns
	litter    []string
	// known tells that an error is one that callers can make something of; nil: all are.
	known func(error) bool

	left   atomic.Int64 // operations
	struck atomic.Int64 // faults
	leaks  atomic.Int64
	took   time.Duration
	mu     sync.Mutex // guards what follows
	count  map[string]int
	ended  map[string]int // by what callers were told
}

type fault struct {
	name   string
	strike func(ctx context.Context)
}

// seedOf is where a test's chance begins. LANDLORD_SEED repeats the choices; when a fault strikes is left to the machine.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 32
	if said := os.Getenv("LANDLORD_SEED"); said != "" {
		var err error
		seed, err = strconv.ParseUint(said, 10, 64)
		require.NoError(t, err, "LANDLORD_SEED")
	}
	t.Logf("LANDLORD_SEED=%d", seed)
	return seed
}

// rage does so many operations, on so many goroutines.
func (s *storm) rage(operations, goroutines int) {
	seed := seedOf(s.t)
	s.count, s.ended = make(map[string]int), make(map[string]int)
	s.left.Store(int64(operations))
	begun := time.Now()
	var work sync.WaitGroup
	for i := range goroutines {
		w := &worker{storm: s, Rand: rand.New(rand.NewPCG(seed, uint64(i))), name: strconv.Itoa(i)} //nolint:gosec // repeatable
		work.Go(func() {
			for s.left.Add(-1) >= 0 {
				w.operation()
			}
		})
	}
	work.Wait()
	s.took = time.Since(begun)
}

// leak notes that somebody was given what is another's.
func (s *storm) leak(format string, args ...any) {
	if s.leaks.Add(1) <= 5 {
		s.t.Logf("leak: "+format, args...)
	}
}

func (s *storm) note(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[what]++
	if err != nil {
		s.ended["failed"]++
	} else {
		s.ended["done"]++
	}
	if err != nil && s.known != nil && !s.known(err) {
		s.t.Errorf("%s: an error that says nothing: %v", what, err)
	}
}

// worker is one goroutine.
type worker struct {
	*storm
	*rand.Rand
	name   string
	serial int
}

// operation does one thing in the name of one tenant.
func (w *worker) operation() {
	if w.IntN(60) == 0 {
		f := w.faults[int(w.struck.Add(1))%len(w.faults)]
		f.strike(w.t.Context())
		w.note(f.name, nil)
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	if w.IntN(20) == 0 {
		w.forget(ctx)
		return
	}
	who := w.choose()
	if w.IntN(8) == 0 { // a caller who leaves
		ctx, cancel = context.WithTimeout(ctx, time.Duration(w.IntN(4000))*time.Microsecond)
		defer cancel()
	}
	name := weightedActs[w.IntN(len(weightedActs))]
	var err error
	over := make(chan struct{})
	go func() { // which an act may end
		defer close(over)
		defer func() {
			if p := recover(); p != nil && p != any(errBoom) {
				panic(p)
			}
		}()
		err = acts[name](w, ctx, who)
	}()
	<-over
	w.note(name, err)
}

// turn is how many operations come for tenants of one database before it is another's turn.
const turn = 25

// choose returns a tenant, mostly one of the database whose turn it is. If every caller came for another database, routers of few
// connections would do little but close them for each other.
func (w *worker) choose() *citizen {
	at := w.citizens[int(w.left.Load())/turn%len(w.citizens)].at
	comes := w.IntN(turn) == 0 // out of turn
	for {
		if who := w.citizens[w.IntN(len(w.citizens))]; comes || who.at == at {
			return who
		}
	}
}

// forget works without a tenant. It must be told so, and may not see a row.
func (w *worker) forget(ctx context.Context) {
	err := w.forgetful(ctx, func(ctx context.Context, at door) error {
		rows, err := at.Query(ctx, "select tenant_id::text from customers limit 5")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			w.leak("a caller who named no tenant sees a row")
		}
		return rows.Err()
	})
	w.note("forgotten tenant", err)
}

// weightedActs names acts by how often they happen.
var weightedActs = []string{
	"read", "read", "read", "read", "read", "read", "insert", "insert", "insert", "batch", "batch", "copy", "transaction", "transaction",
	"transaction", "half-read", "litter", "error", "panic", "exit", "failed and passed over", "open rows", "time-out", "kept", "pipeline left",
}

// acts are what tenants do. Each reads rows when it can.
var acts = map[string]func(*worker, context.Context, *citizen) error{
	"read": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return w.read(ctx, at, who, false) })
	},
	"half-read": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return w.read(ctx, at, who, true) })
	},
	"insert": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return w.insert(ctx, at, who) })
	},
	"batch": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return w.batch(ctx, at, who, true) })
	},
	"pipeline left": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return w.batch(ctx, at, who, false) })
	},
	"copy": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error {
			_, err := at.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows([][]any{{w.fresh(), who.id}}))
			return err
		})
	},
	"litter": func(w *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return run(ctx, at, w.litter[w.IntN(len(w.litter))]) })
	},
	"error": func(_ *worker, ctx context.Context, who *citizen) error {
		return who.each(ctx, func(ctx context.Context, at door) error { return run(ctx, at, "select 1 / 0") })
	},
	"transaction": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(context.Context, door) error {
			if w.IntN(3) == 0 {
				return errBoom
			}
			return nil
		})
	},
	"panic": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(context.Context, door) error { panic(errBoom) })
	},
	"exit": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(context.Context, door) error { runtime.Goexit(); return nil })
	},
	"failed and passed over": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(ctx context.Context, at door) error {
			_ = run(ctx, at, "select 1 / 0")
			return nil
		})
	},
	"open rows": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(ctx context.Context, at door) error {
			rows, err := at.Query(ctx, "select tenant_id from customers, generate_series(1, 1000)") // and leaves them open
			if err == nil {
				rows.Next()
			}
			return err
		})
	},
	"time-out": func(w *worker, ctx context.Context, who *citizen) error {
		return w.transaction(ctx, who, func(ctx context.Context, at door) error {
			return errors.Join(run(ctx, at, "set local statement_timeout = 1"), run(ctx, at, "select pg_sleep(60)"))
		})
	},
	"kept": func(w *worker, ctx context.Context, who *citizen) error {
		var kept door
		err := w.transaction(ctx, who, func(_ context.Context, at door) error { kept = at; return nil })
		if kept != nil {
			if late := run(ctx, kept, insertCustomer, w.fresh()); late == nil {
				w.leak("a statement ran in a transaction that was over")
			}
		}
		return err
	},
}

// transaction reads and writes, and ends as end says.
func (w *worker) transaction(ctx context.Context, who *citizen, end func(context.Context, door) error) error {
	return who.tx(ctx, func(ctx context.Context, at door) error {
		for range 1 + w.IntN(3) {
			var err error
			if w.IntN(2) == 0 {
				err = w.insert(ctx, at, who)
			} else {
				err = w.read(ctx, at, who, false)
			}
			if err != nil {
				return err
			}
		}
		return end(ctx, at)
	})
}

// run runs one statement and passes over its rows.
func run(ctx context.Context, at door, sql string, args ...any) error {
	rows, err := at.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// fresh is a text that there has not been yet.
func (w *worker) fresh() string {
	w.serial++
	return fmt.Sprintf("%s %d", w.name, w.serial)
}

func (w *worker) insert(ctx context.Context, at door, who *citizen) error {
	err := run(ctx, at, writeCustomer, w.fresh(), who.id)
	if err == nil {
		who.wrote.Add(1)
	}
	return err
}

// A row's name is the tenant that it was written for.
const (
	writeCustomer = "insert into customers (email, name) values ($1, $2)"
	readCustomers = "select $1::text, tenant_id::text, name from customers limit 20"
)

// read looks at rows, of which each must be the tenant's and answer this question; at the first only, if it is to be broken off.
func (w *worker) read(ctx context.Context, at door, who *citizen, half bool) error {
	question := w.fresh()
	rows, err := at.Query(ctx, readCustomers, question)
	if err != nil {
		return err
	}
	return w.judge(rows, who, question, half)
}

func (w *worker) judge(rows pgx.Rows, who *citizen, question string, half bool) error {
	defer rows.Close()
	for rows.Next() {
		var asked, owner, writer string
		if err := rows.Scan(&asked, &owner, &writer); err != nil {
			return err
		}
		if asked != question || owner != who.id || writer != who.id {
			w.leak("tenant %s asked %q and was given a row of tenant %s, written by %s, for %q", who.id, question, owner, writer, asked)
		}
		if half {
			break
		}
	}
	rows.Close()
	return rows.Err()
}

// batch writes and reads in one packet. Unless it is whole, its results are given up half-way.
func (w *worker) batch(ctx context.Context, at door, who *citizen, whole bool) error {
	b, question := &pgx.Batch{}, w.fresh()
	b.Queue(writeCustomer, w.fresh(), who.id)
	b.Queue(readCustomers, question)
	b.Queue(readCustomers, question)
	results := at.SendBatch(ctx, b)
	_, err := results.Exec()
	if err == nil && whole {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			err = w.judge(rows, who, question, false)
		}
	}
	return errors.Join(err, results.Close())
}

// summary says what happened.
func (s *storm) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	operations := 0
	for _, n := range s.count {
		operations += n
	}
	return fmt.Sprintf("%d operations in %v, %.0f in a second, %d done and %d failed, %d leaks: %v", operations, s.took.Round(time.Second),
		float64(operations)/s.took.Seconds(), s.ended["done"], s.ended["failed"], s.leaks.Load(), strings.TrimPrefix(fmt.Sprint(s.count), "map"))
}

// requireAll proves that everything has happened. A short storm has no room for what is rare, but for much of it.
func (s *storm) requireAll() {
	s.t.Helper()
	var missing []string
	for name := range acts {
		if s.count[name] == 0 {
			missing = append(missing, name)
		}
	}
	for _, f := range s.faults {
		if s.count[f.name] == 0 {
			missing = append(missing, f.name)
		}
	}
	require.LessOrEqual(s.t, len(missing), scale((len(acts)+len(s.faults))/2, 0), "%v", missing)
	require.Positive(s.t, s.count["forgotten tenant"])
	for _, who := range s.citizens {
		require.Positive(s.t, who.wrote.Load(), "rows of tenant %s", who.id)
	}
}
