package cutover_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// one is a tenant on its way from a schema to a database of another cluster, with its router and a follower that runs.
func one(t *testing.T) (m *moving, db *router.DB) {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{})
	m = begin(t, h, placement.ModelSchema, placement.ModelDatabase, "b")
	m.follow(t)
	return m, h.Router(t).Tenant(m.from.Tenant)
}

// deaf is a follower that does not say when it has come to the messages of a kind.
type deaf struct {
	cutover.Follower
	kind string
}

func (d deaf) At(token string, fn func(context.Context, repl.LSN) error) func() bool {
	if strings.HasPrefix(token, d.kind) {
		return func() bool { return true }
	}
	return d.Follower.At(token, fn)
}

// hasty is a follower that takes every message of a fence for met.
type hasty struct{ cutover.Follower }

func (h hasty) At(token string, fn func(context.Context, repl.LSN) error) func() bool {
	if strings.HasPrefix(token, "fence") {
		_ = fn(context.Background(), 0)
		return func() bool { return false }
	}
	return h.Follower.At(token, fn)
}

// at calls fn when a step is reached for the first time.
func at(step string, fn func(ctx context.Context) error) func(*cutover.Config) {
	var reached atomic.Bool
	return func(cfg *cutover.Config) {
		cfg.Step = func(ctx context.Context, name string) error {
			if name == step && reached.CompareAndSwap(false, true) {
				return fn(ctx)
			}
			return nil
		}
	}
}

var steps = []string{
	"cutover-gate", "cutover-lock", "cutover-raise", "cutover-freeze", "cutover-apply", "cutover-sequences", "cutover-snapshot", "cutover-commit",
}

// I7: an attempt that does not come to its end in time is undone, and the writers have only waited.
func TestAnAttemptThatTakesTooLongIsUndone(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	l := write(t, db, 4)
	l.some(t, 20)
	c := m.cutover(t, func(cfg *cutover.Config) {
		cfg.Follower, cfg.MaxPause, cfg.Patience = deaf{m.follower, "fence"}, 200*time.Millisecond, time.Second
	})
	r, err := c.Run(t.Context())
	busy := new(cutover.BusyError)
	require.ErrorAs(t, err, &busy)
	require.Positive(t, busy.Attempts)
	require.False(t, r.Committed || r.Opened)
	require.Nil(t, r.Before)
	require.Equal(t, isolation.Open, m.fence(t, m.from).State)
	require.Equal(t, isolation.Importing, m.fence(t, m.to).State)
	l.some(t, 20)

	// One that is late at the very commit point has lost, too.
	late := m.cutover(t, func(cfg *cutover.Config) { cfg.MaxPause = 300 * time.Millisecond }, at("cutover-commit", func(context.Context) error {
		onlooker := m.Super(t, m.from.Home.Database)
		for {
			if f, err := isolation.ReadFence(t.Context(), onlooker, key(m.from)); err != nil || f.Overdue {
				return err
			}
		}
	}))
	r, err = late.Run(t.Context())
	require.NoError(t, err)
	require.Greater(t, r.Attempts, 1, "the next one is in time")
	l.some(t, 20)
	l.end()
	require.Empty(t, l.errs)
	require.ElementsMatch(t, l.acked, m.at(t, m.to))
	m.turn(t, r)
}

func TestATenantWithALongTransactionIsNotMadeToWait(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	var stalled bool
	require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "insert into customers (email, name) values ('long@example.com', '')")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			var old bool
			require.NoError(t, tx.QueryRow(ctx, "select clock_timestamp() > now() + interval '150 ms'").Scan(&old))
			return old
		}, patience, 10*time.Millisecond)
		c := m.cutover(t, func(cfg *cutover.Config) {
			cfg.LockTimeout, cfg.Patience = 100*time.Millisecond, 300*time.Millisecond
			cfg.Step = func(_ context.Context, name string) error {
				stalled = stalled || name == "cutover-raise"
				return nil
			}
		})
		_, err = c.Run(ctx)
		require.ErrorAs(t, err, new(*cutover.BusyError))
		require.ErrorContains(t, err, "transactions of the tenant, or work across tenants, are open")
		return nil
	}))
	require.False(t, stalled)
	r, err := m.cutover(t).Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"long@example.com"}, m.at(t, m.to))
	m.turn(t, r)
}

