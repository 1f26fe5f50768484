package isolation_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

func (p *place) key() isolation.FenceKey { return isolation.FenceKey{Tenant: p.tenant, Home: p.name} }

// fencer returns a connection that holds the tenant's key and the bypass key alone.
func (p *place) fencer(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := p.dial(t, nil)
	_, err := conn.Exec(t.Context(), "select pg_advisory_lock(landlord.lock_key($1, $2, false)), pg_advisory_lock(landlord.bypass_key())", p.tenant, p.name)
	require.NoError(t, err)
	return conn
}

func (p *place) try(id string, pause time.Duration) isolation.Attempt {
	return isolation.Attempt{ID: id, Start: time.Now(), MaxPause: pause}
}

var elsewhere = isolation.Address{Home: "b/x/public", Model: "shared", Epoch: 2}

// Each step of a move goes from the states that the state machine names, and from no other.
func TestTheStepsOfAMoveAreThoseOfTheStateMachine(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	conn := p.fencer(t)
	type step struct {
		name     string
		from, to isolation.FenceState
		overdue  bool // it must be
		do       func(ctx context.Context) error
	}
	steps := []step{
		{"raise", isolation.Open, isolation.Fenced, false, func(ctx context.Context) error {
			return isolation.RaiseFence(ctx, conn, p.key(), 1, p.try(uuid.NewString(), time.Minute), "here")
		}},
		{"lower", isolation.Fenced, isolation.Open, false, func(ctx context.Context) error {
			return isolation.LowerFence(ctx, conn, p.key(), 1, attempt)
		}},
		{"lower overdue", isolation.Fenced, isolation.Open, true, func(ctx context.Context) error {
			return isolation.LowerOverdueFence(ctx, conn, p.key(), 1)
		}},
		{"pass on", isolation.Fenced, isolation.Moved, false, func(ctx context.Context) error {
			return isolation.PassOn(ctx, conn, p.key(), 1, attempt, elsewhere, attempt, isolation.Back{})
		}},
		{"receive", isolation.Importing, isolation.Open, false, func(ctx context.Context) error {
			return isolation.Receive(ctx, conn, p.key(), isolation.Importing, 1, attempt)
		}},
		{"receive back", isolation.Moved, isolation.Open, false, func(ctx context.Context) error {
			return isolation.Receive(ctx, conn, p.key(), isolation.Moved, 3, attempt)
		}},
		{"import", isolation.Moved, isolation.Importing, false, func(ctx context.Context) error {
			return isolation.Import(ctx, conn, isolation.Fence{
				Tenant: p.tenant, Home: p.name, Slug: "slug", Model: "shared", Epoch: 2, Owner: attempt,
			})
		}},
		{"suspend", isolation.Open, isolation.Suspended, false, func(ctx context.Context) error {
			return isolation.SetFence(ctx, conn, p.tenant, p.name, 1, isolation.Suspended)
		}},
		{"resume", isolation.Suspended, isolation.Open, false, func(ctx context.Context) error {
			return isolation.SetFence(ctx, conn, p.tenant, p.name, 1, isolation.Open)
		}},
	}
	seen := make(map[isolation.FenceState][]isolation.FenceState)
	note := func(from, to isolation.FenceState) {
		if !slices.Contains(seen[from], to) {
			seen[from] = append(seen[from], to)
		}
	}
	for _, s := range steps {
		for _, from := range states {
			for _, until := range []string{"1 minute", "-1 second"} {
				overdue := from == isolation.Fenced && until != "1 minute"
				p.forceUntil(t, from, until)
				before, err := isolation.ReadFence(t.Context(), conn, p.key())
				require.NoError(t, err)
				require.Equal(t, overdue, before.Overdue)
				err = s.do(t.Context())
				after, readErr := isolation.ReadFence(t.Context(), conn, p.key())
				require.NoError(t, readErr)
				if before.State != after.State || before.Owner != after.Owner && after.State == isolation.Fenced {
					note(before.State, after.State)
				}
				if lost := new(*isolation.FenceError); errors.As(err, lost) {
					require.Equal(t, before, *(*lost).Stands, "%s from %s: it changes nothing and says what stands there", s.name, from)
					require.Equal(t, before, after)
					require.ErrorIs(t, err, isolation.ErrFence)
				} else {
					require.NoError(t, err, "%s from %s", s.name, from)
					require.Contains(t, []isolation.FenceState{s.to}, after.State, s.name)
				}
				if from == s.from && (from != isolation.Fenced || overdue == s.overdue || s.name == "lower") {
					require.NoError(t, err, "%s from %s", s.name, from)
				}
			}
		}
	}
	for _, from := range states {
		require.ElementsMatch(t, from.Next(), seen[from], from)
	}
}

