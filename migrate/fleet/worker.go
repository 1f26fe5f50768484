package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// worker migrates targets of one cluster, one after the other.
type worker struct {
	*crew
	cluster string
	steps   context.Context // ends later than the caller's: what is being applied is waited for

	conn  *pgx.Conn // nil: none
	at    place     // where conn leads
	scope migrate.Scope
	used  int // targets that conn has seen

	pace    time.Duration // what a target of the last page took; 0: nobody knows
	retry   time.Duration // how long the target at hand is tried again at once
	turned  bool          // the last target made room for others
	claimed time.Time     // when it asked for what it holds
}

func (w *worker) loop(ctx context.Context) error {
	wait := pollFirst
	for ctx.Err() == nil {
		woken := w.woken()
		w.claimed = time.Now()
		targets, err := w.cfg.Catalog.ClaimTargets(ctx, placement.Claim{
			Run: w.run.ID, Cluster: w.cluster, Database: w.favoured(), Worker: w.process, TTL: w.cfg.Lease,
			Limit: pageSize, Share: w.cfg.Workers, Least: w.least(),
		})
		if err != nil {
			return err
		}
		if len(targets) > 0 {
			wait = pollFirst
			if err := w.page(ctx, targets); err != nil {
				return err
			}
			continue
		}
		w.idle.Add(1)
		if wait == pollFirst {
			select {
			case w.ready <- struct{}{}:
			default: // somebody has said so already
			}
		}
		select {
		case <-ctx.Done():
		case <-woken:
			wait = pollFirst
		case <-time.After(wait + rand.N(wait)):
			wait = min(2*wait, pollMost)
		}
		w.idle.Add(-1)
	}
	return ctx.Err()
}

// least is how many targets are not worth sharing with workers that have nothing to do: to claim some and to record them costs as much
// as a few small migrations.
func (w *worker) least() int {
	const worth = 100 * time.Millisecond
	if w.pace == 0 {
		return 1
	}
	return int(worth / w.pace)
}

// glimpse is how long a target is tried again at once while others of its page have not been tried at all.
const glimpse = 300 * time.Millisecond

// page migrates targets of one database, all of one scope, and records what has become of them. One in whose way a lock or the like
// stands is put behind the others.
func (w *worker) page(ctx context.Context, targets []target) error {
	const flush = 2 * time.Second
	have, err := w.prepare(targets)
	lost, recorded := false, time.Now()
	results := make([]placement.TargetResult, 0, len(targets))
	fresh := len(targets)
	begun := time.Now()
	defer func() { w.pace = time.Since(begun) / time.Duration(fresh) }()
	for i := 0; i < len(targets); i++ {
		// Whoever waits for the others does not wait for those that were put behind them.
		if time.Since(recorded) > flush || i == fresh {
			if err := w.record(results); err != nil {
				return err
			}
			results, recorded = results[:0], time.Now()
		}
		t := targets[i]
		if ctx.Err() != nil || lost || !w.holds() {
			results = append(results, placement.TargetResult{Target: t, State: placement.TargetPending}) // given back
			continue
		}
		failed := err // to prepare: that holds for all
		if failed == nil {
			first := i < fresh && fresh > 1
			w.retry = w.cfg.Retry
			if first {
				w.retry = min(glimpse, w.retry)
			}
			failed = w.migrate(ctx, have, t)
			lost = migrate.Judge(failed) == migrate.Unreachable || w.conn.IsClosed()
			if first && migrate.Judge(failed) == migrate.Again && !lost {
				targets = append(targets, t) // after those that nobody has tried yet
				continue
			}
		}
		results = append(results, w.result(t, failed))
	}
	if lost {
		w.close()
	}
	return w.record(results)
}

// holds reports whether what it has claimed is still its own. A process that was stopped for a while, or that the catalog has not
// heard of, finds out here before the homes refuse it.
func (w *worker) holds() bool {
	b := w.beats.Load()
	return time.Since(w.claimed) < w.cfg.Lease || time.Since(b.last) < w.cfg.Lease && b.first.Sub(w.claimed) < w.cfg.Lease
}

// prepare sees to it that there is a connection to the targets' database, and reads what they have.
func (w *worker) prepare(targets []target) (histories, error) {
	at, scope := place{w.cluster, targets[0].Home.Database}, migrate.Scope(targets[0].Scope)
	if w.at != at || w.scope != scope || w.used >= recycleTarget {
		w.close()
	}
	if w.conn == nil {
		conn, err := w.reach.Load().connect(w.steps, at, scope)
		if err != nil {
			return nil, err
		}
		w.conn, w.at, w.scope, w.used = conn, at, scope, 0
	}
	w.used += len(targets)
	places := make([]string, len(targets))
	for i, t := range targets {
		places[i] = t.Home.Schema
	}
	have, err := readHistories(w.steps, w.conn, places)
	if err != nil {
		w.close()
	}
	return have, err
}