// How often the tenant's writers are made to wait in vain is counted over all cutovers of a move, however often they are given up.
func TestCutoversOfAMoveCountTheirStallsTogether(t *testing.T) {
	t.Parallel()
	m, _ := one(t)
	stalls := new(cutover.Stalls)
	raised := 0
	stalling := func(cfg *cutover.Config) {
		cfg.Follower, cfg.MaxPause, cfg.Patience = deaf{m.follower, "fence"}, 100*time.Millisecond, 30*time.Second
		cfg.MaxStalls, cfg.Stalls = 1, stalls
		cfg.Step = func(_ context.Context, name string) error {
			if name == "cutover-raise" {
				raised++
			}
			return nil
		}
	}
	for raised == 0 { // a gate that is missed does not count
		_, err := m.cutover(t, stalling).Run(t.Context())
		require.ErrorAs(t, err, new(*cutover.BusyError))
	}
	r, err := m.cutover(t, stalling).Run(t.Context())
	require.ErrorAs(t, err, new(*cutover.BusyError))
	require.ErrorContains(t, err, "as often as they may in a minute")
	require.Zero(t, r.Attempts)
	require.Equal(t, 1, raised)
}

// An error, the caller's end and the death of the fence session at every step before the commit point: the tenant stays where it
// is, and the next attempt goes through.
func TestWhateverHappensBeforeTheCommitPointIsUndone(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	l := write(t, db, 4)
	for _, step := range steps {
		l.some(t, 5)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := m.cutover(t, at(step, func(context.Context) error { cancel(); return nil })).Run(ctx)
		require.ErrorIs(t, err, context.Canceled, step)
		require.False(t, r.Committed, step)
		require.NotEqual(t, isolation.Fenced, m.fence(t, m.from).State, step)

		broken := errors.New("broken")
		r, err = m.cutover(t, at(step, func(context.Context) error { return broken }), func(cfg *cutover.Config) { cfg.Patience = time.Nanosecond }).Run(t.Context())
		require.ErrorIs(t, err, broken, step)
		require.False(t, r.Committed, step)
		require.Equal(t, isolation.Open, m.fence(t, m.from).State, step)
		l.some(t, 5)
	}
	for _, step := range steps[2:] {
		// The fence session is the one that holds the key alone.
		r, err := m.cutover(t, at(step, func(ctx context.Context) error {
			const kill = `
select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted and pid <> pg_backend_pid()
   and database = (select oid from pg_database where datname = current_database())
   and (classid::bigint << 32 | objid::bigint) = landlord.lock_key($1, $2, false)`
			var n int
			require.NoError(t, m.Super(t, m.from.Home.Database).QueryRow(ctx, kill, m.from.Tenant.String(), m.from.Home.String()).Scan(&n))
			require.Equal(t, 1, n)
			return nil
		}), func(cfg *cutover.Config) { cfg.Patience = time.Nanosecond }).Run(t.Context())
		require.ErrorAs(t, err, new(*cutover.BusyError), step)
		require.False(t, r.Committed, step)
		require.Equal(t, isolation.Open, m.fence(t, m.from).State, step)
		l.some(t, 5)
	}
	r, err := m.cutover(t).Run(t.Context())
	require.NoError(t, err)
	l.some(t, 5)
	l.end()
	require.Empty(t, l.errs)
	require.ElementsMatch(t, l.acked, m.at(t, m.to))
	m.turn(t, r)
}

