//go:build landlord_faults

package matrix_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// end is the phase in which a goal is reached for good.
var end = map[move.Goal]placement.MovePhase{move.ToDone: move.Done, move.ToAborted: move.Aborted, move.ToReverted: move.Reverted}

// eve is how far a move is driven before it fails: there is no other way to what comes after.
var eve = map[move.Goal]move.Goal{move.ToAborted: move.Ready, move.ToReverted: move.ToReversing}

// closed lists the points at which the tenant has no open home until somebody goes on.
var closed = []string{"cutover-open", "end-committed", "begin-committed", "end-reverting", "begin-reverting"}

func TestNothingIsLostWhereverAMoverFails(t *testing.T) {
	t.Parallel()
	var acked, reached atomic.Int64
	var points sync.Map // that were come by
	t.Cleanup(func() { t.Logf("%d cells, %d acknowledged commits", reached.Load(), acked.Load()) })
	t.Run("transitions", func(t *testing.T) {
		for tr, list := range cells(t) {
			if len(list) == 0 {
				continue
			}
			t.Run(tr.String(), func(t *testing.T) {
				t.Parallel()
				h := newHouse(t)
				for i, c := range list {
					t.Run(c.String(), func(t *testing.T) {
						r := h.begin(t, fmt.Sprintf("cell-%d", i), tr, load.Config{Writers: 4})
						if r.fail(c) {
							points.Store(c.point, true)
							reached.Add(1)
						}
						r.working()
						got, found := r.invariants(end[c.goal])
						require.Empty(t, found, "\n"+strings.Join(found, "\n"))
						acked.Add(got.Acked)
						r.leave()
					})
				}
			})
		}
	})
	if os.Getenv("LANDLORD_MATRIX_SEED")+os.Getenv("LANDLORD_MATRIX_ONLY") == "" {
		for _, point := range move.FaultPoints() {
			_, ok := points.Load(point)
			require.True(t, ok || goals(point) == nil, "no move comes by the fault point %s", point)
		}
	}
}

// fail drives the move to its goal, with one failure on the way. It is false where the move does not come by the point.
func (r *removal) fail(c cell) bool {
	if first, ok := eve[c.goal]; ok {
		r.drive(first)
		r.working()
	}
	m := r.start(c.goal, c.point+":"+c.how)
	if !m.reached() {
		return false
	}
	switch c.how {
	case "error":
		if m.wait() == nil { // tried again by itself
			return true
		}
	case "kill":
		require.Error(r.t, m.wait())
		r.expire()
	case "hang":
		if !slices.Contains(closed, c.point) {
			r.working() // its fence falls with its time, if it has one
		}
		m.signal(syscall.SIGSTOP)
		r.expire()
		r.drive(c.goal)
		m.signal(syscall.SIGCONT)
		_ = m.wait() // it learns that the move is another's, or over
		return true
	}
	r.drive(c.goal)
	return true
}
