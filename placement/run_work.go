package placement

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Claim is what a worker asks for: some targets of one database, for as long as it renews them.
type Claim struct {
	Run      string
	Cluster  string
	Database string // the one to which it has a connection, if that still has targets
	Worker   string
	Limit    int
	Share    int           // how many workers share what there is: none takes more than a part of it, up to Limit
	Least    int           // fewer are not worth a claim of their own: they are not shared. Default: 1
	TTL      time.Duration // on the catalog's clock
}

// ClaimTargets leases targets that are due: of a wave that has begun, not held by another worker, and not waiting for what
// must come first in their database or on their server, or in a run down last. None while the run is not running.
func (c *Catalog) ClaimTargets(ctx context.Context, claim Claim) (targets []RunTarget, err error) {
	const due = `
t.run = $1 and t.cluster = $2 and t.state in ('pending', 'leased')
and (t.state = 'pending' and t.not_before <= clock_timestamp() or t.state = 'leased' and t.leased_until <= clock_timestamp())
and case when (select down from run) then not ` + stillNeeded + `
         else not exists (select from unmet u where u.scope = 'server' and t.scope <> 'server' or t.scope = 'tenant' and u.database = t.database) end`
	// The run's row is held to the end: whoever ends or stops the run sees what is claimed, or nothing is claimed of it any more.
	// What must come first is read once. Nothing here is joined, and what is ordered is ordered as an index is: whatever the planner
	// believes of a table that fills within seconds, a claim reads little more than it takes.
	const query = `
with run as materialized (select wave, down from landlord.runs where id = $1 and state = 'running'),
unmet as materialized (
  select b.scope, b.database from landlord.run_targets b
   where b.run = $1 and b.cluster = $2 and b.scope <> 'tenant' and b.state not in ('verified', 'skipped')),
first as materialized (
  select coalesce(
    (select t.database from landlord.run_targets t where t.database = $3 and t.wave <= (select wave from run) and ` + due + `
      order by t.wave, t.not_before, t.place limit 1),
    (select t.database from landlord.run_targets t where t.wave <= (select wave from run) and ` + due + `
      order by t.wave, t.not_before, t.database limit 1)) as database),
held as materialized (
  select number, wave from landlord.runs
   where id = $1 and state = 'running' and (select database from first) is not null for share),
page as materialized (
  select t.ctid from landlord.run_targets t
   where t.wave <= (select wave from held) and t.database = (select database from first) and ` + due + `
   order by t.wave, t.not_before, t.place
   limit (select greatest($8::bigint, least($4::bigint, count(*) / $7::bigint)) from (
            select from landlord.run_targets t where t.wave <= (select wave from held) and ` + due + `
             order by t.wave, t.not_before, t.database limit $4::bigint * $7::bigint) n)
     for update skip locked)
update landlord.run_targets t
   set state = 'leased', lease = t.lease + 1, worker = $5, leased_until = clock_timestamp() + $6
 where t.ctid = any (array(select ctid from page))
returning t.cluster, t.database, t.place, t.scope, coalesce(t.tenant, ''), t.wave, t.state, t.lease, (select number from held) << 32 | t.lease`
	args := []any{
		claim.Run, claim.Cluster, claim.Database, claim.Limit, claim.Worker, claim.TTL, claim.Share, min(max(claim.Least, 1), claim.Limit),
	}
	err = c.ledgerAtOnce(ctx, "claim targets", query, args, func(rows pgx.Rows) (err error) {
		targets, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t RunTarget, err error) {
			err = row.Scan(&t.Home.Cluster, &t.Home.Database, &t.Home.Schema, &t.Scope, &t.Tenant, &t.Wave, &t.State, &t.Lease, &t.Fence)
			return t, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return targets, nil
}

// Attend says that a process works on a run, and will say so again within ttl.
func (c *Catalog) Attend(ctx context.Context, run string, ttl time.Duration) error {
	const update = `update landlord.runs set seen_until = greatest(seen_until, clock_timestamp() + $2) where id = $1`
	return c.ledgerAtOnce(ctx, "attend to the run", update, []any{run, ttl}, nil)
}

// RenewTargets renews all that a worker holds.
func (c *Catalog) RenewTargets(ctx context.Context, run, worker string, ttl time.Duration) error {
	const update = `
update landlord.run_targets set leased_until = clock_timestamp() + $3 where run = $1 and worker = $2 and state = 'leased'`
	return c.ledgerAtOnce(ctx, "renew targets", update, []any{run, worker, ttl}, nil)
}

// TargetResult is what a worker made of a target that it holds.
type TargetResult struct {
	Target RunTarget
	// State is verified, failed, or pending: it is put off, and fails when that has gone on for too long. Without an error a
	// pending target is given back, and comes behind those that wait already.
	State     TargetState
	Blameless bool // its server was not there, or it is being moved: that says nothing of the files, and halts no run
	SQLState  string
	Error     string
}

// FinishTargets records results. Those of a target that another worker has taken over are passed over. patience is for how
// long a target may be put off. A run in which too much has failed is halted: one failure in the first wave, if that is a
// canary, and then more than one percent of at least a hundred targets.
func (c *Catalog) FinishTargets(ctx context.Context, run, worker string, patience time.Duration, results []TargetResult) error {
	const update = `
update landlord.run_targets t
   set state = case when d.state = 'pending' and d.error <> '' and clock_timestamp() - coalesce(t.trouble_at, clock_timestamp()) >= $3
                    then 'failed' else d.state end,
       worker = null, leased_until = null, sqlstate = d.sqlstate, error = d.error,
       -- a home that goes, or is gone, fails in ways of its own
       blameless = d.blameless or d.error <> '' and t.tenant is not null and (not ` + targetLives + `
           or exists (select from landlord.tenants n where n.id = t.tenant and n.remove_after <= clock_timestamp())),
       tries = case when d.error = '' then 0 else t.tries + 1 end,
       trouble_at = case when d.error <> '' then coalesce(t.trouble_at, clock_timestamp()) end,
       not_before = case when d.state = 'pending' and d.error <> ''
                         then clock_timestamp() + random() * interval '200 ms' * (2 ^ least(t.tries, 7))
                         when d.state = 'pending' then clock_timestamp() else '-infinity' end
  from unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::bool[], $10::text[], $11::text[])
       as d (cluster, database, place, lease, state, blameless, sqlstate, error)
 where t.run = $1 and (t.cluster, t.database, t.place, t.lease) = (d.cluster, d.database, d.place, d.lease)
   and t.worker = $2 and t.state = 'leased'
returning t.state = 'failed' and not t.blameless`
	n := len(results)
	clusters, databases, places, leases := make([]string, n), make([]string, n), make([]string, n), make([]int64, n)
	states, blameless, sqlstates, errs := make([]string, n), make([]bool, n), make([]string, n), make([]string, n)
	for i, r := range results {
		clusters[i], databases[i], places[i] = r.Target.Home.Cluster, r.Target.Home.Database, r.Target.Home.Schema
		leases[i], states[i], blameless[i], sqlstates[i], errs[i] = r.Target.Lease, string(r.State), r.Blameless, r.SQLState, r.Error
	}
	const act = "record results"
	args := []any{run, worker, patience, clusters, databases, places, leases, states, blameless, sqlstates, errs}
	if !slices.ContainsFunc(results, func(r TargetResult) bool { return r.Error != "" || r.State == TargetFailed }) {
		return c.ledgerAtOnce(ctx, act, update, args, nil)
	}
	// Whatever dies, no failure is on record without what follows from it.
	return c.ledger(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, update, args...)
		if err != nil {
			return err
		}
		failed, anyFailed := false, false
		if _, err := pgx.ForEachRow(rows, []any{&failed}, func() error { anyFailed = anyFailed || failed; return nil }); err != nil {
			return err
		}
		if !anyFailed {
			return nil
		}
		return halt(ctx, tx, run)
	})
}

