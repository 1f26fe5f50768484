package placement_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// movable is a catalog with clusters a and b, and an active tenant in the shared database of a.
func movable(t *testing.T) (*placement.Catalog, placement.Placement) {
	t.Helper()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	p := place(t, c, placement.Request{Slug: "acme", Cluster: "a"})
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	return c, p
}

func begin(t *testing.T, c *placement.Catalog, r placement.MoveRequest) placement.Move {
	t.Helper()
	m, err := c.BeginMove(t.Context(), r)
	require.NoError(t, err)
	return m
}

func TestRateOfACopyIsKeptWithItsMove(t *testing.T) {
	t.Parallel()
	c, p := movable(t)
	ctx := t.Context()
	request := placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelDatabase, Cluster: "b"}
	for _, nonsense := range []int64{-1, 1, placement.LeastMaxRate - 1} {
		request.MaxRate = nonsense
		_, err := c.BeginMove(ctx, request)
		require.ErrorContains(t, err, "give at least 32768, or 0")
	}
	request.MaxRate = 5 << 20
	m := begin(t, c, request)
	require.EqualValues(t, 5<<20, m.MaxRate)
	for _, rate := range []int64{placement.LeastMaxRate, 0} {
		_, err := c.SetMaxRate(ctx, m.ID, rate)
		require.NoError(t, err)
		m, err = c.ActiveMove(ctx, p.Tenant)
		require.NoError(t, err)
		require.Equal(t, rate, m.MaxRate)
	}
	_, err := c.SetMaxRate(ctx, m.ID, 1)
	require.ErrorContains(t, err, "give at least")

	owner := uuid.NewString()
	_, err = c.ClaimMove(ctx, m.ID, owner, time.Minute)
	require.NoError(t, err)
	for _, to := range []placement.MovePhase{placement.MoveAborting, placement.MoveAborted} {
		m, err = c.AdvanceMove(ctx, m, owner, to)
		require.NoError(t, err)
	}
	_, err = c.SetMaxRate(ctx, m.ID, placement.LeastMaxRate)
	require.ErrorIs(t, err, placement.ErrMovePhase)
}

func TestMoveKeepsATenantToItselfUntilItIsOver(t *testing.T) {
	t.Parallel()
	c, p := movable(t)
	ctx := t.Context()
	m := begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelDatabase, Cluster: "b"})
	require.Equal(t, placement.MovePlanned, m.Phase)
	require.Equal(t, placement.DefaultMaxPause, m.MaxPause)
	require.Equal(t, placement.Place{Model: placement.ModelShared, Home: p.Home}, m.Source)
	require.Equal(t, "b", m.Target.Home.Cluster)
	settings, err := c.Settings(ctx)
	require.NoError(t, err)
	require.True(t, placement.IsHomeName(m.Target.Home.Database, settings.Installation, p.Tenant))

	_, err = c.BeginMove(ctx, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
	require.ErrorIs(t, err, placement.ErrState)
	require.ErrorIs(t, c.SetState(ctx, p.Tenant, placement.StateSuspended), placement.ErrState)
	require.ErrorIs(t, c.ScheduleRemoval(ctx, p.Tenant, 0), placement.ErrState)
	active, err := c.ActiveMove(ctx, p.Tenant)
	require.NoError(t, err)
	require.Equal(t, m, active)

	owner := uuid.NewString()
	_, err = c.ClaimMove(ctx, m.ID, owner, time.Minute)
	require.NoError(t, err)
	for _, to := range []placement.MovePhase{placement.MoveAborting, placement.MoveAborted} {
		m, err = c.AdvanceMove(ctx, m, owner, to)
		require.NoError(t, err)
	}
	require.True(t, m.Over())
	_, err = c.ActiveMove(ctx, p.Tenant)
	require.ErrorIs(t, err, placement.ErrNoMove)
	tn, err := c.Tenant(ctx, p.Tenant)
	require.NoError(t, err)
	require.Equal(t, placement.StateActive, tn.State)
	begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
}

