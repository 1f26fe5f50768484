package fleet

import (
	"cmp"
	"crypto/sha256"
	"math/bits"
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// The waves of a fleet, as percentages of its homes. Below fleetSize homes one percent is less than a home: from smallFleet
// homes on one of them goes first, alone, and below that there is one wave.
var percentages = []int{1, 10, 50, 100}

const (
	fleetSize  = 100
	smallFleet = 10
)

// stratum are homes that are alike: of one kind, on one cluster, and brought to the version of the set from the same one.
type stratum struct{ cluster, kind, start string }

// assignWaves gives each target its wave, and returns how many there are and whether the first is a canary. starts tells of
// each target what it starts from, sizes how large its home is; nil: nobody knows. What stands for a whole server or database is done in the first wave, before the homes there. The
// named homes come first; then, from fleetSize homes on, each stratum gives its share to each wave, so that the first ones have
// met all kinds; the homes of a share are spread over the sizes that there are in the stratum. Homes of one size are taken in an
// order that has nothing to do with their age or name.
//
// A shared home holds many tenants, so it is never among the first: it is spared until the wave of 50 percent.
func assignWaves(targets []target, starts []string, sizes []int64, first map[placement.Home]bool) (waves int, canary bool) {
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
			s := stratum{t.Home.Cluster, "schema", starts[i]}
			switch {
			case t.Tenant == "":
				s = stratum{"", shared, ""}
			case t.Home.Schema == placement.SharedSchema:
				s.kind = "database"
			}
			strata[s] = append(strata[s], i)
		}
	}
	for _, members := range strata {
		slices.SortFunc(members, func(a, b int) int {
			if sizes != nil && sizes[a] != sizes[b] {
				return cmp.Compare(sizes[a], sizes[b])
			}
			return cmp.Compare(shuffle(targets[a]), shuffle(targets[b]))
		})
	}
	base := 0
	if named {
		base = 1
	}
	if homes < fleetSize {
		alone := -1
		if homes >= smallFleet && !named {
			alone = canaryOf(strata)
		}
		if alone >= 0 {
			base = 1
		}
		for _, members := range strata {
			for _, i := range members {
				if i != alone {
					targets[i].Wave = base + 1
				}
			}
		}
		return max(base+min(homes, 1), 1), base == 1
	}
	for s, members := range strata {
		for n, i := range spread(members) {
			wave := slices.IndexFunc(percentages, func(p int) bool { return (n+1)*100 <= p*len(members)+99 })
			if s.kind == shared {
				wave = max(wave, 2)
			}
			targets[i].Wave = base + wave + 1
		}
	}
	return base + len(percentages), true
}

const shared = "shared" // the kind of homes that are never a canary

// canaryOf is the home of a small fleet that goes first, one of the largest stratum; -1: there are only shared ones.
func canaryOf(strata map[stratum][]int) int {
	var largest stratum
	for s, members := range strata {
		less := cmp.Or(cmp.Compare(len(members), len(strata[largest])), -cmp.Compare(s.cluster, largest.cluster),
			-cmp.Compare(s.kind, largest.kind), -cmp.Compare(s.start, largest.start))
		if s.kind != shared && less > 0 {
			largest = s
		}
	}
	if members := strata[largest]; len(members) > 0 {
		return members[0]
	}
	return -1
}

// shuffle is the place of a target in its stratum.
func shuffle(t target) string {
	sum := sha256.Sum256([]byte(t.Home.String()))
	return string(sum[:])
}

// spread orders what is sorted so that every beginning of it is spread over the whole: the middle, the quarters, the eighths and so on.
// The largest comes last. (It is the sequence of van der Corput in base 2.)
func spread(sorted []int) []int {
	width := bits.Len(uint(len(sorted)))
	taken := make([]bool, len(sorted))
	out := make([]int, 0, len(sorted))
	for n := uint64(1); len(out) < len(sorted); n++ {
		fraction := bits.Reverse64(n) >> (64 - width) // of 1 << width; for n == 1 << width it is 0
		at := fraction * uint64(len(sorted)) >> width
		if !taken[at] {
			taken[at] = true
			out = append(out, sorted[at])
		}
	}
	return out
}