// halt halts the run if too much of it has failed.
func halt(ctx context.Context, tx pgx.Tx, run string) error {
	// One at a time, and by what the last has committed: two that each count one percent must not both pass.
	if _, err := tx.Exec(ctx, `select from landlord.runs where id = $1 for update`, run); err != nil {
		return err
	}
	const update = `
update landlord.runs r
   set state = 'halted', why = case when r.canary and n.first > 0 then format('%s of the first wave failed', n.first)
                                    else format('%s of %s failed', n.failed, n.tried) end
  from (select count(*) filter (where state = 'failed' and not blameless) as failed,
               count(*) filter (where state = 'failed' and not blameless and wave = 1) as first,
               count(*) filter (where state in ('verified', 'failed')) as tried
          from landlord.run_targets where run = $1) n
 where r.id = $1 and r.state = 'running' and (r.canary and n.first > 0 or n.tried >= 100 and n.failed * 100 > n.tried)`
	_, err := tx.Exec(ctx, update, run)
	return err
}

// targetLives tells whether target t is the home of its tenant. The tenant alone is what is looked up, whatever the planner believes:
// where a fleet has grown since the last statistics, it would read all homes of the database for each target.
const targetLives = `coalesce((select (p.cluster, p.database, p.schema) = (t.cluster, t.database, t.place)
                        from landlord.placements p where p.tenant = t.tenant), false)`

