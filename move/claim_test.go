package move_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// cutOff is a mover whose way to the catalog can be cut, and what it was heard to wait for first.
type cutOff struct {
	*move.Mover
	*faultnet.Proxy
	mu      sync.Mutex
	phase   move.Phase
	waiting string
}

func (r *removal) cutOff(t *testing.T) *cutOff {
	t.Helper()
	c := &cutOff{Proxy: faultnet.New(t, r.Server.Addr())}
	dsn, err := c.Rewrite(r.CatalogDSN)
	require.NoError(t, err)
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: dsn, Actor: "test", Retry: -1})
	require.NoError(t, err)
	t.Cleanup(catalog.Close)
	c.Mover, err = move.New(move.Config{Catalog: catalog, Homes: r.Service, Progress: func(s move.Status) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.phase = s.Move.Phase
		if c.waiting == "" {
			c.waiting = s.Waiting
		}
	}})
	require.NoError(t, err)
	return c
}

// drive drives a move in the background.
func (c *cutOff) drive(t *testing.T, m placement.Move, goal move.Goal) <-chan error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := c.Drive(ctx, m.ID, goal)
		ended <- err
	}()
	t.Cleanup(func() { stop(); <-done })
	return ended
}

// waits returns what the mover waits for first.
func (c *cutOff) waits(t *testing.T) (what string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		what = c.waiting
		return what != ""
	}, waitFor, tick)
	return what
}

// steal makes somebody else the one who drives a move.
func (r *removal) steal(t *testing.T, m placement.Move) {
	t.Helper()
	catalog, err := pgx.Connect(t.Context(), r.CatalogDSN)
	require.NoError(t, err)
	_, err = catalog.Exec(t.Context(), `update landlord.moves set owner = $2, owned_until = '-infinity' where id = $1`, m.ID, uuid.NewString())
	require.NoError(t, err)
	require.NoError(t, catalog.Close(t.Context()))
}

func (r *removal) fence(t *testing.T, p placement.Placement) isolation.Fence {
	t.Helper()
	conn := r.Super(t, p.Home.Database)
	f, err := isolation.ReadFence(t.Context(), conn, isolation.FenceKey{Tenant: p.Tenant.String(), Home: p.Home.String()})
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	return f
}

// A driver that slept between its claim and its taking over of the target has taken it from its successor. It does nothing with it.
func TestDriverLooksAtItsClaimAgainBeforeItBegins(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	_, err := r.driveUntil(t, m, move.ToReversing, move.Following)
	require.ErrorIs(t, err, context.Canceled)
	r.livesAt(t, m.Source.Home, m.Epoch) // which writes a row that is not applied yet
	var before, after string
	const progress = `select coalesce((select lsn::text from landlord.move_progress where move = $1 and direction = 'forward'), '')`
	look := r.Super(t, m.Target.Home.Database)
	require.NoError(t, look.QueryRow(t.Context(), progress, m.ID).Scan(&before))

	held := r.Super(t, m.Target.Home.Database)
	_, err = held.Exec(t.Context(), "begin")
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), "select from landlord.fence where tenant = $1 for update", m.Tenant.String())
	require.NoError(t, err)
	c := r.cutOff(t)
	ended := c.drive(t, m, move.ToReversing)
	require.Eventually(t, func() bool {
		var blocked bool
		const q = `select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))`
		require.NoError(t, look.QueryRow(t.Context(), q, held.PgConn().PID()).Scan(&blocked))
		return blocked
	}, waitFor, tick)
	c.Cut()
	r.steal(t, m)
	_, err = held.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.Contains(t, c.waits(t), "catalog")
	require.NoError(t, look.QueryRow(t.Context(), progress, m.ID).Scan(&after))
	require.Equal(t, before, after, "it has not followed")
	c.Restore()
	require.ErrorIs(t, <-ended, placement.ErrMoveLost)

	m = r.drive(t, m, move.ToDone)
	r.nothingLeft(t, m)
}

