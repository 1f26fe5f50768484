package move_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func newID(*testing.T) string { return uuid.NewString() }

// loseSlot drops a slot under its reader.
func (r *removal) loseSlot(t *testing.T, m placement.Move, suffix string) {
	t.Helper()
	conn := r.Super(t, "postgres")
	m, err := r.Catalog.Move(t.Context(), m.ID)
	require.NoError(t, err)
	name := m.ForwardSlot
	if suffix == "_r" {
		name = m.ReverseSlot
	}
	require.Eventually(t, func() bool {
		_, err := conn.Exec(t.Context(), `
select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active`, name)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1`, name)
		if err != nil {
			require.True(t, pgerr.Is(err, pgerr.ObjectInUse), "%v", err) // the reader was faster
		}
		return err == nil
	}, waitFor, time.Millisecond)
}

func TestCopyStartsAgainWhenItsSlotIsLost(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{schema, "b"})
	r.stay(t, m)
	before := r.await(t, m, move.Verified)
	r.loseSlot(t, m, "_f")
	require.Eventually(t, func() bool {
		now, err := r.Catalog.Move(t.Context(), m.ID)
		require.NoError(t, err)
		return now.Phase == move.Verified && now.StartLSN != before.StartLSN
	}, waitFor, tick)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	r.ask(t, m, placement.AskComplete)
	r.await(t, m, move.Done)
	w.done(t)
	r.nothingLeft(t, m)
}

func TestRollbackIsUnavailableWhenItsSlotIsLost(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.Auto = true })
	r.stay(t, m)
	r.await(t, m, move.Reversing)
	r.loseSlot(t, m, "_r")
	require.Eventually(t, func() bool {
		now, err := r.Catalog.Move(t.Context(), m.ID)
		require.NoError(t, err)
		return now.NoRollback != ""
	}, waitFor, tick)
	_, err := r.Catalog.AskMove(t.Context(), m.ID, placement.AskRollback)
	require.ErrorIs(t, err, placement.ErrMovePhase)
	w.more(t, 3)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	w.done(t)
	r.nothingLeft(t, m)
}

func TestMoveThatHoldsBackTooMuchOfTheLogIsAborted(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 1)
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.MaxWAL = 1 })
	m, err := r.mover.Drive(t.Context(), m.ID, move.ToReverted) // which never comes
	_ = err
	if !m.Over() {
		err = <-r.stay(t, m)
		require.NoError(t, err)
		m = r.await(t, m, move.Aborted)
	}
	require.Contains(t, m.Error, "--max-wal")
	w.more(t, 3)
	w.done(t)
	r.nothingLeft(t, m)
}

func TestMigrationsWaitForTheEndOfAMove(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.drive(t, r.begin(t, place{schema, "b"}), move.ToReversing)
	const step = `select landlord.begin_step($1, 999, 'x', gen_random_uuid(), 1, false)`
	for _, p := range []placement.Place{m.Source, m.Target} {
		_, err := r.Super(t, p.Home.Database).Exec(t.Context(), step, p.Home.Schema)
		require.True(t, pgerr.Is(err, pgerr.Held), "%v", err)
	}
	m = r.drive(t, m, move.ToDone)
	r.SuperExec(t, m.Source.Home.Database, fmt.Sprintf(`select landlord.begin_step('%s', 999, 'x', gen_random_uuid(), 1, false)`, m.Source.Home.Schema))
}

func TestChangedTableEndsTheWayBack(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.Auto = true })
	r.stay(t, m)
	m = r.await(t, m, move.Reversing)
	table := pgx.Identifier{m.Target.Home.Schema, "customers"}.Sanitize()
	r.SuperExec(t, m.Target.Home.Database, "alter table "+table+" add column note text")
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	require.Eventually(t, func() bool {
		now, err := r.Catalog.Move(t.Context(), m.ID)
		require.NoError(t, err)
		return now.NoRollback != ""
	}, waitFor, tick)
	r.ask(t, m, placement.AskComplete)
	r.await(t, m, move.Done)
	r.nothingLeft(t, m)
}

func TestChangedTableAbortsAMoveBeforeItsCutover(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{schema, "a"}, place{shared, "b"})
	m := r.begin(t, place{shared, "b"})
	ended := r.stay(t, m)
	m = r.await(t, m, move.Verified)
	table := pgx.Identifier{m.Source.Home.Schema, "customers"}.Sanitize()
	r.SuperExec(t, m.Source.Home.Database, "alter table "+table+" add column note text")
	r.livesAt(t, m.Source.Home, m.Epoch)
	m = r.await(t, m, move.Aborted)
	require.NotEmpty(t, m.Error)
	require.NoError(t, <-ended)
	r.nothingLeft(t, m)
}

func TestTenantsOfOneHomeAreMovedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	other := *r
	other.tenant = r.neighbour
	w, v := r.write(t, 1), other.write(t, 1)
	m, n := r.begin(t, place{schema, "b"}), other.begin(t, place{shared, "b"})
	done := make(chan error, 1)
	go func() {
		_, err := other.mover.Drive(t.Context(), n.ID, move.ToDone)
		done <- err
	}()
	m = r.drive(t, m, move.ToReversing)
	require.NoError(t, <-done)
	m = r.drive(t, m, move.ToDone)
	w.done(t)
	v.done(t)
	r.nothingLeft(t, m)
	other.nothingLeft(t, n)
}

func TestOfflineMoveTurnsWritersAwayAndThenGoesOn(t *testing.T) {
	t.Parallel()
	for _, tr := range transitions {
		t.Run(tr.from.String()+" to "+tr.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, tr.from, tr.to)
			w := r.write(t, 2)
			w.more(t, 5)
			m := r.begin(t, tr.to, func(req *placement.MoveRequest) { req.Offline, req.MaxPause = true, time.Minute })
			m = r.drive(t, m, move.ToReversing)
			require.NotEmpty(t, m.NoRollback)
			w.more(t, 5)
			m = r.drive(t, m, move.ToDone)
			w.done(t)
			r.livesAt(t, m.Target.Home, m.Epoch+1)
			r.nothingLeft(t, m)
		})
	}
}

func TestOfflineMoveTriesAgainWhenItsTimeWasUp(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 1)
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.Offline, req.MaxPause = true, 3*time.Second })
	m, err := r.driveUntil(t, m, move.ToReversing, move.Copying)
	require.ErrorIs(t, err, context.Canceled)
	slow, err := r.Super(t, m.Target.Home.Database).Begin(t.Context())
	require.NoError(t, err)
	_, err = slow.Exec(t.Context(), "lock table "+pgx.Identifier{m.Target.Home.Schema, "customers"}.Sanitize()+" in share mode")
	require.NoError(t, err)

	ended := make(chan error, 1)
	go func() {
		_, err := r.mover.Drive(t.Context(), m.ID, move.ToReversing)
		ended <- err
	}()
	for _, state := range []isolation.FenceState{isolation.Fenced, isolation.Open} {
		require.Eventually(t, func() bool { return r.fence(t, m.At(false)).State == state }, waitFor, tick, "the source is not %s", state)
	}
	require.NoError(t, slow.Rollback(t.Context()))
	require.NoError(t, <-ended)
	m = r.drive(t, m, move.ToDone)
	w.more(t, 3)
	w.done(t)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}

func TestOfflineMoveIsAbortedInTheMiddleOfItsCutover(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"}, func(req *placement.MoveRequest) { req.Offline, req.MaxPause = true, time.Minute })
	_, err := r.driveUntil(t, m, move.ToReversing, move.Fencing)
	require.ErrorIs(t, err, context.Canceled)
	m = r.drive(t, m, move.ToAborted)
	r.livesAt(t, m.Source.Home, m.Epoch)
	r.nothingLeft(t, m)
}

func TestReadersGoOnWhileAnOldHomeIsTakenAway(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{schema, "a"}, place{shared, "b"})
	reading, over := make(chan struct{}), make(chan struct{})
	read := make(chan error, 1)
	var first, last int
	go func() {
		read <- r.router.Tenant(r.tenant.Tenant).TxWith(t.Context(), router.TxOptions{ReadOnly: true, Isolation: pgx.RepeatableRead}, func(ctx context.Context, tx *router.Tx) error {
			if err := tx.QueryRow(ctx, "select count(*) from customers").Scan(&first); err != nil {
				return err
			}
			close(reading)
			<-over
			return tx.QueryRow(ctx, "select count(*) from customers").Scan(&last)
		})
	}()
	<-reading
	m := r.drive(t, r.begin(t, place{shared, "b"}), move.ToReversing)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	close(over)
	require.NoError(t, <-read)
	require.Equal(t, first, last, "it saw the old home as it was")
	m = r.drive(t, m, move.ToDone)
	r.nothingLeft(t, m)
}

func TestTenantIsOpenAtOneHomeAtMost(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{database, "b"})
	w := r.write(t, 2)
	m := r.begin(t, place{database, "b"})
	_, err := r.driveUntil(t, m, move.ToReversing, move.Following)
	require.ErrorIs(t, err, context.Canceled)

	look := func(conn *pgx.Conn, p placement.Placement) string {
		f, err := isolation.ReadFence(t.Context(), conn, isolation.FenceKey{Tenant: p.Tenant.String(), Home: p.Home.String()})
		require.NoError(t, err)
		return string(f.State)
	}
	source, target := r.Super(t, m.Source.Home.Database), r.Super(t, m.Target.Home.Database)
	stop, looked := make(chan struct{}), make(chan int, 1)
	before, after := m.At(false), m.At(true)
	go func() {
		n := 0
		for {
			// The target first: it is opened after the source has been closed for good.
			to, from := look(target, after), look(source, before)
			if to == "open" && from == "open" {
				n = -1 << 30
			}
			n++
			select {
			case <-stop:
				looked <- n
				return
			default:
			}
		}
	}()
	m = r.drive(t, m, move.ToReversing)
	close(stop)
	require.Positive(t, <-looked)
	require.Equal(t, []string{"moved", "open"}, []string{look(source, m.At(false)), look(target, m.At(true))})
	require.NoError(t, target.Close(t.Context()))
	m = r.drive(t, m, move.ToReverted)
	w.done(t)
	r.nothingLeft(t, m)
}

func TestDriverThatStandsStillInATransactionIsInNobodysWay(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	w := r.write(t, 2)
	m := r.drive(t, r.begin(t, place{schema, "b"}), move.ToReversing)

	// What a follower holds that was stopped in the middle of a batch.
	cluster, err := r.Catalog.Cluster(t.Context(), m.Source.Home.Cluster)
	require.NoError(t, err)
	cfg, err := cluster.OperatorConfig(m.Source.Home.Database)
	require.NoError(t, err)
	cfg.RuntimeParams["application_name"] = "landlord move"
	stopped, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = stopped.Close(context.WithoutCancel(t.Context())) })
	tx, err := stopped.Begin(t.Context())
	require.NoError(t, err)
	tag, err := tx.Exec(t.Context(), isolation.HoldFenceSQL, m.Tenant.String(), m.Source.Home.String(), string(isolation.Moved), fenceOwner(t, r, m))
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())

	began := time.Now()
	r.drive(t, m, move.ToReverted)
	require.Less(t, time.Since(began), time.Minute)
	require.Error(t, tx.Commit(t.Context()), "its session was ended")
	w.more(t, 3)
	w.done(t)
	r.nothingLeft(t, m)
}

// fenceOwner is who may write to the source of a move now.
func fenceOwner(t *testing.T, r *removal, m placement.Move) (owner string) {
	t.Helper()
	const q = `select owner::text from landlord.fence where tenant = $1 and home = $2`
	require.NoError(t, r.Super(t, m.Source.Home.Database).QueryRow(t.Context(), q, m.Tenant.String(), m.Source.Home.String()).Scan(&owner))
	return owner
}
