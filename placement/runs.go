package placement

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// RunState is the state of a migration run.
type RunState string

// The states of a run. The last three are its end.
const (
	RunRunning   RunState = "running"
	RunPaused    RunState = "paused"    // somebody asked for it
	RunHalted    RunState = "halted"    // too much failed
	RunFailed    RunState = "failed"    // all is tried, and some of it failed
	RunDone      RunState = "done"      // every target is verified or skipped
	RunAbandoned RunState = "abandoned" // another run took its place
)

// TargetState is the state of one target of a run.
type TargetState string

// The states of a target.
const (
	TargetPending  TargetState = "pending"
	TargetLeased   TargetState = "leased"   // a worker has it, for a time
	TargetVerified TargetState = "verified" // its home says that it has all
	TargetFailed   TargetState = "failed"
	TargetSkipped  TargetState = "skipped" // somebody said why
)

// Run is one migration run in the ledger.
type Run struct {
	ID        string // uuid, also in the version rows of homes
	Number    int64  // what people call it
	Files     string // digest of its migrations
	Folder    string // where whoever began it has them; a hint, Files decides
	Newest    int64  // the last one's version
	State     RunState
	Wave      int // targets of later waves wait
	Waves     int
	StopAfter int    // the wave after which it pauses; 0: none
	Canary    bool   // one failure in the first wave halts it
	Why       string // it is paused or halted
	Actor     string
	StartedAt time.Time
	EndedAt   *time.Time
	Down      bool // homes above Newest are brought down to it
	// Phases are those of the files that it began with, in their order, each once.
	Phases     []string
	AllowDrift bool // homes that have drifted are migrated, too
	AtWork     bool // it is running, and a process has said so a moment ago
	// Contracted is where the gate stood when the files were chosen. [Catalog.BeginRun] and [Catalog.GoOn] ask for it; it is not kept.
	Contracted int64 `db:"-"`

	Between
	// SoakLeft is how long the next wave still waits, the one before being done; nil: it is not done, or nothing is waited for.
	SoakLeft *time.Duration
	Checking bool // somebody is finding out whether all is well
}

// Over reports that nothing more happens in the run unless failed targets are tried again.
func (r Run) Over() bool {
	return r.State == RunDone || r.State == RunFailed || r.State == RunAbandoned
}

// RunTarget is a target of a run: a home, or what stands for a whole database or server.
type RunTarget struct {
	Home   Home // its Schema is the place in landlord.schema_version
	Scope  string
	Tenant string // whose home it is; empty: nobody's alone
	Slug   string // the tenant's, where it is read from the ledger
	Wave   int

	State    TargetState
	Lease    int64  // counts the claims of it in the run
	Fence    int64  // of a claimed one: higher than that of every claim before, of this run and of those before it
	SQLState string // of the last error, if PostgreSQL raised it
	Error    string
	Reason   string // why it is skipped
}

// What callers ask about an error of the ledger.
var (
	ErrNoRun    = errors.New("there is no run: landlord migrate up begins one")
	ErrRunState = errors.New("the run does not allow it")
)

const runColumns = `id::text, number, files, folder, newest, state, wave, waves, stop_after, canary, why, actor, started_at, ended_at, down,
phases, allow_drift, state = 'running' and coalesce(seen_until > clock_timestamp(), false),
soak, checked, case when wave < waves then wave_done_at + soak - clock_timestamp() end, coalesce(checker <> '' and check_until > clock_timestamp(), false)`

// LastRun returns the run that began last, or [ErrNoRun].
func (c *Catalog) LastRun(ctx context.Context) (r Run, err error) {
	const query = `select ` + runColumns + ` from landlord.runs order by number desc limit 1`
	err = c.read(ctx, "read the last run", func(ctx context.Context, q querier) error {
		r, err = oneRun(ctx, q, query)
		return err
	})
	return r, err
}

// RunByID reads a run again.
func (c *Catalog) RunByID(ctx context.Context, id string) (r Run, err error) {
	const query = `select ` + runColumns + ` from landlord.runs where id = $1`
	err = c.read(ctx, "read the run", func(ctx context.Context, q querier) error {
		r, err = oneRun(ctx, q, query, id)
		return err
	})
	return r, err
}

func oneRun(ctx context.Context, q querier, query string, args ...any) (Run, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return Run{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Run])
	if errors.Is(err, pgx.ErrNoRows) {
		return Run{}, ErrNoRun
	}
	return r, err
}

// lockRuns lets one at a time make a run unfinished: two that begin at once would both find none. Lock order: this key, then a row
// of runs. A lock on the table would be waited for by who holds a row already, and updates it.
const lockRuns = `select pg_advisory_xact_lock(hashtextextended('landlord runs', 0))`