// AdvanceRun takes a run a step further when nothing is left to do in its wave: it begins the next one, if [Catalog.PassWave] has
// passed this one where something stands between them, pauses after the wave that was asked for, or, when last, ends the run. Targets whose database or server failed fail with it, and those whose
// tenant is gone are skipped, in the next wave too, before somebody tries them. It returns the run as it is then, and how many targets are still to be done before it goes on.
func (c *Catalog) AdvanceRun(ctx context.Context, run string, last bool) (r Run, open int, err error) {
	const gone = `
update landlord.run_targets t
   set state = 'skipped', reason = case when exists (select from landlord.placements p where p.tenant = t.tenant)
                                        then 'the tenant lives elsewhere now' else 'the tenant was removed' end
where t.run = $1 and t.state in ('pending', 'failed') and t.tenant is not null
  and not ` + targetLives
	const blocked = `
update landlord.run_targets t set state = 'failed', blameless = true, error = 'not tried: ' || b.scope || ' files failed before'
  from landlord.run_targets b
 where t.run = $1 and t.state = 'pending' and b.run = t.run and b.cluster = t.cluster and b.scope <> 'tenant' and b.state = 'failed'
   and (b.scope = 'server' and t.scope <> 'server' or t.scope = 'tenant' and b.database = t.database)
   and not exists (select from landlord.runs where id = $1 and down)`
	const advance = `
update landlord.runs r
   set wave = least(r.wave + 1, r.waves),
       state = case when r.wave = r.stop_after then 'paused'
                    when r.wave < r.waves or not $2 then 'running'
                    when exists (select from landlord.run_targets where run = $1 and state = 'failed') then 'failed' else 'done' end,
       why = case when r.wave = r.stop_after then format('wave %s is done', r.wave) else r.why end,
       ended_at = case when r.wave = r.waves and $2 then now() end, wave_done_at = null
 where r.id = $1 and r.state = 'running' and (r.wave = r.waves or r.passed = r.wave or r.soak = '0' and not r.checked)
   and not exists (select from landlord.run_targets where run = $1 and wave <= r.wave and state in ('pending', 'leased'))`
	const count = `
select count(*) from landlord.run_targets where run = $1 and wave <= $2 and state in ('pending', 'leased')`
	err = c.ledger(ctx, "go on with the run", func(ctx context.Context, tx pgx.Tx) error {
		// Whoever advances sees what the last one who did has committed.
		if r, err = oneRun(ctx, tx, `select `+runColumns+` from landlord.runs where id = $1 for update`, run); err != nil || r.State != RunRunning {
			return err
		}
		var steps pgx.Batch
		for _, sql := range []string{gone, blocked, blockedDown, reopened} {
			steps.Queue(sql, run)
		}
		steps.Queue(advance, run, last)
		if err := tx.SendBatch(ctx, &steps).Close(); err != nil {
			return err
		}
		if r, err = oneRun(ctx, tx, `select `+runColumns+` from landlord.runs where id = $1`, run); err != nil {
			return err
		}
		return tx.QueryRow(ctx, count, run, r.Wave).Scan(&open)
	})
	return r, open, err
}