// Behind the commit point nothing is undone: neither by the caller's end, nor by the death of the mover, after which anybody finishes.
func TestBehindTheCommitPointItGoesForwardOnly(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	l := write(t, db, 4)
	l.some(t, 20)
	died := errors.New("died")
	r, err := m.cutover(t, at("cutover-open", func(context.Context) error { return died })).Run(t.Context())
	require.ErrorIs(t, err, died)
	require.ErrorAs(t, err, new(*cutover.UnfinishedError))
	require.True(t, r.Committed)
	require.False(t, r.Opened)
	require.Equal(t, isolation.Importing, m.fence(t, m.to).State)

	successor := m.cutover(t, func(cfg *cutover.Config) { cfg.Owner = uuid.NewString() })
	passedOn, err := successor.Settle(t.Context())
	require.NoError(t, err)
	require.True(t, passedOn)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		require.NoError(t, successor.Finish(ctx), "and again")
	}
	require.Equal(t, isolation.Open, m.fence(t, m.to).State)
	l.some(t, 20)
	l.end()
	require.Empty(t, l.errs)
	require.ElementsMatch(t, l.acked, m.at(t, m.to))
	m.turn(t, r)
}

// The network fails between the commit and its answer: the row is asked what has become of it.
func TestACommitWhoseAnswerIsLostIsACommit(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	l := write(t, db, 4)
	l.some(t, 20)
	proxy := faultnet.New(t, m.Server.Addr())
	var connections atomic.Int64
	r, err := m.cutover(t, func(cfg *cutover.Config) {
		direct := cfg.From.Connect
		cfg.From.Connect = func(ctx context.Context) (*pgx.Conn, error) {
			if connections.Add(1) > 1 { // the first one is the fence's
				return direct(ctx)
			}
			dsn, err := proxy.Rewrite(pgtest.WithDatabase(m.Server.DSN, m.from.Home.Database))
			require.NoError(t, err)
			return pgx.Connect(ctx, dsn)
		}
	}, at("cutover-commit", func(context.Context) error {
		proxy.HoldReplies()
		onlooker := m.Super(t, m.from.Home.Database)
		go func() {
			defer proxy.Cut()
			for {
				if f, err := isolation.ReadFence(t.Context(), onlooker, key(m.from)); err != nil || f.State == isolation.Moved {
					return
				}
			}
		}()
		return nil
	})).Run(t.Context())
	require.NoError(t, err)
	require.True(t, r.Committed && r.Opened)
	require.Equal(t, 1, r.Attempts)
	l.some(t, 20)
	l.end()
	require.Empty(t, l.errs)
	require.ElementsMatch(t, l.acked, m.at(t, m.to))
	m.turn(t, r)
}

// A mover dies in the fence: its session ends, the tenant's writers go on when the fence is overdue, without anybody's help, and who
// comes after finds the tenant where it was.
func TestADeadMoversFenceCostsABoundedPause(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	c := m.config(t)
	fence, err := c.From.Connect(t.Context())
	require.NoError(t, err)
	_, err = fence.Exec(t.Context(), "select pg_advisory_lock(landlord.lock_key($1, $2, false))", c.From.Key.Tenant, c.From.Key.Home)
	require.NoError(t, err)
	var now time.Time
	require.NoError(t, fence.QueryRow(t.Context(), "select clock_timestamp()").Scan(&now))
	require.NoError(t, isolation.RaiseFence(t.Context(), fence, c.From.Key, c.From.Epoch, isolation.Attempt{
		ID: uuid.NewString(), Start: now, MaxPause: 500 * time.Millisecond,
	}, "fence"))
	require.NoError(t, fence.Close(t.Context()))

	require.NoError(t, db.TxWith(t.Context(), router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "select 1")
		return err
	}), "readers go on")
	_, err = db.Exec(t.Context(), "insert into customers (email, name) values ('waited@example.com', '')")
	require.NoError(t, err)
	require.True(t, m.fence(t, m.from).Overdue, "nobody has set it back")
	successor := m.cutover(t)
	passedOn, err := successor.Settle(t.Context())
	require.NoError(t, err)
	require.False(t, passedOn)
	require.Equal(t, isolation.Open, m.fence(t, m.from).State)
	require.ErrorIs(t, successor.Finish(t.Context()), isolation.ErrFence, "there is nothing to finish")
	require.Equal(t, isolation.Importing, m.fence(t, m.to).State)
}

