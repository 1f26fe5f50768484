package placement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestRebuildFollowsTheHomes(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	fence := func(p placement.Placement, state string) placement.FenceRow {
		return placement.FenceRow{Tenant: p.Tenant, Slug: p.Slug, Model: p.Model, Home: p.Home, Epoch: p.Epoch, State: state}
	}
	agreed := place(t, c, placement.Request{Slug: "agreed", Cluster: "a"})
	require.NoError(t, c.SetState(t.Context(), agreed.Tenant, placement.StateActive))
	suspended := place(t, c, placement.Request{Slug: "suspended", Cluster: "a"})
	require.NoError(t, c.SetState(t.Context(), suspended.Tenant, placement.StateActive))

	// Since the backup it has moved to b, and the old home still says where it went.
	old := place(t, c, placement.Request{Slug: "moved", Model: placement.ModelSchema, Cluster: "a"})
	require.NoError(t, c.SetState(t.Context(), old.Tenant, placement.StateActive))
	moved := old
	moved.Home.Cluster, moved.Epoch, moved.State = "b", 4, placement.StateActive

	// Since the backup it was added.
	added := placement.Placement{
		Tenant: newID(t), Slug: "added", State: placement.StateActive, Model: placement.ModelShared, Epoch: 1,
		Home: placement.NewHome(placement.ModelShared, aCluster("b"), ""),
	}

	rows := []placement.FenceRow{
		fence(agreed, "open"), fence(suspended, "suspended"), fence(old, "moved"), fence(moved, "open"), fence(added, "open"),
	}
	before := kinds(t, c)
	dry, err := c.Rebuild(t.Context(), rows, true)
	require.NoError(t, err)
	require.Len(t, dry.Changes, 3)
	require.Equal(t, before, kinds(t, c), "a dry run writes nothing")
	_, err = c.Tenant(t.Context(), added.Tenant)
	require.ErrorIs(t, err, placement.ErrUnknownTenant)

	report, err := c.Rebuild(t.Context(), rows, false)
	require.NoError(t, err)
	require.Equal(t, dry, report)
	require.Empty(t, report.Problems)
	suspended.State, agreed.State = placement.StateSuspended, placement.StateActive
	for _, p := range []placement.Placement{agreed, suspended, moved, added} {
		got, err := c.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.Equal(t, p, got.Placement())
	}
	require.Equal(t, append(before, placement.KindRebuilt, placement.KindRebuilt, placement.KindRebuilt), kinds(t, c))

	again, err := c.Rebuild(t.Context(), rows, false)
	require.NoError(t, err)
	require.Empty(t, again)
}

func TestRebuildLeavesWhatItCannotKnowToAPerson(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	active := func(slug string) placement.Placement {
		p := place(t, c, placement.Request{Slug: tenant.Slug(slug), Model: placement.ModelSchema})
		require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
		p.State = placement.StateActive
		return p
	}
	row := func(p placement.Placement, epoch int64, cluster, state string) placement.FenceRow {
		p.Home.Cluster = cluster
		return placement.FenceRow{Tenant: p.Tenant, Slug: p.Slug, Model: p.Model, Home: p.Home, Epoch: epoch, State: state}
	}
	unseen, closed, twice, ahead, lost := active("unseen"), active("closed"), active("twice"), active("ahead"), active("lost")
	aheadNow := ahead
	aheadNow.Epoch = 7
	require.NoError(t, c.SetPlacement(t.Context(), 1, aheadNow))
	stranger := placement.Placement{Tenant: newID(t), Slug: "unseen", Model: placement.ModelSchema, Epoch: 1, Home: unseen.Home}
	stranger.Home.Schema = "t_other"
	senseless := placement.Placement{Tenant: newID(t), Slug: "Not A Slug", Model: "cloud", Home: placement.Home{Cluster: "a", Database: "x/y", Schema: "pg_x"}}
	place(t, c, placement.Request{Slug: "half-made"}) // has no fence row yet, and that is no problem

	before := kinds(t, c)
	report, err := c.Rebuild(t.Context(), []placement.FenceRow{
		row(closed, 1, "a", "importing"), row(closed, 1, "a", "nonsense"),
		row(twice, 3, "a", "open"), row(twice, 3, "b", "open"),
		row(ahead, 5, "a", "open"),
		row(lost, 2, "gone", "open"),
		row(stranger, 1, "a", "open"),
		row(senseless, 0, "a", "open"),
	}, false)
	require.NoError(t, err)
	require.Empty(t, report.Changes)
	require.Equal(t, before, kinds(t, c))
	problems := map[string]string{}
	for _, p := range report.Problems {
		problems[p.Tenant.String()] = p.Problem
	}
	require.Len(t, problems, 7)
	for id, part := range map[string]string{
		unseen.Tenant.String():    "no home that was read has a fence row of it",
		closed.Tenant.String():    "no home is open",
		twice.Tenant.String():     "more than one home is open",
		ahead.Tenant.String():     "the catalog is ahead: epoch 7",
		lost.Tenant.String():      "the catalog has no such cluster",
		stranger.Tenant.String():  "gives its slug to tenant id " + unseen.Tenant.String(),
		senseless.Tenant.String(): "makes no sense",
	} {
		require.Contains(t, problems[id], part)
	}
}

