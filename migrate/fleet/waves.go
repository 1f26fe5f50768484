package fleet

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// The waves of a fleet, as percentages of its homes. Below fleetSize homes there is one wave: one percent is less than a home.
var percentages = []int{1, 10, 50, 100}

const fleetSize = 100

// assignWaves gives each target its wave, and returns how many there are and whether the first is a canary. What stands for a
// whole server or database is done in the first wave, before the homes there. The named homes come first; then, from
// fleetSize homes on, each stratum (the homes of one kind on one cluster) gives its share to each wave, so that the first
// ones have met all kinds. Homes are taken in an order that has nothing to do with their age or name.
//
// A shared home holds many tenants, so it is never among the first: it is spared until the wave of 50 percent.
func assignWaves(targets []target, first map[placement.Home]bool) (waves int, canary bool) {
	type stratum struct{ cluster, kind string }
	strata := make(map[stratum][]int)
	homes, named := 0, false
	for i := range targets {
		t := &targets[i]
		t.Wave = 1
		switch {
		case t.Scope != string(migrate.ScopeTenant):
		case first[t.Home]:
			named = true
		default:
			homes++
			s := stratum{t.Home.Cluster, "schema"}
			switch {
			case t.Tenant == "":
				s = stratum{"", "shared"}
			case t.Home.Schema == placement.SharedSchema:
				s.kind = "database"
			}
			strata[s] = append(strata[s], i)
		}
	}
	base := 0
	if named {
		base = 1
	}
	if homes < fleetSize {
		for _, members := range strata {
			for _, i := range members {
				targets[i].Wave = base + 1
			}
		}
		return max(base+min(homes, 1), 1), named
	}
	for s, members := range strata {
		slices.SortFunc(members, func(a, b int) int { return cmp.Compare(shuffle(targets[a]), shuffle(targets[b])) })
		for n, i := range members {
			wave := slices.IndexFunc(percentages, func(p int) bool { return (n+1)*100 <= p*len(members)+99 })
			if s.kind == "shared" {
				wave = max(wave, 2)
			}
			targets[i].Wave = base + wave + 1
		}
	}
	return base + len(percentages), true
}

// shuffle is the place of a target in its stratum.
func shuffle(t target) string {
	sum := sha256.Sum256([]byte(t.Home.String()))
	return string(sum[:])
}
