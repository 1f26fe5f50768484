package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/landlord-go/landlord/migrate"
)

// Backfills says how much of a server backfills may take.
type Backfills struct {
	Batches migrate.Batches
	Health  migrate.Health
	// RowsPerSecond is how many rows of one cluster this process changes, all its workers together. Default: as many as they can.
	RowsPerSecond int
	// Turn is how long a worker stays with one home before others have their turn. Default: 10 s.
	Turn time.Duration
}

func (b *Backfills) check() error {
	if b.RowsPerSecond < 0 || b.Turn < 0 || b.Batches.First < 0 || b.Batches.Most < 0 || b.Batches.Target < 0 {
		return errors.New("Backfills: numbers and times are not negative")
	}
	b.Turn = cmp.Or(b.Turn, 10*time.Second)
	b.Batches = b.Batches.WithDefaults()
	if b.RowsPerSecond > 0 { // a batch is paid for at once, and no more can be paid than a second's worth
		b.Batches.Most = min(b.Batches.Most, b.RowsPerSecond)
	}
	return nil
}

// errTurn ends a worker's turn at a target that is not done: it is given back, and others come first.
var errTurn = errors.New("the turn is over")

// purses are what this process may still change on each cluster.
type purses struct {
	mu   sync.Mutex
	each map[string]*rate.Limiter
}

// pay takes so many rows from a cluster's purse and returns how long to wait until there were as many.
func (p *purses) pay(cluster string, perSecond, rows int) time.Duration {
	if perSecond == 0 || rows == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.each == nil {
		p.each = make(map[string]*rate.Limiter)
	}
	if p.each[cluster] == nil {
		p.each[cluster] = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return p.each[cluster].ReserveN(time.Now(), min(rows, perSecond)).Delay()
}

// backfill runs batches of a backfill until it is done or the turn is over, and tries for a while where locks and the like stand
// in the way. At least one batch is run in each turn.
func (w *worker) backfill(ctx context.Context, m migrate.Migration, to migrate.Target, by migrate.Attempt) error {
	const first, most = 50 * time.Millisecond, time.Second
	limits := w.cfg.Backfills
	b, err := m.Backfill(w.conn, to, by, w.cfg.Limits, limits.Batches)
	if err != nil {
		return err
	}
	log := w.log.With("run", w.run.Number, "file", m.File, "cluster", w.at.cluster, "database", w.at.database, "schema", to.Schema)
	turn, deadline, wait := time.Now().Add(limits.Turn), time.Now().Add(w.retry), first
	var last migrate.Batch
	for {
		err := w.spare(ctx, b, last.Took)
		if err == nil {
			last, err = b.Batch(w.steps)
		}
		switch {
		case err == nil && last.Last:
			log.InfoContext(ctx, "backfill is done", "rows", last.Total)
			return nil
		case err == nil:
			deadline, wait = time.Now().Add(w.retry), first
			pause(ctx, w.purses.pay(w.cluster, limits.RowsPerSecond, int(last.Rows)))
		case migrate.Judge(err) != migrate.Again || w.conn.IsClosed() || time.Now().After(deadline):
			return err
		default:
			pause(ctx, rand.N(wait))
			wait = min(2*wait, most)
		}
		if ctx.Err() != nil || err == nil && time.Now().After(turn) {
			log.InfoContext(ctx, "backfill makes room for others", "rows", last.Total)
			w.turned = true
			return errTurn
		}
	}
}

// spare waits as the server's health asks for, after a batch that took so long.
func (w *worker) spare(ctx context.Context, b *migrate.Backfill, took time.Duration) error {
	const again = time.Second
	for patience := time.Now().Add(w.cfg.Patience); ; {
		advice, why, err := b.Health(w.steps, w.cfg.Backfills.Health)
		switch {
		case err != nil || advice == migrate.Go:
			return err
		case advice == migrate.Slow:
			pause(ctx, took)
			return nil
		case time.Now().After(patience):
			return fmt.Errorf("%w: %s", migrate.ErrStrained, why)
		case !pause(ctx, again):
			return errTurn
		}
	}
}

// favoured is the database of which a worker would rather have targets: the one to which it has a connection, unless it is others'
// turn.
func (w *worker) favoured() string {
	if w.turned {
		w.turned = false
		return ""
	}
	return w.at.database
}