// Whoever believes in another epoch, attempt, owner or home changes nothing.
func TestAStepWithAnotherBeliefIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	conn := p.fencer(t)
	ctx := t.Context()
	other := uuid.NewString()
	nowhere := p.key()
	nowhere.Home += "x"
	refused := func(from isolation.FenceState, what string, do func() error) {
		t.Helper()
		p.force(t, from)
		err := do()
		require.ErrorIs(t, err, isolation.ErrFence, what)
		f, err := isolation.ReadFence(ctx, conn, p.key())
		require.NoError(t, err)
		require.Equal(t, []any{from, int64(1), attempt}, []any{f.State, f.Epoch, f.Owner}, what)
	}
	p.force(t, isolation.Open)
	refused(isolation.Open, "raise at another epoch", func() error {
		return isolation.RaiseFence(ctx, conn, p.key(), 2, p.try(other, time.Minute), "m")
	})
	refused(isolation.Open, "raise without the key", func() error {
		return isolation.RaiseFence(ctx, p.super(t), p.key(), 1, p.try(other, time.Minute), "m")
	})
	refused(isolation.Fenced, "raise over a live fence", func() error {
		return isolation.RaiseFence(ctx, conn, p.key(), 1, p.try(other, time.Minute), "m")
	})
	refused(isolation.Fenced, "lower another's", func() error { return isolation.LowerFence(ctx, conn, p.key(), 1, other) })
	refused(isolation.Fenced, "lower what is not overdue", func() error { return isolation.LowerOverdueFence(ctx, conn, p.key(), 1) })
	refused(isolation.Fenced, "pass on another's", func() error {
		return isolation.PassOn(ctx, conn, p.key(), 1, other, elsewhere, other, isolation.Back{})
	})
	refused(isolation.Fenced, "pass on without the key", func() error {
		return isolation.PassOn(ctx, p.super(t), p.key(), 1, attempt, elsewhere, other, isolation.Back{})
	})
	refused(isolation.Importing, "receive another's", func() error {
		return isolation.Receive(ctx, conn, p.key(), isolation.Importing, 1, other)
	})
	refused(isolation.Importing, "receive at another epoch", func() error {
		return isolation.Receive(ctx, conn, p.key(), isolation.Importing, 2, attempt)
	})
	refused(isolation.Moved, "receive back at the same epoch", func() error {
		return isolation.Receive(ctx, conn, p.key(), isolation.Moved, 1, attempt)
	})
	refused(isolation.Moved, "import at the same epoch", func() error {
		return isolation.Import(ctx, conn, isolation.Fence{Tenant: p.tenant, Home: p.name, Slug: "slug", Model: "shared", Epoch: 1, Owner: other})
	})
	refused(isolation.Open, "take over an open home", func() error {
		return isolation.TakeOver(ctx, conn, p.key(), isolation.Open, 1, other)
	})
	refused(isolation.Importing, "take over at another epoch", func() error {
		return isolation.TakeOver(ctx, conn, p.key(), isolation.Importing, 2, other)
	})
	for what, err := range map[string]error{
		"raise": isolation.RaiseFence(ctx, conn, nowhere, 1, p.try(other, time.Minute), "m"),
		"lower": isolation.LowerFence(ctx, conn, nowhere, 1, attempt),
		"take":  isolation.TakeOver(ctx, conn, nowhere, isolation.Moved, 1, attempt),
	} {
		lost := new(isolation.FenceError)
		require.ErrorAs(t, err, &lost, what)
		require.Nil(t, lost.Stands)
		require.ErrorContains(t, err, "there is no row")
	}
	_, err := isolation.ReadFence(ctx, conn, nowhere)
	require.ErrorIs(t, err, isolation.ErrFence)
}