// BeginRun records a run with its targets. One whose state is failed stands there as failed from the start, for its error and
// through no fault of the files; all others are pending. An unfinished run of other files, or one that brings homes elsewhere, on
// which nobody is at work, is abandoned for it. Otherwise, where there is an unfinished run, that one is returned, and begun is
// false. When the gate is not where it was when r's files were chosen, it is [ErrGate]. A run down begins only where
// [Catalog.CheckDown] has nothing against it. What the workers of an abandoned run held when they were last heard of is among its
// targets, in the last wave: whoever stood still there may come back, and is refused only by a home that has met a later run.
func (c *Catalog) BeginRun(ctx context.Context, r Run, targets []RunTarget) (_ Run, begun bool, err error) {
	const unfinished = `
select ` + runColumns + ` from landlord.runs where state in ('running', 'paused', 'halted') for update`
	const insert = `
insert into landlord.runs (files, newest, state, waves, stop_after, canary, why, actor, down, soak, checked, folder, phases, allow_drift)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13::text[], '{}'), $14)
returning ` + runColumns
	const inherit = `
with held as (
  update landlord.run_targets set state = 'pending', worker = null, leased_until = null
   where state = 'leased' and run in (select id from landlord.runs where state = 'abandoned')
  returning cluster, database, place, scope, tenant)
insert into landlord.run_targets (run, cluster, database, place, scope, tenant, wave)
select distinct r.id, h.cluster, h.database, h.place, h.scope, h.tenant, r.waves from held h, landlord.runs r where r.id = $1
    on conflict do nothing`
	var out Run
	err = c.ledger(ctx, "begin a run", func(ctx context.Context, tx pgx.Tx) error {
		begun = false
		if _, err := tx.Exec(ctx, lockRuns); err != nil {
			return err
		}
		if err := holdForRun(ctx, tx, r); err != nil {
			return err
		}
		var err error
		if out, err = oneRun(ctx, tx, unfinished); err == nil {
			if out.Files == r.Files && out.Down == r.Down && out.Newest == r.Newest {
				return nil
			}
			if err := abandon(ctx, tx, out, "another run took its place"); err != nil {
				return err
			}
		} else if !errors.Is(err, ErrNoRun) {
			return err
		}
		if r.Down {
			if err := checkDown(ctx, tx, r.Newest); err != nil {
				return err
			}
		}
		out, err = oneRun(ctx, tx, insert, r.Files, r.Newest, r.State, r.Waves, r.StopAfter, r.Canary, r.Why, c.cfg.Actor, r.Down,
			r.Soak, r.Checked, r.Folder, r.Phases, r.AllowDrift)
		if err != nil {
			return err
		}
		begun = true
		if _, err := tx.Exec(ctx, forgetAsked); err != nil {
			return err
		}
		if err := addTargets(ctx, tx, out.ID, targets); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, inherit, out.ID); err != nil {
			return err
		}
		// What follows is planned for as many targets as there are now.
		_, err = tx.Exec(ctx, `analyze (skip_locked) landlord.run_targets`)
		return err
	})
	return out, begun, err
}

// AbandonRun ends an unfinished run for a reason, if nobody works on it: else it is [ErrRunState]. So it is of one that has just
// begun, whose process has yet to claim something. One that is over stays as it is.
func (c *Catalog) AbandonRun(ctx context.Context, run, why string) error {
	const query = `select ` + runColumns + ` from landlord.runs where id = $1 for update`
	return c.ledger(ctx, "abandon the run", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRuns); err != nil {
			return err
		}
		r, err := oneRun(ctx, tx, query, run)
		if err != nil || r.Over() {
			return err
		}
		var young bool
		if err := tx.QueryRow(ctx, `select $1 > now() - interval '10 seconds'`, r.StartedAt).Scan(&young); err != nil {
			return err
		}
		if young && r.State == RunRunning {
			return fmt.Errorf("%w: run %d has just begun", ErrRunState, r.Number)
		}
		return abandon(ctx, tx, r, why)
	})
}

// abandon ends an unfinished run that nobody works on. Of one that runs, targets that were put off a moment ago say that somebody
// waits to try them again, and so does a wave that soaks or is being checked.
func abandon(ctx context.Context, tx pgx.Tx, r Run, why string) error {
	const update = `
update landlord.runs set state = 'abandoned', ended_at = now(), why = $3
where id = $1
  and not ($2 and (coalesce(check_until > now(), false)
                   or wave < waves and coalesce(wave_done_at + soak > now() - interval '10 seconds', false)))
  and not exists (select from landlord.run_targets where run = $1
  and (state = 'leased' and leased_until > now() or $2 and state = 'pending' and not_before > now() - interval '10 seconds'))`
	tag, err := tx.Exec(ctx, update, r.ID, r.State == RunRunning, why)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("%w: run %d is at work on something else: let it end, or landlord migrate pause and try again when "+
			"what is in flight is done", ErrRunState, r.Number)
	}
	return err
}

