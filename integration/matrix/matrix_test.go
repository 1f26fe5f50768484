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

// eve is how far a move is driven before it fails.
var eve = map[move.Goal]move.Goal{move.ToAborted: move.Ready, move.ToReverted: move.ToReversing}

// closed lists the points at which a tenant that is moved online has no open home until somebody goes on.
var closed = []string{"cutover-open", "end-committed", "begin-committed", "end-reverting", "begin-reverting"}

func TestNothingIsLostWhereverAMoverFails(t *testing.T) {
	t.Parallel()
	var acked, reached atomic.Int64
	var points sync.Map // that were come by
	came := func(point string, offline bool) string { return fmt.Sprintf("%s, offline %v", point, offline) }
	t.Cleanup(func() { t.Logf("%d cells, %d acknowledged commits", reached.Load(), acked.Load()) })
	t.Run("transitions", func(t *testing.T) {
		for group, list := range cells(t) {
			t.Run(group, func(t *testing.T) {
				t.Parallel()
				h := newHouse(t)
				for i, c := range list {
					t.Run(c.String(), func(t *testing.T) {
						r := h.begin(t, fmt.Sprintf("cell-%d", i), c.transition, c.load(), c.options())
						if r.fail(c) {
							points.Store(came(c.point, c.offline), true)
							reached.Add(1)
						}
						r.working()
						got, found := r.invariants(end[c.goal])
						require.Empty(t, found, "\n"+strings.Join(found, "\n"))
						acked.Add(got.Acked)
						t.Logf("%d acknowledged commits, %.0f ms without any at most", got.Acked, got.LongestGapMS)
						r.leave()
					})
				}
			})
		}
	})
	if os.Getenv("LANDLORD_MATRIX_SEED")+os.Getenv("LANDLORD_MATRIX_ONLY") == "" {
		for _, point := range move.FaultPoints() {
			for _, offline := range []bool{false, true} {
				_, ok := points.Load(came(point, offline))
				require.True(t, ok || goals(point, offline) == nil, "no move comes by the fault point %s", came(point, offline))
			}
		}
	}
}

// offlinePause is how long an offline move may keep writers waiting. Whoever takes over from a mover that hangs does not wait as long.
const offlinePause = 2 * patience

func (c cell) options() (o placement.MoveOptions) {
	if c.offline {
		o.Offline, o.MaxPause = true, offlinePause
	}
	return o
}

// closed tells whether the tenant's writers wait at the point for as long as nobody goes on: it has no open home, or, of an offline
// move, none that is open to them.
func (c cell) closed() bool {
	return slices.Contains(closed, c.point) || c.offline && strings.HasPrefix(c.point, "cutover-") ||
		c.network() != "" && c.point == "cutover-commit"
}

// load is the tenant's work. It may take as long as the network is away only where the tenant is closed by that.
func (c cell) load() load.Config {
	cfg := load.Config{Writers: 4}
	if c.offline || c.network() != "" && c.closed() {
		cfg.Patience = longest
	}
	return cfg
}

// bring brings a move to where its cell begins: there is no other way to what comes after.
func (r *removal) bring(c cell) {
	r.t.Helper()
	if c.offline && c.goal == move.ToAborted { // it does not stop by itself before it cuts over
		require.Error(r.t, r.start(move.ToDone, "begin-fencing:error").wait())
		return
	}
	if first, ok := eve[c.goal]; ok {
		r.drive(first)
		r.working()
	}
}

// fail drives the move to its goal, with one failure on the way. It is false where the move does not come by the point.
func (r *removal) fail(c cell) bool {
	r.bring(c)
	how := c.how
	if c.network() != "" {
		how = "wait"
	}
	m := r.start(c.goal, c.point+":"+how)
	if !m.reached() {
		return false
	}
	switch how {
	case "wait":
		r.failNetwork(m, c)
		return true
	case "error":
		if m.wait() == nil { // tried again by itself
			return true
		}
	case "kill":
		require.Error(r.t, m.wait())
		r.expire()
	case "hang":
		if !c.closed() {
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
