package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/verify"
)

// attempt is one try. Its order is the protocol: the gate, the lock, the fence with its message, everything up to the message, the
// sequences, the snapshots, the commit point, the opening. Nothing that could be done before the lock is done behind it.
type attempt struct {
	*Cutover
	id            string
	fence         *pgx.Conn // holds the tenant's key, and nothing else may pass the tenant on
	to            *pgx.Conn
	before, after *pgx.Conn // become snapshots
	start         time.Time // when the tenant's writers began to wait, by the old home's server's clock
	deadline      time.Time // of the commit point, by ours
	raised        bool      // the fence may be up
}

// attempt makes one try. An error of type *againError means that it is undone and may be tried again.
func (c *Cutover) attempt(ctx context.Context, r *Result) (err error) {
	a := &attempt{Cutover: c, id: uuid.NewString()}
	defer a.close(ctx)
	if err := a.open(ctx); err != nil {
		return later(ctx, err, false)
	}
	if err := a.step(ctx, "gate", a.gate); err != nil {
		return later(ctx, err, false)
	}
	stalled, err := a.lock(ctx, r)
	if err != nil {
		return later(ctx, err, stalled)
	}
	// From here on the tenant's writers wait.
	a.deadline = time.Now().Add(c.cfg.MaxPause - r.Drain)
	err = a.handOver(ctx, r)
	if err == nil {
		return c.finish(ctx, a, r)
	}
	if a.late(err) {
		err = &pauseError{longest: a.cfg.MaxPause, err: err}
	}
	committed, settleErr := a.undo(ctx)
	switch {
	case settleErr != nil:
		return &UnsettledError{Err: errors.Join(err, settleErr)}
	case committed: // the answer to the commit was lost
		return c.finish(ctx, a, r)
	}
	r.forget(ctx)
	r.Pause = a.paused(ctx)
	return later(ctx, err, true)
}

// later tells whether an attempt that failed with err may be tried again. Not, when somebody else has changed the fence.
func later(ctx context.Context, err error, stalled bool) error {
	lost := new(isolation.FenceError)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("pass the tenant on: %w", errors.Join(context.Cause(ctx), err))
	case errors.As(err, &lost) && (lost.Stands == nil || lost.Stands.State != isolation.Fenced):
		return fmt.Errorf("pass the tenant on: %w", err)
	}
	return &againError{err: err, stalled: stalled}
}

// idleTimeout is how long the fence session may be idle: if its process hangs, the server ends it and lets the tenant go.
const idleTimeout = 2 * time.Second

// open opens all sessions, before anybody waits for them.
func (a *attempt) open(ctx context.Context) (err error) {
	for _, s := range []struct {
		conn **pgx.Conn
		home Home
	}{{&a.fence, a.cfg.From}, {&a.before, a.cfg.From}, {&a.to, a.cfg.To}, {&a.after, a.cfg.To}} {
		if *s.conn, err = s.home.Connect(ctx); err != nil {
			return fmt.Errorf("connect to %s: %w", s.home.Key.Home, err)
		}
	}
	// What must not outlive this process, wherever it is cut off from the server.
	idle := max(idleTimeout, a.cfg.MaxPause+idleTimeout/4).Milliseconds()
	q := fmt.Sprintf(`
set idle_session_timeout = %d; set idle_in_transaction_session_timeout = %[1]d; set lock_timeout = %d; set synchronous_commit = on;
set tcp_keepalives_idle = 1; set tcp_keepalives_interval = 1; set tcp_keepalives_count = 2; set tcp_user_timeout = %[1]d`,
		idle, a.cfg.LockTimeout.Milliseconds())
	if _, err := a.fence.PgConn().Exec(ctx, q).ReadAll(); err != nil {
		return fmt.Errorf("set up the fence session: %w", err)
	}
	for _, conn := range []*pgx.Conn{a.fence, a.to} {
		if err := isolation.PrepareHandover(ctx, conn); err != nil {
			return err
		}
	}
	return a.advanceEarly(ctx)
}

func (a *attempt) close(ctx context.Context) {
	for _, conn := range []*pgx.Conn{a.fence, a.to, a.before, a.after} {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}
}

// late tells whether an attempt has failed because the tenant's writers would have waited for too long: we have seen that, or the server
// has, who began to count before us.
func (a *attempt) late(err error) bool {
	lost := new(isolation.FenceError)
	return !time.Now().Before(a.deadline) || errors.As(err, &lost) && lost.Stands != nil && lost.Stands.Overdue
}

// step runs fn, and what the caller wants to run in front of it.
func (a *attempt) step(ctx context.Context, name string, fn func(context.Context) error) error {
	if err := a.cfg.Step(ctx, "cutover-"+name); err != nil {
		return err
	}
	return fn(ctx)
}

