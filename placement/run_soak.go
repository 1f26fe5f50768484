package placement

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// CheckLimit is how long a process may take to find out whether all is well after a wave. Another one takes its place soon after.
const CheckLimit = time.Minute

// Between is what stands between a wave of a run that is done and the next one. The last wave is followed by nothing.
type Between struct {
	Soak    time.Duration // to wait, on the catalog's clock
	Checked bool          // then somebody has to find all well
}

// reopened forgets when a wave was done in which something is to be done again.
const reopened = `
update landlord.runs r set wave_done_at = null, passed = r.wave - 1
where r.id = $1 and r.wave_done_at is not null
  and exists (select from landlord.run_targets where run = $1 and wave <= r.wave and state in ('pending', 'leased'))`

// PassWave lets the next wave of a run begin when this one, which is done, has soaked, and nothing is to be found out. Otherwise
// check says that the caller, if it is able to, is to find out whether all is well, and to call [Catalog.EndCheck] within
// [CheckLimit]. Nothing is done, and nothing to be done, as long as the soak time goes on or another worker is finding out.
//
// A wave in which nothing was changed is passed at once.
func (c *Catalog) PassWave(ctx context.Context, run string, wave int, worker string, able bool) (check bool, err error) {
	const done = `
update landlord.runs r set wave_done_at = clock_timestamp()
where r.id = $1 and r.state = 'running' and r.wave = $2 and r.wave < r.waves and r.wave_done_at is null
  and not exists (select from landlord.run_targets where run = $1 and wave <= r.wave and state in ('pending', 'leased'))`
	const pass = `
update landlord.runs r
   set passed = case when n.idle or not r.checked then r.wave else r.passed end,
       checker = case when n.idle or not r.checked then null else $3 end,
       check_until = clock_timestamp() + $5
  from (select not exists (select from landlord.run_targets where run = $1 and wave = $2 and state = 'verified') as idle) n
 where r.id = $1 and r.state = 'running' and r.wave = $2 and r.wave < r.waves and r.passed < r.wave
   and r.wave_done_at is not null
   and (n.idle or r.wave_done_at + r.soak <= clock_timestamp()
                  and (not r.checked or $4 and (r.checker is null or r.checker = $3 or r.check_until <= clock_timestamp())))
returning r.passed < r.wave`
	err = c.ledger(ctx, "pass a wave", func(ctx context.Context, tx pgx.Tx) error {
		check = false
		if _, err := tx.Exec(ctx, done, run, wave); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, pass, run, wave, worker, able, CheckLimit+30*time.Second)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&check}, func() error { return nil })
		return err
	})
	return check, err
}

// CheckResult is what came of finding out whether all is well after a wave.
type CheckResult string

// The results of a check.
const (
	CheckPassed    CheckResult = "passed"     // the next wave may begin
	CheckFailed    CheckResult = "failed"     // the run is halted
	CheckGivenBack CheckResult = "given back" // somebody else is to find out
)

// EndCheck records what came of a check that [Catalog.PassWave] gave to the worker. It changes nothing when the run has gone
// on, has stopped, or has given the check to another one meanwhile.
func (c *Catalog) EndCheck(ctx context.Context, run string, wave int, worker string, result CheckResult, why string) error {
	const update = `
update landlord.runs r
   set checker = null, check_until = null,
       passed = case when $4 = 'passed' then r.wave else r.passed end,
       state = case when $4 = 'failed' and r.state = 'running' then 'halted' else r.state end,
       why = case when $4 = 'failed' and r.state = 'running' then $5 else r.why end
 where r.id = $1 and r.wave = $2 and r.checker = $3 and r.state in ('running', 'paused', 'halted')`
	return c.ledger(ctx, "record a health check", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, update, run, wave, worker, result, why)
		return err
	})
}

// SetBetween changes what stands between the waves of a run.
func (c *Catalog) SetBetween(ctx context.Context, run string, b Between) error {
	const update = `update landlord.runs set soak = $2, checked = $3, checker = null, check_until = null where id = $1`
	return c.ledger(ctx, "set what stands between waves", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, update, run, b.Soak, b.Checked)
		return err
	})
}
