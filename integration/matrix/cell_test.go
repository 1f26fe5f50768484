//go:build landlord_faults

package matrix_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// place is a model on a cluster.
type place struct {
	model   placement.Model
	cluster string
}

func (p place) String() string { return string(p.model) + " on " + p.cluster }

// transition is a way that a tenant can be moved.
type transition struct{ from, to place }

func (t transition) String() string { return t.from.String() + " to " + t.to.String() }

// transitions are all pairs of models on two clusters, and those that stay on one.
func transitions() (all []transition) {
	models := []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}
	for _, from := range models {
		for _, to := range models {
			all = append(all, transition{place{from, "a"}, place{to, "b"}})
			if from != to {
				all = append(all, transition{place{from, "a"}, place{to, "a"}})
			}
		}
	}
	return all
}

// few are transitions in which each model is once where the tenant comes from and once where it goes to, and one that stays in a
// database. What others have in common with them fails only here: a network does not know what passes through it, and an offline move
// copies and hands over as every other does.
var few = []transition{
	{place{placement.ModelShared, "a"}, place{placement.ModelDatabase, "b"}},
	{place{placement.ModelSchema, "a"}, place{placement.ModelShared, "b"}},
	{place{placement.ModelDatabase, "a"}, place{placement.ModelSchema, "b"}},
	{place{placement.ModelShared, "a"}, place{placement.ModelSchema, "a"}},
}

// cell is one failure of a move.
type cell struct {
	transition
	offline bool
	goal    move.Goal // to be reached all the same
	point   string
	how     string // kill, error, hang, or what becomes of the network: "cut source", "silent both"
}

// group is what cells have in common that are run in one house, one after the other.
func (c cell) group() string {
	switch {
	case c.offline:
		return c.transition.String() + ", offline"
	case c.network() != "":
		return c.transition.String() + ", network"
	}
	return c.transition.String()
}

func (c cell) String() string { return fmt.Sprintf("%s, %s at %s", c.goal, c.how, c.point) }

// network tells which network fails: "source", "target" or "both"; empty: none does.
func (c cell) network() string {
	_, where, _ := strings.Cut(c.how, " ")
	return where
}

// onlineOnly lists the points that only moves come by which follow a stream.
var onlineOnly = []string{
	"forward-publication", "forward-slot", "forward-start", "copied", "caught-up", "reverse-publication", "reverse-slot", "prove-reverse", "verify",
	"drop-forward-slot", "drop-forward-publication", "clean-slot", "clean-publication",
}

// goals are those of the moves that come by a point. A way back that is lost, which no cell makes happen, has points of its own.
func goals(point string, offline bool) []move.Goal {
	switch {
	case strings.HasPrefix(point, "drop-reverse-"), offline && slices.Contains(onlineOnly, point):
		return nil
	case strings.Contains(point, "rolling-back"), strings.Contains(point, "revert"), strings.HasPrefix(point, "reverse-opened"), strings.HasPrefix(point, "reverse-routed"):
		if offline {
			return nil
		}
		return []move.Goal{move.ToReverted}
	case strings.Contains(point, "abort"):
		return []move.Goal{move.ToAborted}
	case strings.HasPrefix(point, "clean-") && offline:
		return []move.Goal{move.ToDone, move.ToAborted}
	case strings.HasPrefix(point, "clean-"):
		return []move.Goal{move.ToDone, move.ToReverted, move.ToAborted}
	case strings.HasPrefix(point, "cutover-") && !offline:
		return []move.Goal{move.ToDone, move.ToReverted}
	}
	return []move.Goal{move.ToDone}
}

// every returns the cells of a transition for all points.
func every(tr transition, offline bool, hows ...string) (all []cell) {
	for _, point := range move.FaultPoints() {
		for _, goal := range goals(point, offline) {
			for _, how := range hows {
				all = append(all, cell{tr, offline, goal, point, how})
			}
		}
	}
	return all
}

// cells are all of the matrix, by group, or with LANDLORD_MATRIX_SEED a sample that the seed chooses: a cell of each transition, and
// two each in which the network is cut, which takes less time than silence, and of an offline move.
func cells(t *testing.T) map[string][]cell {
	t.Helper()
	var moves, networks, offline [][]cell // of each transition
	seed := os.Getenv("LANDLORD_MATRIX_SEED")
	for _, tr := range transitions() {
		moves = append(moves, every(tr, false, "kill", "error", "hang"))
	}
	for _, tr := range few {
		offline = append(offline, every(tr, true, "kill", "error", "hang", "cut both"))
		hows := []string{"cut both"}
		if tr.from.cluster != tr.to.cluster {
			hows = append(hows, "cut source", "cut target")
		}
		if seed == "" {
			for _, cut := range hows {
				hows = append(hows, strings.Replace(cut, "cut", "silent", 1))
			}
		}
		networks = append(networks, every(tr, false, hows...))
	}
	if seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(n, 0))
		for _, lists := range [][][]cell{moves, networks, offline} {
			for i, list := range lists {
				lists[i] = []cell{list[r.IntN(len(list))]}
			}
		}
		for _, lists := range []*[][]cell{&networks, &offline} {
			r.Shuffle(len(*lists), func(i, j int) { (*lists)[i], (*lists)[j] = (*lists)[j], (*lists)[i] })
			*lists = (*lists)[:2]
		}
	}
	only, err := regexp.Compile(os.Getenv("LANDLORD_MATRIX_ONLY")) // to repeat one that has failed
	require.NoError(t, err)
	all := map[string][]cell{}
	for _, c := range slices.Concat(slices.Concat(moves, networks, offline)...) {
		if only.MatchString(c.group() + "/" + c.String()) {
			all[c.group()] = append(all[c.group()], c)
		}
	}
	return all
}
