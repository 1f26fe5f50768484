//go:build landlord_faults

package matrix_test

import (
	"fmt"
	"math/rand/v2"
	"os"
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

// cell is one failure of a move.
type cell struct {
	transition
	goal  move.Goal // to be reached all the same
	point string
	how   string // kill, error or hang
}

func (c cell) String() string { return fmt.Sprintf("%s, %s at %s", c.goal, c.how, c.point) }

// goals are those of the moves that come by a point. A way back that is lost, which no cell makes happen, has points of its own.
func goals(point string) []move.Goal {
	switch {
	case strings.HasPrefix(point, "drop-reverse-"):
		return nil
	case strings.Contains(point, "rolling-back"), strings.Contains(point, "revert"), strings.HasPrefix(point, "reverse-opened"), strings.HasPrefix(point, "reverse-routed"):
		return []move.Goal{move.ToReverted}
	case strings.Contains(point, "abort"):
		return []move.Goal{move.ToAborted}
	case strings.HasPrefix(point, "clean-"):
		return []move.Goal{move.ToDone, move.ToReverted, move.ToAborted}
	case strings.HasPrefix(point, "cutover-"):
		return []move.Goal{move.ToDone, move.ToReverted}
	}
	return []move.Goal{move.ToDone}
}

// cells are all of the matrix, or with LANDLORD_MATRIX_SEED a sample that the seed chooses: a cell of each transition.
func cells(t *testing.T) map[transition][]cell {
	t.Helper()
	all := map[transition][]cell{}
	for _, tr := range transitions() {
		for _, point := range move.FaultPoints() {
			for _, goal := range goals(point) {
				for _, how := range []string{"kill", "error", "hang"} {
					all[tr] = append(all[tr], cell{tr, goal, point, how})
				}
			}
		}
	}
	if seed := os.Getenv("LANDLORD_MATRIX_SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(n, 0))
		for _, tr := range transitions() {
			r.Shuffle(len(all[tr]), func(i, j int) { all[tr][i], all[tr][j] = all[tr][j], all[tr][i] })
			all[tr] = all[tr][:1]
		}
	}
	if only := os.Getenv("LANDLORD_MATRIX_ONLY"); only != "" { // to repeat one that has failed
		for tr, list := range all {
			var kept []cell
			for _, c := range list {
				if strings.Contains(tr.String()+"/"+c.String(), only) {
					kept = append(kept, c)
				}
			}
			all[tr] = kept
		}
	}
	return all
}