func TestMoveTakesAPlaceOnBothClusters(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	small := aCluster("b")
	small.Capacity = 1
	addClusters(t, c, aCluster("a"), small)
	var ids []placement.Placement
	for _, slug := range []string{"one", "two"} {
		p := place(t, c, placement.Request{Slug: tenant.Slug(slug), Cluster: "a"})
		require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
		ids = append(ids, p)
	}
	begin(t, c, placement.MoveRequest{Tenant: ids[0].Tenant, Model: placement.ModelShared, Cluster: "b"})
	_, err := c.BeginMove(t.Context(), placement.MoveRequest{Tenant: ids[1].Tenant, Model: placement.ModelShared, Cluster: "b"})
	require.ErrorIs(t, err, placement.ErrNoCapacity)
	all, err := c.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{2, 1}, []int{all[0].Tenants, all[1].Tenants})
	require.ErrorIs(t, c.RemoveCluster(t.Context(), "b"), placement.ErrInUse)
	_, err = c.BeginMove(t.Context(), placement.MoveRequest{Tenant: ids[1].Tenant, Model: placement.ModelSchema, Limit: 1})
	require.ErrorIs(t, err, placement.ErrMoveLimit)
}

func TestMoveHasOneDriver(t *testing.T) {
	t.Parallel()
	c, p := movable(t)
	ctx := t.Context()
	m := begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
	one, two := uuid.NewString(), uuid.NewString()
	claimed, err := c.ClaimMove(ctx, m.ID, one, time.Hour)
	require.NoError(t, err)
	require.True(t, claimed.Driven)

	_, err = c.ClaimMove(ctx, m.ID, two, time.Hour)
	var refused *placement.MoveClaimedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, claimed.OwnedSince, refused.Since)

	require.NoError(t, c.ReleaseMove(ctx, m.ID, two), "somebody else's claim stays")
	_, err = c.ClaimMove(ctx, m.ID, two, time.Hour)
	require.ErrorIs(t, err, placement.ErrMoveClaimed)
	require.NoError(t, c.ReleaseMove(ctx, m.ID, one))
	_, err = c.ClaimMove(ctx, m.ID, two, time.Hour)
	require.NoError(t, err)

	_, err = c.RenewMove(ctx, m.ID, one, time.Hour)
	require.ErrorIs(t, err, placement.ErrMoveLost)
	_, err = c.AdvanceMove(ctx, m, one, placement.MovePreparing)
	require.ErrorIs(t, err, placement.ErrMoveLost)
	require.ErrorIs(t, c.Intend(ctx, m.ID, one, placement.Cleanup{Cluster: "a", Database: "app", Kind: placement.CleanHold, Name: "public"}), placement.ErrMoveLost)
	after, err := c.AdvanceMove(ctx, m, two, placement.MovePreparing)
	require.NoError(t, err)
	_, err = c.AdvanceMove(ctx, m, two, placement.MovePreparing)
	require.ErrorIs(t, err, placement.ErrMoveLost, "it is in another phase by now")
	require.Equal(t, placement.MovePreparing, after.Phase)
}