// RunCount is how many targets of a wave of a run are in a state on a cluster.
type RunCount struct {
	Wave    int
	Cluster string
	State   TargetState
	Count   int
	PutOff  int    // of them are to be tried again after an error
	Error   string // of one of those
}

// RunCounts counts the targets of a run, by wave and cluster.
func (c *Catalog) RunCounts(ctx context.Context, run string) (counts []RunCount, err error) {
	const query = `
select wave, cluster, state, count(*), count(*) filter (where off), coalesce(max(error) filter (where off), '')
  from (select *, state in ('pending', 'leased') and error <> '' as off from landlord.run_targets where run = $1) t
 group by wave, cluster, state order by wave, cluster, state`
	err = c.read(ctx, "count the run's targets", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, run)
		if err != nil {
			return err
		}
		counts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RunCount])
		return err
	})
	return counts, err
}

const targetColumns = `
select cluster, database, place, scope, coalesce(tenant, ''), wave, state, lease, sqlstate, error, reason,
       coalesce((select n.slug from landlord.tenants n where n.id = t.tenant), '')
  from landlord.run_targets t `

// RunTargets returns the targets of a run, by home.
func (c *Catalog) RunTargets(ctx context.Context, run string) ([]RunTarget, error) {
	return c.runTargets(ctx, "list the run's targets", targetColumns+`where run = $1 order by cluster, database, place`, run)
}

// TroubledTargets returns the targets of a run that have failed, are skipped or have been put off after an error, by home.
func (c *Catalog) TroubledTargets(ctx context.Context, run string) ([]RunTarget, error) {
	const query = targetColumns + `
where run = $1 and (state in ('failed', 'skipped') or state in ('pending', 'leased') and error <> '') order by cluster, database, place`
	return c.runTargets(ctx, "list what went wrong in the run", query, run)
}

func (c *Catalog) runTargets(ctx context.Context, act, query, run string) (targets []RunTarget, err error) {
	err = c.read(ctx, act, func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, run)
		if err != nil {
			return err
		}
		targets, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t RunTarget, err error) {
			err = row.Scan(&t.Home.Cluster, &t.Home.Database, &t.Home.Schema, &t.Scope, &t.Tenant, &t.Wave, &t.State, &t.Lease,
				&t.SQLState, &t.Error, &t.Reason, &t.Slug)
			return t, err
		})
		return err
	})
	return targets, err
}

// SettleTargets sets targets of a run to verified or pending after what their homes say, but those that somebody works on or
// that are skipped. A failed one stays failed as long as it is not verified. It returns how many were changed.
func (c *Catalog) SettleTargets(ctx context.Context, run string, verified, behind []RunTarget) (n int, err error) {
	const update = `
update landlord.run_targets t set state = $5, sqlstate = '', error = ''
  from unnest($2::text[], $3::text[], $4::text[]) as d (cluster, database, place)
 where t.run = $1 and (t.cluster, t.database, t.place) = (d.cluster, d.database, d.place) and t.state <> $5
   and (t.state in ('pending', 'verified') or t.state = 'failed' and $5 = 'verified' or t.state = 'leased' and t.leased_until <= now())`
	err = c.ledger(ctx, "settle the run's targets", func(ctx context.Context, tx pgx.Tx) error {
		n = 0
		for state, targets := range map[TargetState][]RunTarget{TargetVerified: verified, TargetPending: behind} {
			clusters, databases, places := make([]string, len(targets)), make([]string, len(targets)), make([]string, len(targets))
			for i, t := range targets {
				clusters[i], databases[i], places[i] = t.Home.Cluster, t.Home.Database, t.Home.Schema
			}
			tag, err := tx.Exec(ctx, update, run, clusters, databases, places, state)
			if err != nil {
				return err
			}
			n += int(tag.RowsAffected())
		}
		return nil
	})
	return n, err
}