func (w *worker) close() {
	if w.conn != nil {
		_ = closeConn(w.steps, w.conn) // nothing is open on it
		w.conn, w.at = nil, place{}
	}
}

// migrate applies what a target lacks. One that lacks nothing was held by somebody who may come back.
func (w *worker) migrate(ctx context.Context, have histories, t target) error {
	pending, err := have.pending(w.cfg.Set, aimOf(w.run), t)
	if err != nil {
		return &unfitError{err}
	}
	if len(pending) == 0 {
		if pending, err = w.fence(ctx, t); err != nil {
			return err
		}
	}
	for _, m := range pending {
		if err := w.apply(ctx, m, t); err != nil {
			return err
		}
	}
	return nil
}

// fence keeps those who held a target before out of it, and returns what it lacks after all that they have done.
func (w *worker) fence(ctx context.Context, t target) ([]migrate.Migration, error) {
	to, by := w.of(t)
	err := w.patiently(ctx, func() error { return migrate.Fence(w.steps, w.conn, to, by, w.cfg.Limits) })
	if err != nil {
		return nil, err
	}
	have, err := readHistories(w.steps, w.conn, []string{t.Home.Schema})
	if err != nil {
		return nil, err
	}
	pending, err := have.pending(w.cfg.Set, aimOf(w.run), t)
	if err != nil {
		return nil, &unfitError{err}
	}
	return pending, nil
}

// of is how a step names a target, and on whose behalf it is done.
func (w *worker) of(t target) (migrate.Target, migrate.Attempt) {
	to := migrate.Target{Scope: w.scope, Tenant: t.Tenant}
	if w.scope == migrate.ScopeTenant {
		to.Schema = t.Home.Schema
	}
	return to, migrate.Attempt{Run: w.run.ID, Lease: t.Fence}
}

// apply applies one migration, or undoes it.
func (w *worker) apply(ctx context.Context, m migrate.Migration, t target) error {
	to, by := w.of(t)
	step := m.Apply
	switch {
	case w.run.Down:
		step = m.Undo
	case m.Batched():
		return w.backfill(ctx, m, to, by)
	}
	return w.patiently(ctx, func() error {
		_, err := step(w.steps, w.conn, to, by, w.cfg.Limits)
		return err
	})
}

// patiently tries for a while where locks and the like stand in the way. The pauses are random in full: those who were turned away
// together do not come back together.
func (w *worker) patiently(ctx context.Context, step func() error) error {
	const first, most = 50 * time.Millisecond, time.Second
	for deadline, wait := time.Now().Add(w.retry), first; ; wait = min(2*wait, most) {
		if !w.holds() {
			return errTurn
		}
		err := step()
		if err == nil || migrate.Judge(err) != migrate.Again || w.conn.IsClosed() || time.Now().After(deadline) || !pause(ctx, rand.N(wait)) {
			return err
		}
	}
}

func (w *worker) result(t target, err error) placement.TargetResult {
	r := placement.TargetResult{Target: t, State: placement.TargetVerified}
	if err == nil {
		return r
	}
	if w.steps.Err() != nil || errors.Is(err, errTurn) { // cut off: nobody's fault
		r.State = placement.TargetPending
		return r
	}
	verdict := migrate.Judge(err)
	r.State = placement.TargetFailed
	if verdict == migrate.Again || verdict == migrate.Unreachable {
		r.State = placement.TargetPending
	}
	overtaken := errors.Is(err, migrate.ErrOvertaken)
	if overtaken {
		// The ledger passes this over where another worker has the target. Where it has not, the home knows more than the ledger.
		err = fmt.Errorf("%w, of whom the catalog does not know, as after it was restored from a backup: landlord migrate reconcile, "+
			"then landlord migrate retry", err)
	}
	r.Blameless = verdict == migrate.Unreachable || verdict == migrate.Held || isUnfit(err) || overtaken
	r.SQLState, r.Error = pgerr.Code(err), redact(err)
	return r
}

// record tells the ledger, also when the caller's context has ended.
func (w *worker) record(results []placement.TargetResult) error {
	if len(results) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.steps), time.Minute)
	defer cancel()
	return w.cfg.Catalog.FinishTargets(ctx, w.run.ID, w.process, w.cfg.Patience, results)
}