func TestMoveRemembersWhatItLearnsAndWhatIsAsked(t *testing.T) {
	t.Parallel()
	c, p := movable(t)
	ctx := t.Context()
	m := begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
	owner := uuid.NewString()
	_, err := c.ClaimMove(ctx, m.ID, owner, time.Hour)
	require.NoError(t, err)

	_, err = c.AskMove(ctx, m.ID, placement.AskComplete)
	require.ErrorIs(t, err, placement.ErrMovePhase)
	_, err = c.AskMove(ctx, m.ID, placement.AskCutover)
	require.NoError(t, err)
	renewed, err := c.RenewMove(ctx, m.ID, owner, time.Hour)
	require.NoError(t, err)
	require.Equal(t, placement.AskCutover, renewed.Asked)

	m.MoveFacts = placement.MoveFacts{
		ForwardSlot: "f", ReverseSlot: "r",
		StartLSN: "1/2B", StartXID: 1 << 33, ReverseLSN: "2/3C", NoRollback: "why", Pause: 12 * time.Millisecond, Rows: 1, Bytes: 2, Changes: 3,
	}
	m.Error = "it went wrong"
	for _, to := range []placement.MovePhase{placement.MovePreparing, placement.MoveFencing, placement.MoveVerified, placement.MoveFencing} {
		after, err := c.AdvanceMove(ctx, m, owner, to)
		require.NoError(t, err)
		require.Equal(t, m.MoveFacts, after.MoveFacts)
		require.Equal(t, m.Error, after.Error)
		require.Equal(t, placement.AskCutover, after.Asked)
		m = after
	}
	require.Equal(t, 2, m.Attempts)
	m, err = c.AdvanceMove(ctx, m, owner, placement.MoveCommitted)
	require.NoError(t, err)
	require.Empty(t, m.Asked, "it is done")
	require.NotNil(t, m.CommittedAt)
}

func TestMoveKeepsAnIntentUntilItIsCleaned(t *testing.T) {
	t.Parallel()
	c, p := movable(t)
	ctx := t.Context()
	m := begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
	owner := uuid.NewString()
	_, err := c.ClaimMove(ctx, m.ID, owner, time.Hour)
	require.NoError(t, err)
	slot := placement.Cleanup{Cluster: "a", Database: "app", Kind: placement.CleanSlot, Name: "s"}
	hold := placement.Cleanup{Cluster: "a", Database: "app", Kind: placement.CleanHold, Name: "public"}
	for range 2 {
		require.NoError(t, c.Intend(ctx, m.ID, owner, hold, slot))
	}
	all, err := c.Cleanups(ctx, m.ID)
	require.NoError(t, err)
	require.Equal(t, []placement.Cleanup{hold, slot}, all)
	for range 2 {
		require.NoError(t, c.Cleaned(ctx, m.ID, hold))
	}
	all, err = c.Cleanups(ctx, m.ID)
	require.NoError(t, err)
	require.Equal(t, []placement.Cleanup{slot}, all)
}

func TestDriverThatStandsStillInTheCatalogIsNotInItsSuccessorsWay(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, Actor: "tester"})
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme", Cluster: "a"})
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	m := begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
	one, two := uuid.NewString(), uuid.NewString()
	_, err := c.ClaimMove(t.Context(), m.ID, one, time.Millisecond)
	require.NoError(t, err)

	// The first driver renews its claim, and is stopped before it commits that.
	proxy, through := proxied(t, dsn)
	slow := open(t, placement.Config{DSN: through, Actor: "slow"})
	watch := connect(t, dsn)
	locked := func() (n int) {
		const q = `select count(*) from pg_stat_activity
 where datname = current_database() and state = 'idle in transaction' and backend_xid is not null and query like '%update landlord.moves%'`
		require.NoError(t, watch.QueryRow(t.Context(), q).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool {
		proxy.Restore()
		proxy.Delay(200 * time.Millisecond)
		renewed := make(chan error, 1)
		go func() {
			_, err := slow.RenewMove(t.Context(), m.ID, one, time.Millisecond)
			renewed <- err
		}()
		for locked() == 0 {
			select {
			case <-renewed:
				return false
			case <-time.After(5 * time.Millisecond):
			}
		}
		proxy.Blackhole()
		time.Sleep(500 * time.Millisecond) // what was on its way has arrived
		return locked() == 1
	}, time.Minute, time.Millisecond)
	t.Cleanup(proxy.Cut)

	_, err = c.ClaimMove(t.Context(), m.ID, two, time.Minute)
	require.NoError(t, err)
}
