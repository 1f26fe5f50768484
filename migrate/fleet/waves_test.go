package fleet_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// fleetOf are homes of every kind on two clusters.
func fleetOf(schemas, databases int) (all []placement.RunTarget) {
	add := func(cluster, database, schema, scope, tenant string) {
		all = append(all, placement.RunTarget{
			Home: placement.Home{Cluster: cluster, Database: database, Schema: schema}, Scope: scope, Tenant: tenant,
		})
	}
	for _, c := range []string{"a", "b"} {
		add(c, "app", "landlord.server", "server", "")
		add(c, "app", "landlord.database", "database", "")
		add(c, "app", "public", "tenant", "")
		for i := range schemas {
			add(c, "app", fmt.Sprintf("t_%d", i), "tenant", "id")
		}
		for i := range databases {
			add(c, fmt.Sprintf("t_%d", i), "public", "tenant", "id")
		}
	}
	return all
}

func TestWavesGrowAndTheFirstMeetsEveryKindButTheSharedTables(t *testing.T) {
	t.Parallel()
	all := fleetOf(800, 100)
	waves, canary := assign(all, nil)
	require.Equal(t, 4, waves)
	require.True(t, canary)
	homes, kinds := map[int]int{}, map[string]bool{}
	for _, target := range all {
		if target.Scope != "tenant" {
			require.Equal(t, 1, target.Wave, "the others wait for it")
			continue
		}
		homes[target.Wave]++
		if target.Wave == 1 {
			kinds[target.Home.Cluster+" "+fmt.Sprint(target.Home.Schema == "public")] = true
		}
		if target.Tenant == "" {
			require.GreaterOrEqual(t, target.Wave, 3)
		}
	}
	require.Equal(t, map[int]int{1: 18, 2: 162, 3: 721, 4: 901}, homes)
	require.Len(t, kinds, 4)
}

func TestEveryStartingVersionIsAmongTheFirst(t *testing.T) {
	t.Parallel()
	all := fleetOf(800, 0)
	starts := make([]string, len(all))
	for i := range starts {
		starts[i] = "00005_new.sql"
		if i%100 == 7 {
			starts[i] = "00002_old.sql"
		}
	}
	fleet.AssignWaves(all, starts, nil, nil)
	first := map[string]int{}
	for i, target := range all {
		if target.Wave == 1 && target.Tenant != "" {
			first[starts[i]]++
		}
	}
	require.Equal(t, map[string]int{"00005_new.sql": 16, "00002_old.sql": 2}, first)
}

func TestEveryWaveIsSpreadOverTheSizesOfItsHomesAndTheLargestComesLast(t *testing.T) {
	t.Parallel()
	all := fleetOf(800, 200)
	sizes := make([]int64, len(all))
	size := map[string]int64{} // of the homes of a kind on a cluster, so far
	kind := func(target placement.RunTarget) string {
		return fmt.Sprint(target.Home.Cluster, target.Home.Schema == "public")
	}
	for i, target := range all {
		if target.Tenant != "" {
			size[kind(target)]++
			sizes[i] = size[kind(target)]
		}
	}
	waves, _ := fleet.AssignWaves(all, make([]string, len(all)), sizes, nil)
	require.Equal(t, 4, waves)
	quarters := map[string]map[int64]int{} // homes of a kind in a wave, by the quarter of the sizes in which they are
	for i, target := range all {
		if target.Tenant == "" {
			continue
		}
		key := fmt.Sprint(kind(target), " ", target.Wave)
		if quarters[key] == nil {
			quarters[key] = map[int64]int{}
		}
		quarters[key][(sizes[i]-1)*4/size[kind(target)]]++
		if sizes[i] == size[kind(target)] {
			require.Equal(t, waves, target.Wave, "the largest of its kind")
		}
	}
	require.Len(t, quarters, 16, "two kinds on two clusters in four waves")
	for key, found := range quarters {
		homes := found[0] + found[1] + found[2] + found[3]
		for quarter := range int64(4) {
			if homes >= 8 {
				require.InDelta(t, float64(homes)/4, float64(found[quarter]), 2, "%s: %v", key, found)
			}
		}
	}
}

func TestASmallFleetHasACanary(t *testing.T) {
	t.Parallel()
	all := fleetOf(4, 1) // twelve homes
	waves, canary := assign(all, nil)
	require.Equal(t, 2, waves)
	require.True(t, canary)
	var first []placement.RunTarget
	for _, target := range all {
		if target.Wave == 1 && target.Scope == "tenant" {
			first = append(first, target)
		}
	}
	require.Len(t, first, 1)
	require.NotEqual(t, placement.SharedSchema, first[0].Home.Schema, "there are more schemas than databases")

	// Shared homes hold many tenants: none of them is one.
	var shared []placement.RunTarget
	for i := range 20 {
		home := placement.Home{Cluster: fmt.Sprintf("c%d", i), Database: "app", Schema: "public"}
		shared = append(shared, placement.RunTarget{Home: home, Scope: "tenant"})
	}
	waves, canary = assign(shared, nil)
	require.Equal(t, 1, waves)
	require.False(t, canary)
}

func TestAFewHomesAreOneWaveAndNamedHomesComeFirst(t *testing.T) {
	t.Parallel()
	all := fleetOf(2, 1) // eight homes
	waves, canary := assign(all, nil)
	require.Equal(t, 1, waves)
	require.False(t, canary)

	for _, all := range [][]placement.RunTarget{all, fleetOf(20, 1)} {
		first := all[4].Home
		waves, canary = assign(all, map[placement.Home]bool{first: true})
		require.Equal(t, 2, waves)
		require.True(t, canary)
		for _, target := range all {
			require.Equal(t, target.Scope != "tenant" || target.Home == first, target.Wave == 1)
		}
	}

	all = all[4:5]
	waves, _ = assign(all, map[placement.Home]bool{all[0].Home: true})
	require.Equal(t, 1, waves)
}

// assign gives waves to targets that all start from the same version.
func assign(all []placement.RunTarget, first map[placement.Home]bool) (waves int, canary bool) {
	return fleet.AssignWaves(all, make([]string, len(all)), nil, first)
}