func TestRebuildKeepsWhatTheCatalogDecided(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	for slug, fence := range map[tenant.Slug]string{"removing": "suspended", "moving": "open", "cut-over": "fenced"} {
		p := place(t, c, placement.Request{Slug: slug})
		require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
		if slug == "removing" {
			require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateRemoving))
		} else {
			begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema})
		}
		report, err := c.Rebuild(t.Context(), []placement.FenceRow{
			{Tenant: p.Tenant, Slug: p.Slug, Model: p.Model, Home: p.Home, Epoch: 1, State: fence},
		}, false)
		require.NoError(t, err)
		require.Empty(t, report.Changes)
	}
}

// The catalog does not know the move any more that has left these rows, and nobody can go on with it.
func TestRebuildLeavesNobodyMovingWithoutAMove(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	for _, state := range []placement.State{placement.StateActive, placement.StateMoving} {
		for _, fence := range []string{"open", "fenced"} {
			p := place(t, c, placement.Request{Slug: tenant.Slug(fence + "-" + string(state)), Cluster: "a"})
			require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
			if state != placement.StateActive {
				require.NoError(t, c.SetState(t.Context(), p.Tenant, state))
			}
			target := placement.NewHome(placement.ModelShared, aCluster("b"), "")
			_, err := c.Rebuild(t.Context(), []placement.FenceRow{
				{Tenant: p.Tenant, Slug: p.Slug, Model: p.Model, Home: p.Home, Epoch: 1, State: fence},
				{Tenant: p.Tenant, Slug: p.Slug, Model: placement.ModelShared, Home: target, Epoch: 2, State: "importing"},
			}, false)
			require.NoError(t, err)
			got, err := c.Tenant(t.Context(), p.Tenant)
			require.NoError(t, err)
			require.Equal(t, placement.StateActive, got.State)
			require.Equal(t, p.Home, got.Home)
			begin(t, c, placement.MoveRequest{Tenant: p.Tenant, Model: placement.ModelSchema, Limit: 100})
		}
	}
}

// The backup is of a time when the tenant was to go; since then it was resumed, so its home is open.
func TestRebuildBringsBackWhoWasResumedAfterTheBackup(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	for _, state := range []placement.State{placement.StateRemoving, placement.StateSuspended} {
		p := place(t, c, placement.Request{Slug: tenant.Slug(state)})
		for _, s := range []placement.State{placement.StateActive, state} {
			require.NoError(t, c.SetState(t.Context(), p.Tenant, s))
		}
		report, err := c.Rebuild(t.Context(), []placement.FenceRow{
			{Tenant: p.Tenant, Slug: p.Slug, Model: p.Model, Home: p.Home, Epoch: 1, State: "open"},
		}, false)
		require.NoError(t, err)
		require.Len(t, report.Changes, 1)
		got, err := c.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.Equal(t, placement.StateActive, got.State)
		require.Nil(t, got.RemoveAfter)
		require.False(t, got.RemovalDue)
		require.ErrorIs(t, c.DeleteTenant(t.Context(), p.Tenant), placement.ErrState)
	}
}
