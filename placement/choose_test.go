package placement_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func usage(name string, tenants, capacity int) placement.Usage {
	u := placement.Usage{Cluster: aCluster(name), Tenants: tenants}
	u.State, u.Capacity = placement.ClusterActive, capacity
	return u
}

func TestLeastLoadedIsRelativeToCapacity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		all  []placement.Usage
	}{
		{"a", []placement.Usage{usage("b", 0, 10), usage("a", 0, 10)}},                      // ties by name
		{"b", []placement.Usage{usage("a", 2, 10), usage("b", 15, 100)}},                    // 20 % and 15 %
		{"b", []placement.Usage{usage("a", 1, 3), usage("b", 333333332, 1000000000)}},       // no rounding
		{"b", []placement.Usage{usage("a", 5, 0), usage("b", 4, 0)}},                        // without limits: by number
		{"a", []placement.Usage{usage("a", 5, 0), usage("b", 6, 10), usage("c", 10, 10)}},   // no limit counts as the largest
		{"b", []placement.Usage{usage("a", 11, 10), usage("b", 9, 10), usage("c", 10, 10)}}, // a capacity that was lowered
	} {
		got, err := placement.Choose(placement.Request{Slug: "s", Model: placement.ModelShared}, c.all)
		require.NoError(t, err)
		require.Equal(t, c.want, got.Name)
	}
}

func TestRefusalSaysWhyOfEachCluster(t *testing.T) {
	t.Parallel()
	draining, basic := usage("b", 0, 0), usage("c", 0, 0)
	draining.State, basic.Tier = placement.ClusterDraining, "basic"
	full := usage("a", 3, 3)
	draining.Tier, full.Tier = "gold", "gold"
	_, err := placement.Choose(placement.Request{Slug: "s", Model: placement.ModelShared, Tier: "gold"}, []placement.Usage{full, draining, basic})
	require.ErrorIs(t, err, placement.ErrNoCapacity)
	var refusal *placement.NoCapacityError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, []string{"a: 3 of 3 tenants", "b: draining", `c: tier "basic", not "gold"`}, refusal.Reasons)

	_, err = placement.Choose(placement.Request{Slug: "s", Model: placement.ModelShared}, nil)
	require.ErrorIs(t, err, placement.ErrNoCapacity)
	require.ErrorContains(t, err, "landlord cluster add")
}

// requests and clusters as hostile to the rules as they can be drawn.
func drawUsages(t *rapid.T) []placement.Usage {
	all := make([]placement.Usage, rapid.IntRange(0, 6).Draw(t, "clusters"))
	for i := range all {
		u := usage(fmt.Sprintf("c%d", i), rapid.IntRange(0, 6).Draw(t, "tenants"), rapid.IntRange(0, 5).Draw(t, "capacity"))
		u.State = rapid.SampledFrom([]placement.ClusterState{placement.ClusterActive, placement.ClusterFull, placement.ClusterDraining}).Draw(t, "state")
		u.Tier = rapid.SampledFrom([]string{"", "gold", "basic"}).Draw(t, "tier")
		u.Region = rapid.SampledFrom([]string{"", "eu", "us"}).Draw(t, "region")
		all[i] = u
	}
	return all
}

func TestChoiceRespectsEveryRuleAndFindsOneIfThereIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawUsages(t)
		r := placement.Request{
			ID: id(t), Slug: "s", Model: placement.ModelShared,
			Strategy: rapid.SampledFrom([]placement.Strategy{"", placement.Explicit, placement.LeastLoaded, placement.Hash}).Draw(t, "strategy"),
			Tier:     rapid.SampledFrom([]string{"", "gold"}).Draw(t, "wanted tier"),
			Region:   rapid.SampledFrom([]string{"", "eu"}).Draw(t, "wanted region"),
		}
		if r.Strategy == placement.Explicit {
			r.Cluster, r.Force = fmt.Sprintf("c%d", rapid.IntRange(0, 5).Draw(t, "named")), rapid.Bool().Draw(t, "force")
		}
		require.NoError(t, r.Validate())
		able := func(u placement.Usage) bool {
			return (u.State == placement.ClusterActive || r.Force) && (u.Capacity == 0 || u.Tenants < u.Capacity) &&
				(r.Tier == "" || r.Tier == u.Tier) && (r.Region == "" || r.Region == u.Region) && (r.Cluster == "" || r.Cluster == u.Name)
		}
		chosen, err := placement.Choose(r, all)
		if err != nil {
			require.False(t, slices.ContainsFunc(all, able), "refused though there was one: %v", err)
			return
		}
		i := slices.IndexFunc(all, func(u placement.Usage) bool { return u.Name == chosen.Name })
		require.GreaterOrEqual(t, i, 0)
		require.True(t, able(all[i]))
	})
}

func TestHashDrawsOnlyItsShareToANewCluster(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := []placement.Usage{usage("a", 0, 0), usage("b", 0, 0), usage("c", 0, 0)}
		r := placement.Request{ID: id(t), Slug: "s", Model: placement.ModelShared, Strategy: placement.Hash}
		before, err := placement.Choose(r, all)
		require.NoError(t, err)
		// Load and order play no part.
		all[0].Tenants = 1000
		slices.Reverse(all)
		again, err := placement.Choose(r, all)
		require.NoError(t, err)
		require.Equal(t, before.Name, again.Name)
		// A new cluster takes the tenant or leaves it where it is; nobody moves between the old ones.
		after, err := placement.Choose(r, append(all, usage("d", 0, 0)))
		require.NoError(t, err)
		require.Contains(t, []string{before.Name, "d"}, after.Name)
	})
}

func TestHashSpreads(t *testing.T) {
	t.Parallel()
	all := []placement.Usage{usage("a", 0, 0), usage("b", 0, 0), usage("c", 0, 0)}
	count := map[string]int{}
	for i := range 3000 {
		id, err := tenant.BigInt.Parse(fmt.Sprint(i + 1))
		require.NoError(t, err)
		c, err := placement.Choose(placement.Request{ID: id, Slug: "s", Model: placement.ModelShared, Strategy: placement.Hash}, all)
		require.NoError(t, err)
		count[c.Name]++
	}
	for _, n := range count {
		require.InDelta(t, 1000, n, 150)
	}
}

func TestRequestsThatIgnoreAFieldAreRefused(t *testing.T) {
	t.Parallel()
	good := placement.Request{Slug: "s", Model: placement.ModelShared}
	for want, spoil := range map[string]func(*placement.Request){
		"bad slug":                   func(r *placement.Request) { r.Slug = "Not A Slug" },
		"shared, schema or database": func(r *placement.Request) { r.Model = "cloud" },
		"explicit, least-loaded":     func(r *placement.Request) { r.Strategy = "random" },
		"only for it":                func(r *placement.Request) { r.Strategy, r.Cluster = placement.Hash, "a" },
		"is named for strategy":      func(r *placement.Request) { r.Strategy = placement.Explicit },
		"force goes with":            func(r *placement.Request) { r.Force = true },
	} {
		r := good
		spoil(&r)
		require.ErrorContains(t, r.Validate(), want)
	}
}

func id(t *rapid.T) tenant.ID {
	id, err := tenant.BigInt.Parse(fmt.Sprint(rapid.Int64Range(1, 1<<62).Draw(t, "id")))
	require.NoError(t, err)
	return id
}
