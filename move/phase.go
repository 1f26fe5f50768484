package move

import (
	"fmt"
	"slices"

	"github.com/landlord-go/landlord/placement"
)

// Phase is how far a move has come. The same words stand in the catalog, in the CLI's output and in metrics.
type Phase = placement.MovePhase

// The phases.
const (
	Planned     = placement.MovePlanned
	Preparing   = placement.MovePreparing
	Copying     = placement.MoveCopying
	Following   = placement.MoveFollowing
	Verified    = placement.MoveVerified
	Fencing     = placement.MoveFencing
	Committed   = placement.MoveCommitted
	Reversing   = placement.MoveReversing
	Completing  = placement.MoveCompleting
	Done        = placement.MoveDone
	Aborting    = placement.MoveAborting
	Aborted     = placement.MoveAborted
	RollingBack = placement.MoveRollingBack
	Reverting   = placement.MoveReverting
	Reverted    = placement.MoveReverted
)

// next is the whole state machine: a phase leads only to those listed. Every phase may be entered anew after a crash, by another
// process; what it does can be repeated.
var next = map[Phase][]Phase{
	Planned:     {Preparing, Aborting},
	Preparing:   {Copying, Aborting},
	Copying:     {Following, Preparing, Aborting},           // preparing: the slot is lost, and the copy starts again
	Following:   {Verified, Preparing, Aborting},            // the same
	Verified:    {Fencing, Following, Preparing, Aborting},  // following: the process that held both in step has died
	Fencing:     {Committed, Verified, Preparing, Aborting}, // verified: the attempt was undone
	Committed:   {Reversing},
	Reversing:   {RollingBack, Completing},
	RollingBack: {Reverting, Reversing}, // reversing: the attempt was undone
	Completing:  {Done},
	Aborting:    {Aborted},
	Reverting:   {Reverted},
}

// Next returns what may follow a phase. Nothing follows where a move is over.
func Next(p Phase) []Phase { return slices.Clone(next[p]) }

// checkStep keeps a mistake in a phase's work from reaching the catalog.
func checkStep(from, to Phase) error {
	if from == to || slices.Contains(next[from], to) {
		return nil
	}
	return fmt.Errorf("a move does not go from %s to %s", from, to)
}

// Goal is where a driver stops.
type Goal string

// The goals. A move that ends elsewhere ends the driving too, with an error.
const (
	Ready       Goal = "ready"     // verified: it can be cut over
	ToReversing Goal = "reversing" // cut over; the tenant lives at the target
	ToDone      Goal = "done"
	ToAborted   Goal = "aborted"
	ToReverted  Goal = "reverted"
	Stay        Goal = "stay" // over, however; until then both homes are kept in step, and what is asked for is done
)

// reached lists the phases in which a goal is reached.
var reached = map[Goal][]Phase{
	Ready:       {Verified, Reversing},
	ToReversing: {Reversing},
	ToDone:      {Done},
	ToAborted:   {Aborted},
	ToReverted:  {Reverted},
}

// wish is what a goal asks for by itself, whatever the catalog says.
var wish = map[Goal]placement.MoveAsk{
	ToReversing: placement.AskCutover,
	ToDone:      placement.AskComplete,
	ToAborted:   placement.AskAbort,
	ToReverted:  placement.AskRollback,
}