// AddRunTargets adds targets to the last wave of a run. Those that it has already stay as they are.
func (c *Catalog) AddRunTargets(ctx context.Context, run string, targets []RunTarget) error {
	return c.ledger(ctx, "add targets to the run", func(ctx context.Context, tx pgx.Tx) error {
		return addTargets(ctx, tx, run, targets)
	})
}

func addTargets(ctx context.Context, tx pgx.Tx, run string, targets []RunTarget) error {
	const insert = `
insert into landlord.run_targets (run, cluster, database, place, scope, tenant, wave, state, blameless, error)
select $1, cluster, database, place, scope, nullif(tenant, ''), wave, case when failed then 'failed' else 'pending' end, failed, error
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bool[], $9::text[])
       as t (cluster, database, place, scope, tenant, wave, failed, error)
    on conflict do nothing`
	n := len(targets)
	clusters, databases, places := make([]string, n), make([]string, n), make([]string, n)
	scopes, tenants, waves := make([]string, n), make([]string, n), make([]int, n)
	failed, errs := make([]bool, n), make([]string, n)
	for i, t := range targets {
		clusters[i], databases[i], places[i] = t.Home.Cluster, t.Home.Database, t.Home.Schema
		scopes[i], tenants[i], waves[i] = t.Scope, t.Tenant, t.Wave
		if failed[i] = t.State == TargetFailed; failed[i] {
			errs[i] = t.Error
		}
	}
	_, err := tx.Exec(ctx, insert, run, clusters, databases, places, scopes, tenants, waves, failed, errs)
	return err
}

// SetRunState brings a run from one of the states to another in which nobody works on it. When it is in none of them, it is
// [ErrRunState].
func (c *Catalog) SetRunState(ctx context.Context, run string, to RunState, why string, stopAfter int, from ...RunState) (Run, error) {
	return c.setRunState(ctx, fmt.Sprintf("set the run %s", to), run, to, why, stopAfter, from,
		func(context.Context, pgx.Tx) error { return nil })
}

func (c *Catalog) setRunState(
	ctx context.Context, act, run string, to RunState, why string, stopAfter int, from []RunState, may func(context.Context, pgx.Tx) error,
) (r Run, err error) {
	const update = `
update landlord.runs set state = $2, why = $3, stop_after = $4, ended_at = null
where id = $1 and state = any($5) returning ` + runColumns
	err = c.ledger(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockRuns); err != nil {
			return err
		}
		if err := may(ctx, tx); err != nil {
			return err
		}
		r, err = oneRun(ctx, tx, update, run, to, why, stopAfter, from)
		if errors.Is(err, ErrNoRun) {
			if r, err = oneRun(ctx, tx, `select `+runColumns+` from landlord.runs where id = $1`, run); err == nil {
				err = fmt.Errorf("%w: run %d is %s", ErrRunState, r.Number, r.State)
			}
		}
		if pgerr.Is(err, pgerr.UniqueViolation) {
			err = fmt.Errorf("%w: a newer run is not over yet", ErrRunState)
		}
		return err
	})
	return r, err
}

// GoOn makes a run running again that is in one of the states. As with [Catalog.BeginRun], it is [ErrGate] when the gate is not
// where it was when r's files were chosen, and a run down goes on only where [Catalog.CheckDown] has nothing against it.
func (c *Catalog) GoOn(ctx context.Context, r Run, stopAfter int, from ...RunState) (Run, error) {
	const act = "go on with the run"
	return c.setRunState(ctx, act, r.ID, RunRunning, "", stopAfter, from, func(ctx context.Context, tx pgx.Tx) error {
		if err := holdForRun(ctx, tx, r); err != nil || !r.Down {
			return err
		}
		return checkDown(ctx, tx, r.Newest)
	})
}

// holdForRun keeps the gate where it was when the files of a run were chosen; for one down, no instance of the application begins
// meanwhile that needs what is undone.
func holdForRun(ctx context.Context, tx pgx.Tx, r Run) error {
	lock := `for share`
	if r.Down {
		lock = `for update`
	}
	return holdGate(ctx, tx, r.Contracted, lock)
}