// A fence is passed on in time or not at all, and an overdue one falls to the next attempt.
func TestAnOverdueFenceIsNotPassedOn(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	conn := p.fencer(t)
	ctx := t.Context()
	first, second := uuid.NewString(), uuid.NewString()
	p.force(t, isolation.Open)
	require.NoError(t, isolation.RaiseFence(ctx, conn, p.key(), 1, isolation.Attempt{
		ID: first, Start: time.Now().Add(-time.Minute), MaxPause: time.Second,
	}, "m"))
	err := isolation.PassOn(ctx, conn, p.key(), 1, first, elsewhere, first, isolation.Back{})
	require.ErrorIs(t, err, isolation.ErrFence)
	require.ErrorContains(t, err, "overdue")
	require.NoError(t, isolation.RaiseFence(ctx, conn, p.key(), 1, p.try(second, time.Minute), "m"))
	require.ErrorIs(t, isolation.LowerFence(ctx, conn, p.key(), 1, first), isolation.ErrFence)
	require.NoError(t, isolation.PassOn(ctx, conn, p.key(), 1, second, elsewhere, second, isolation.Back{Move: attempt, From: "1/2A"}))
	f, err := isolation.ReadFence(ctx, conn, p.key())
	require.NoError(t, err)
	require.Equal(t, &elsewhere, f.MovedTo)
	require.Equal(t, []any{isolation.Moved, second}, []any{f.State, f.Owner})
	require.Equal(t, attempt+" reverse 1/2A", text(t, conn, "select concat_ws(' ', move, direction, lsn) from landlord.move_progress"))
}

// An attempt that a dead mover left behind costs a bounded pause: writers of every isolation level enter when its time is up.
func TestAnOverdueFenceLetsWritersInAndALiveOneDoesNot(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		conn := p.app(t)
		for _, options := range []string{"", "isolation level repeatable read", "isolation level serializable", "read only"} {
			enter := func() error {
				exec(t, conn, "begin "+options)
				err := p.enter(t.Context(), conn, p.entry(p.tenant))
				if err == nil {
					require.Equal(t, ownRows, count(t, conn, "select from "+ident(p.schema, "note")))
				}
				exec(t, conn, "rollback")
				return err
			}
			p.forceUntil(t, isolation.Fenced, "1 minute")
			if options == "read only" {
				require.NoError(t, enter())
			} else {
				requireCode(t, pgerr.Fenced, enter(), options)
			}
			p.forceUntil(t, isolation.Fenced, "-1 microsecond")
			require.NoError(t, enter(), options)
			p.forceUntil(t, isolation.Moved, "-1 minute")
			exec(t, p.super(t), "update landlord.fence set fenced_until = clock_timestamp() - interval '1 minute' where tenant = "+lit(p.tenant))
			requireCode(t, pgerr.NotHere, enter(), options)
			// A fence without an end is no overdue one.
			p.force(t, isolation.Fenced)
			exec(t, p.super(t), "update landlord.fence set fenced_until = null where tenant = "+lit(p.tenant))
			if options != "read only" {
				requireCode(t, pgerr.Fenced, enter(), options)
			}
		}
	})
}

// While the session lives that raised the fence, nobody enters, even when the time is up: it holds the key.
func TestAnOverdueFenceIsNotEnteredWhileItsSessionHoldsTheKey(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		for _, options := range []string{"", "isolation level repeatable read"} {
			for _, passedOn := range []bool{false, true} {
				p.force(t, isolation.Open)
				fencer := p.fencer(t)
				conn := p.app(t)
				exec(t, conn, "begin "+options)
				done := p.goEnter(t, conn, p.tenant)
				p.waits(t, conn)
				id := uuid.NewString()
				require.NoError(t, isolation.RaiseFence(t.Context(), fencer, p.key(), 1, p.try(id, time.Minute), "m"))
				want := map[string]string{"": "", "isolation level repeatable read": pgerr.SerializationFailure}[options]
				if passedOn {
					require.NoError(t, isolation.PassOn(t.Context(), fencer, p.key(), 1, id, elsewhere, id, isolation.Back{}))
					want = map[string]string{"": pgerr.NotHere, "isolation level repeatable read": pgerr.SerializationFailure}[options]
				} else {
					exec(t, p.super(t), "update landlord.fence set fenced_until = clock_timestamp() - interval '1 hour' where tenant = "+lit(p.tenant))
				}
				select {
				case err := <-done:
					require.Fail(t, "entered while the fencer held the key", "%v", err)
				default:
				}
				exec(t, p.super(t), "select pg_terminate_backend("+text(t, p.super(t), "select $1::int::text", int(fencer.PgConn().PID()))+")")
				require.Equal(t, want, pgerr.Code(<-done), "%q, passed on: %v", options, passedOn)
				exec(t, conn, "rollback")
			}
		}
	})
}