// arrival has the follower say when the message with this token is applied. cancel must be called.
func (a *attempt) arrival(token string) (arrived <-chan repl.LSN, cancel func() bool) {
	said := make(chan repl.LSN, 1)
	return said, a.cfg.Follower.At(token, func(_ context.Context, at repl.LSN) error {
		said <- at
		return nil
	})
}

// gatePatience is how long a ping is waited for: the follower may be in the middle of a large transaction.
const gatePatience = 10 * time.Second

// gate sends a message through the stream and measures how long it takes. Nothing else tells how far behind the follower is.
func (a *attempt) gate(ctx context.Context) error {
	token := "ping " + a.id
	arrived, cancel := a.arrival(token)
	defer cancel()
	sent := time.Now()
	const q = `select pg_logical_emit_message(true, '` + isolation.MessagePrefix + `', $1)`
	if _, err := a.before.Exec(ctx, q, token); err != nil {
		return fmt.Errorf("send a message through the stream: %w", err)
	}
	select {
	case <-arrived:
	case <-time.After(gatePatience):
	case <-ctx.Done():
		return ctx.Err()
	}
	if lag := time.Since(sent); lag > a.cfg.MaxLag {
		return &lagError{lag: lag}
	}
	return nil
}

// handOver goes from the fence to the commit point.
func (a *attempt) handOver(ctx context.Context, r *Result) error {
	ctx, stop := context.WithDeadline(ctx, a.deadline)
	defer stop()
	token := "fence " + a.id
	arrived, cancel := a.arrival(token)
	defer cancel()
	if err := a.step(ctx, "raise", func(ctx context.Context) error {
		a.raised = true
		return isolation.RaiseFence(ctx, a.fence, a.cfg.From.Key, a.cfg.From.Epoch, isolation.Attempt{
			ID: a.id, Start: a.start, MaxPause: a.cfg.MaxPause,
		}, token)
	}); err != nil {
		return err
	}
	// While the follower works, what is needed of the old home.
	var given []int64
	if err := a.step(ctx, "freeze", func(ctx context.Context) (err error) {
		if r.Before, err = a.snapshot(ctx, &a.before, a.cfg.From); err == nil {
			given, err = a.given(ctx)
		}
		return err
	}); err != nil {
		return err
	}
	if err := a.step(ctx, "apply", func(ctx context.Context) error {
		select {
		case r.Position = <-arrived:
			return nil
		case <-ctx.Done():
			return &lagError{lag: a.cfg.MaxPause}
		}
	}); err != nil {
		return err
	}
	if err := a.step(ctx, "sequences", func(ctx context.Context) error { return a.advance(ctx, given) }); err != nil {
		return err
	}
	if err := a.step(ctx, "snapshot", func(ctx context.Context) (err error) {
		if r.After, err = a.snapshot(ctx, &a.after, a.cfg.To); err == nil {
			r.Back = r.After.At
			err = awaitStandbys(ctx, a.to)
		}
		return err
	}); err != nil {
		return err
	}
	return a.step(ctx, "commit", func(ctx context.Context) error { return a.commit(ctx, r.Back) })
}

// snapshot makes a snapshot of *conn, which it takes.
func (a *attempt) snapshot(ctx context.Context, conn **pgx.Conn, home Home) (*verify.Snapshot, error) {
	taken := *conn
	*conn = nil
	return verify.Take(ctx, taken, home.Connect)
}

// commit is the commit point. Once it is sent, its answer is waited for, whoever wants to end: the server refuses it when it is late.
func (a *attempt) commit(ctx context.Context, from repl.LSN) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var back isolation.Back
	if a.cfg.Back {
		back = isolation.Back{Move: a.cfg.Move, From: from.String()}
	}
	key, epoch := a.cfg.From.Key, a.cfg.From.Epoch
	if !a.cfg.Same {
		return isolation.PassOn(ctx, a.fence, key, epoch, a.id, a.cfg.Address, a.cfg.Owner, back)
	}
	return pgx.BeginFunc(ctx, a.fence, func(tx pgx.Tx) error {
		if err := isolation.PassOn(ctx, tx, key, epoch, a.id, a.cfg.Address, a.cfg.Owner, back); err != nil {
			return err
		}
		return isolation.Receive(ctx, tx, a.cfg.To.Key, a.cfg.ToState, a.cfg.To.Epoch, a.cfg.Owner)
	})
}

// undoTimeout bounds the undoing of an attempt. The server undoes it by itself when it is over due.
const undoTimeout = 10 * time.Second

// undo takes the attempt back and lets the tenant's writers go. It finds out when the attempt was committed after all.
func (a *attempt) undo(ctx context.Context) (committed bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if a.raised {
		err = isolation.LowerFence(ctx, a.fence, a.cfg.From.Key, a.cfg.From.Epoch, a.id)
		if err != nil && !errors.Is(err, isolation.ErrFence) { // on another session then, which waits for what this one has begun
			closeConn(ctx, a.fence)
			err = a.lowerElsewhere(ctx)
		}
	}
	_, _ = a.unlock(ctx) // a session that is gone has let go
	lost := new(isolation.FenceError)
	if errors.As(err, &lost) {
		return a.cfg.passedOn(lost.Stands) && lost.Stands.Owner == a.cfg.Owner, nil
	}
	return false, err
}