// RetryTargets makes failed targets of a run pending again, all or the one at home, but those at except, and returns how many.
func (c *Catalog) RetryTargets(ctx context.Context, run string, home *Home, except ...Home) (n int, err error) {
	const update = `
update landlord.run_targets
set state = 'pending', tries = 0, trouble_at = null, not_before = '-infinity', blameless = false, sqlstate = '', error = ''
where run = $1 and state = 'failed' and ($2 = '' or (cluster, database, place) = ($2, $3, $4))
  and (cluster, database, place) not in (select * from unnest($5::text[], $6::text[], $7::text[]))`
	var one Home
	if home != nil {
		one = *home
	}
	clusters, databases, places := make([]string, len(except)), make([]string, len(except)), make([]string, len(except))
	for i, h := range except {
		clusters[i], databases[i], places[i] = h.Cluster, h.Database, h.Schema
	}
	err = c.ledger(ctx, "try failed targets again", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, update, run, one.Cluster, one.Database, one.Schema, clusters, databases, places)
		n = int(tag.RowsAffected())
		return err
	})
	return n, err
}

// BarTargets enters pending targets of a run as failed, each for a reason that says nothing of the files.
func (c *Catalog) BarTargets(ctx context.Context, run string, why map[Home]string) error {
	const update = `
update landlord.run_targets t set state = 'failed', blameless = true, error = d.why
  from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as d (cluster, database, place, why)
 where t.run = $1 and (t.cluster, t.database, t.place) = (d.cluster, d.database, d.place) and t.state = 'pending'`
	var clusters, databases, places, reasons []string
	for h, reason := range why {
		clusters, databases, places = append(clusters, h.Cluster), append(databases, h.Database), append(places, h.Schema)
		reasons = append(reasons, reason)
	}
	return c.ledger(ctx, "bar targets", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, update, run, clusters, databases, places, reasons)
		return err
	})
}

// SkipTarget takes a target out of a run that is neither verified nor being worked on, for a reason, and returns whether it
// was there. A run in which nothing else failed is done then.
func (c *Catalog) SkipTarget(ctx context.Context, run string, home Home, reason string) (found bool, err error) {
	const update = `
update landlord.run_targets set state = 'skipped', reason = $5
where run = $1 and (cluster, database, place) = ($2, $3, $4)
  and (state in ('pending', 'failed') or state = 'leased' and leased_until <= now())`
	const done = `
update landlord.runs set state = 'done'
where id = $1 and state = 'failed' and not exists (select from landlord.run_targets where run = $1 and state = 'failed')`
	err = c.ledger(ctx, "skip a target", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, update, run, home.Cluster, home.Database, home.Schema, reason)
		if err != nil {
			return err
		}
		found = tag.RowsAffected() > 0
		_, err = tx.Exec(ctx, done, run)
		return err
	})
	return found, err
}

// ledger runs fn in a transaction that holds no lock but those of its rows: workers of one run do not wait for whoever
// places tenants.
func (c *Catalog) ledger(ctx context.Context, act string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return c.ledgerWithin(ctx, act, time.Minute, fn)
}

// ledgerWithin is ledger. What the ledger asks is worded for few rows among many, and its cost overestimated: to compile it would take
// seconds. A process that stops in the middle loses its session, and the locks, after idle.
func (c *Catalog) ledgerWithin(ctx context.Context, act string, idle time.Duration, fn func(ctx context.Context, tx pgx.Tx) error) error {
	begin := fmt.Sprintf(`
begin isolation level read committed;
set local idle_in_transaction_session_timeout = %d;
set local jit = off;
set local lock_timeout = %d`, idle.Milliseconds(), c.lockTimeout().Milliseconds())
	return c.try(ctx, act, func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, c.pool, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error { return fn(ctx, tx) })
	})
}

// ledgerAtOnce is ledger for one statement, in one round trip. It never waits for the caller with a lock in hand: the end of the
// transaction is sent along. take, if not nil, gets the rows.
func (c *Catalog) ledgerAtOnce(ctx context.Context, act, query string, args []any, take func(rows pgx.Rows) error) error {
	return c.try(ctx, act, func(ctx context.Context) (err error) {
		var b pgx.Batch
		b.Queue(`begin isolation level read committed`)
		b.Queue(`select set_config('jit', 'off', true), set_config('lock_timeout', $1, true)`, strconv.FormatInt(c.lockTimeout().Milliseconds(), 10))
		b.Queue(query, args...)
		b.Queue(`commit`)
		results := c.pool.SendBatch(ctx, &b)
		defer func() {
			if closeErr := results.Close(); err == nil {
				err = closeErr
			}
		}()
		for range 2 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		if take == nil {
			take = func(rows pgx.Rows) error {
				rows.Close()
				return rows.Err()
			}
		}
		if err := take(rows); err != nil {
			return err
		}
		_, err = results.Exec()
		return err
	})
}

// lockTimeout is how long the ledger waits for whoever changes the same rows.
func (c *Catalog) lockTimeout() time.Duration { return max(c.cfg.Retry, c.cfg.Timeout) }