func TestASuspendedTenantIsNotPassedOn(t *testing.T) {
	t.Parallel()
	m, _ := one(t)
	require.NoError(t, isolation.SetFence(t.Context(), m.Super(t, m.from.Home.Database), m.from.Tenant.String(), m.from.Home.String(), m.from.Epoch, isolation.Suspended))
	_, err := m.cutover(t).Run(t.Context())
	lost := new(isolation.FenceError)
	require.ErrorAs(t, err, &lost)
	require.Equal(t, isolation.Suspended, lost.Stands.State)
	require.Equal(t, isolation.Suspended, m.fence(t, m.from).State)
	_, err = m.cutover(t).Settle(t.Context())
	require.ErrorIs(t, err, isolation.ErrFence)
}

// Somebody who has been taken over from does not pass the tenant on, whether or not there are sequences to set, forth or back.
func TestAMoverThatWasTakenOverFromGetsNowhere(t *testing.T) {
	t.Parallel()
	m, _ := one(t)
	none := func(cfg *cutover.Config) { cfg.Sequences = nil }
	some := func(*cutover.Config) {}
	getsNowhere := func(from, to placement.Placement, state isolation.FenceState) {
		t.Helper()
		for _, sequences := range []func(*cutover.Config){some, none} {
			r, err := m.cutover(t, sequences, at("cutover-sequences", func(ctx context.Context) error {
				return isolation.TakeOver(ctx, m.Super(t, to.Home.Database), key(to), state, m.fence(t, to).Epoch, uuid.NewString())
			})).Run(t.Context())
			require.ErrorIs(t, err, isolation.ErrFence)
			require.ErrorContains(t, err, "go on to the commit point")
			require.False(t, r.Committed)
			require.Equal(t, isolation.Open, m.fence(t, from).State)
			require.NoError(t, isolation.TakeOver(t.Context(), m.Super(t, to.Home.Database), key(to), state, m.fence(t, to).Epoch, m.owner))
		}
	}
	getsNowhere(m.from, m.to, isolation.Importing)
	r, err := m.cutover(t).Run(t.Context())
	require.NoError(t, err)
	m.turn(t, r)
	m.follow(t)
	getsNowhere(m.to, m.from, isolation.Moved)
}

// Negative control: a position that is taken before the drain loses what is written in between, and the comparison sees it.
func TestAPositionBeforeTheDrainLosesWritesWhichTheComparisonSees(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	l := write(t, db, 8)
	l.some(t, 50)
	// The target's row is held, so that what is written now is not applied yet.
	super := m.Super(t, m.to.Home.Database)
	var missing int
	r, err := m.cutover(t, func(cfg *cutover.Config) {
		cfg.Follower = hasty{m.follower}
		cfg.Step = func(ctx context.Context, name string) error {
			switch name {
			case "cutover-lock":
				_, err := super.Exec(ctx, "begin")
				require.NoError(t, err)
				_, err = super.Exec(ctx, "lock table "+pgx.Identifier{m.to.Home.Schema, "customers"}.Sanitize()+" in share mode")
				require.NoError(t, err)
				l.some(t, 10)
			case "cutover-open":
				_, err := super.Exec(ctx, "rollback")
				require.NoError(t, err)
			}
			return nil
		}
	}).Run(t.Context())
	require.NoError(t, err)
	report, err := verify.Compare(t.Context(), r.Before, r.After, m.pairs, verify.Options{})
	require.NoError(t, err)
	for _, d := range report.Tables {
		if d.Table == "customers" {
			missing = int(d.Source.Rows - d.Target.Rows)
		}
	}
	require.Error(t, report.Err())
	require.Positive(t, missing)
	l.end()
	m.turn(t, r)
}