func (a *attempt) lowerElsewhere(ctx context.Context) error {
	for {
		conn, err := a.cfg.From.Connect(ctx)
		if err == nil {
			err = isolation.LowerFence(ctx, conn, a.cfg.From.Key, a.cfg.From.Epoch, a.id)
			closeConn(ctx, conn)
		}
		if err == nil || errors.Is(err, isolation.ErrFence) {
			return err
		}
		select {
		case <-time.After(lastBackOff / 4):
		case <-ctx.Done():
			return err
		}
	}
}

// unlock lets the tenant's writers go, and returns the server's time.
func (a *attempt) unlock(ctx context.Context) (now time.Time, err error) {
	err = a.fence.QueryRow(ctx, `select clock_timestamp() from pg_advisory_unlock_all()`).Scan(&now)
	return now, err
}

// paused is how long the tenant's writers have waited by now.
func (a *attempt) paused(ctx context.Context) time.Duration {
	if now, err := a.unlock(ctx); err == nil {
		return now.Sub(a.start)
	}
	return time.Since(a.deadline.Add(-a.cfg.MaxPause))
}

// forget lets go of what is of no use.
func (r *Result) forget(ctx context.Context) {
	for _, s := range []**verify.Snapshot{&r.Before, &r.After} {
		if *s != nil {
			_ = (*s).Close(ctx)
			*s = nil
		}
	}
	r.Position, r.Back = 0, 0
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// busyError reports transactions that would not end in time.
type busyError struct {
	pids []int32
	age  time.Duration
	err  error
}

func (e *busyError) Error() string {
	return fmt.Sprintf("transactions of the tenant, or work across tenants, are open for %v (server processes %v)",
		e.age.Round(time.Millisecond), e.pids)
}

func (e *busyError) Unwrap() error { return e.err }

// lock takes the tenant's key and the bypass key alone, which shows that no transaction is open that could write. Where open ones
// are older than they would be waited for, nobody is made to wait.
func (a *attempt) lock(ctx context.Context, r *Result) (stalled bool, err error) {
	if err := a.cfg.Step(ctx, "cutover-lock"); err != nil {
		return false, err
	}
	key := a.cfg.From.Key
	const try = `
select clock_timestamp(), pg_try_advisory_lock(landlord.bypass_key()) and pg_try_advisory_lock(landlord.lock_key($1, $2, false))`
	var free bool
	if err := a.fence.QueryRow(ctx, try, key.Tenant, key.Home).Scan(&a.start, &free); err != nil {
		return false, fmt.Errorf("try to lock the tenant: %w", err)
	}
	r.Drain = 0
	if free {
		return false, nil
	}
	if _, err := a.unlock(ctx); err != nil {
		return false, err
	}
	const oldest = `
select coalesce(array_agg(a.pid order by a.xact_start), '{}'),
       coalesce(extract(epoch from clock_timestamp() - min(a.xact_start)), 0)::float8
  from pg_locks l join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.granted and l.objsubid = 1
   and l.database = (select d.oid from pg_database d where d.datname = current_database())
   and (l.classid::bigint << 32 | l.objid::bigint) in (landlord.bypass_key(), landlord.lock_key($1, $2, false))`
	busy, seconds := new(busyError), 0.0
	if err := a.fence.QueryRow(ctx, oldest, key.Tenant, key.Home).Scan(&busy.pids, &seconds); err != nil {
		return false, fmt.Errorf("look for the tenant's open transactions: %w", err)
	}
	if busy.age = time.Duration(seconds * float64(time.Second)); busy.age > a.cfg.LockTimeout {
		return false, busy
	}
	// The bypass key first: only work across tenants waits for that.
	var got time.Time
	b := &pgx.Batch{}
	b.Queue(`select pg_advisory_lock(landlord.bypass_key())`)
	b.Queue(`select clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&a.start) })
	b.Queue(`select clock_timestamp() from pg_advisory_lock(landlord.lock_key($1, $2, false))`, key.Tenant, key.Home).
		QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
	err = a.fence.SendBatch(ctx, b).Close()
	if err != nil {
		_, _ = a.unlock(context.WithoutCancel(ctx))
		if pgerr.Is(err, pgerr.LockNotAvailable) {
			busy.err = err
			busy.age = a.cfg.LockTimeout
			return true, busy
		}
		return true, fmt.Errorf("lock the tenant: %w", err)
	}
	r.Drain = got.Sub(a.start)
	return false, nil
}