// A driver whose lease may have run out, because the catalog cannot be reached, raises no fence before it has renewed it.
func TestDriverBeginsNoCutoverWhenItsLeaseMayHaveRunOut(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	c := r.cutOff(t)
	ended := c.drive(t, m, move.Stay)
	r.await(t, m, move.Verified)
	require.NoError(t, r.router.Tenant(r.tenant.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "insert into customers (email, name) values ('long@example.com', '')")
		require.NoError(t, err)
		r.ask(t, m, placement.AskCutover)
		require.Eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.waiting = ""
			return c.phase == move.Fencing
		}, waitFor, tick)
		c.Cut()
		require.Contains(t, c.waits(t), "catalog", "rather than for the tenant's transaction")
		return nil
	}))
	r.steal(t, m)
	c.Restore()
	require.ErrorIs(t, <-ended, placement.ErrMoveLost)
	require.Equal(t, isolation.Open, r.fence(t, m.At(false)).State)
	m = r.drive(t, m, move.ToDone)
	r.nothingLeft(t, m)
}

// While an attempt to pass the tenant on is under way, nothing is taken away that the tenant may need when it succeeds.
func TestNothingIsTakenAwayWhileTheOtherHomesFenceIsUp(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		begin, goal move.Goal
		back        bool
	}{
		"abort":    {move.Ready, move.ToAborted, false},
		"complete": {move.ToReversing, move.ToDone, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, place{schema, "a"}, place{schema, "b"})
			m := r.drive(t, r.begin(t, place{schema, "b"}), end.begin)
			from, to := m.At(end.back), m.At(!end.back)
			key := isolation.FenceKey{Tenant: m.Tenant.String(), Home: from.Home.String()}
			zombie, attempt := r.Super(t, from.Home.Database), uuid.NewString()
			var now time.Time
			const lock = `
select clock_timestamp() from pg_advisory_lock(landlord.bypass_key()) bypass, pg_advisory_lock(landlord.lock_key($1, $2, false)) tenant`
			require.NoError(t, zombie.QueryRow(t.Context(), lock, key.Tenant, key.Home).Scan(&now))
			require.NoError(t, isolation.RaiseFence(t.Context(), zombie, key, from.Epoch, isolation.Attempt{ID: attempt, Start: now, MaxPause: time.Hour}, "fence"))

			c := r.cutOff(t)
			ended := c.drive(t, m, end.goal)
			require.Contains(t, c.waits(t), "an attempt to pass the tenant on is under way")
			recorded, err := r.Catalog.Move(t.Context(), m.ID)
			require.NoError(t, err)
			require.NotContains(t, []move.Phase{move.Aborting, move.Completing}, recorded.Phase)
			require.NotEqual(t, isolation.Open, r.fence(t, to).State, "it is still there")

			require.NoError(t, isolation.LowerFence(t.Context(), zombie, key, from.Epoch, attempt))
			require.NoError(t, zombie.Close(t.Context()))
			require.NoError(t, <-ended)
			r.livesAt(t, from.Home, from.Epoch)
			r.nothingLeft(t, m)
		})
	}
}

// A driver that stood still before it made its stream wakes when the move is over, and takes away what it has made then.
func TestDriverThatIsLateTakesAwayWhatItHasMade(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	m := r.begin(t, place{schema, "b"})
	look := r.Super(t, m.Source.Home.Database)
	seen := func(q string, args ...any) bool {
		var found bool
		require.NoError(t, look.QueryRow(t.Context(), "select exists ("+q+")", args...).Scan(&found))
		return found
	}
	held := r.Super(t, m.Source.Home.Database)
	_, err := held.Exec(t.Context(), "begin; lock table customers in share update exclusive mode") // so that it cannot be published
	require.NoError(t, err)
	c := r.cutOff(t)
	ended := c.drive(t, m, move.Ready)
	require.Eventually(t, func() bool {
		return seen(`select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)) and query like 'create publication%'`, held.PgConn().PID())
	}, waitFor, tick)
	c.Cut()
	r.steal(t, m)
	m = r.drive(t, m, move.ToAborted)
	_, err = held.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return seen(`select from pg_replication_slots where starts_with(slot_name, 'landlord_move_' || $1) and confirmed_flush_lsn is not null`, compact(m.ID))
	}, waitFor, tick)
	c.Restore()
	require.ErrorIs(t, <-ended, placement.ErrMoveLost)
	r.nothingLeft(t, m)
}
