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
	waves, canary := fleet.AssignWaves(all, nil)
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

func TestASmallFleetIsOneWaveAndNamedHomesComeFirst(t *testing.T) {
	t.Parallel()
	all := fleetOf(10, 1)
	waves, canary := fleet.AssignWaves(all, nil)
	require.Equal(t, 1, waves)
	require.False(t, canary)

	first := all[5].Home
	waves, canary = fleet.AssignWaves(all, map[placement.Home]bool{first: true})
	require.Equal(t, 2, waves)
	require.True(t, canary)
	for _, target := range all {
		require.Equal(t, target.Scope != "tenant" || target.Home == first, target.Wave == 1)
	}

	all = all[5:6]
	waves, _ = fleet.AssignWaves(all, map[placement.Home]bool{first: true})
	require.Equal(t, 1, waves)
}