// A home that the tenant has left and come back to tells a stale caller its own epoch.
func TestAHomeThatIsOpenAgainSaysAtWhichEpoch(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "schema")
	p.force(t, isolation.Moved)
	require.NoError(t, isolation.Receive(t.Context(), p.super(t), p.key(), isolation.Moved, 3, attempt))
	conn := p.app(t)
	exec(t, conn, "begin")
	answer := requireCode(t, pgerr.NotHere, p.enter(t.Context(), conn, p.entry(p.tenant)))
	require.JSONEq(t, `{"home": "`+p.name+`", "model": "schema", "epoch": 3}`, answer.Detail)
	exec(t, conn, "rollback; begin")
	ahead := p.entry(p.tenant)
	ahead.Epoch = 4
	answer = requireCode(t, pgerr.NotHere, p.enter(t.Context(), conn, ahead))
	require.Empty(t, answer.Detail, "who knows more is not sent back")
}

// Whoever fills a home and is taken over from ends what it has open, and can begin nothing more.
func TestAnOwnerThatIsTakenOverFromWritesNoMore(t *testing.T) {
	t.Parallel()
	for _, state := range []isolation.FenceState{isolation.Importing, isolation.Moved} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, "shared")
			p.force(t, state)
			ctx := t.Context()
			old, next := p.dial(t, nil), p.dial(t, nil)
			tx, err := old.Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, isolation.HoldFence(ctx, tx, p.key(), state, attempt))
			successor := uuid.NewString()
			done := make(chan error, 1)
			go func() { done <- isolation.TakeOver(ctx, next, p.key(), state, 1, successor) }()
			p.waits(t, next)
			require.NoError(t, tx.Commit(ctx))
			require.NoError(t, <-done)

			tx, err = old.Begin(ctx)
			require.NoError(t, err)
			err = isolation.HoldFence(ctx, tx, p.key(), state, attempt)
			require.ErrorIs(t, err, isolation.ErrFence)
			require.ErrorContains(t, err, successor)
			require.NoError(t, tx.Rollback(ctx))
			tx, err = next.Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, isolation.HoldFence(ctx, tx, p.key(), state, successor))

			go func() {
				done <- isolation.Receive(ctx, old, p.key(), state, map[isolation.FenceState]int64{isolation.Importing: 1, isolation.Moved: 3}[state], successor)
			}()
			p.waits(t, old)
			require.NoError(t, tx.Commit(ctx))
			require.NoError(t, <-done, "the home opens after what was under way")
			tx, err = next.Begin(ctx)
			require.NoError(t, err)
			require.ErrorIs(t, isolation.HoldFence(ctx, tx, p.key(), state, successor), isolation.ErrFence, "it is open")
			require.NoError(t, tx.Rollback(ctx))
		})
	}
}

func TestImportTakesItsOwnRowAndThatOfAnEarlierStay(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	ctx := t.Context()
	f := isolation.Fence{Tenant: "new", Home: p.name, Slug: "slug", Model: "shared", Epoch: 2, Owner: attempt}
	require.NoError(t, isolation.Import(ctx, p.super(t), f))
	f.Owner = uuid.NewString()
	require.NoError(t, isolation.Import(ctx, p.super(t), f), "again, by another")
	key := isolation.FenceKey{Tenant: "new", Home: p.name}
	got, err := isolation.ReadFence(ctx, p.super(t), key)
	require.NoError(t, err)
	f.State = isolation.Importing
	require.Equal(t, f, got)
	f.Epoch = 3
	require.ErrorIs(t, isolation.Import(ctx, p.super(t), f), isolation.ErrFence, "another move's")
}

// deaf is a session that ends before it can read what stands in the fence's row.
type deaf struct{ *pgx.Conn }

func (d deaf) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	_ = d.Close(ctx)
	return d.Conn.QueryRow(ctx, sql, args...)
}

// Whoever cannot read why a step was not made must not take the row for gone: a mover would give up a tenant that has been passed on.
func TestARowThatCannotBeReadIsNotTakenForAnotherState(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	conn := deaf{p.dial(t, nil)}
	err := isolation.LowerFence(t.Context(), conn, p.key(), 99, uuid.NewString())
	require.Error(t, err)
	require.NotErrorIs(t, err, isolation.ErrFence)
}
