package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

func newMoveResumeCmd(a *app) *cobra.Command {
	var wait bool
	var maxRate byteSize
	var cmd *cobra.Command
	cmd = moveCommand(a, "resume", "Go on with a move whose process has gone", func(ctx context.Context, m *mover, mv placement.Move) error {
		if mv.Over() {
			m.progress("the move is over; there is nothing to go on with")
			return m.showMove(mv)
		}
		if cmd.Flags().Changed("max-rate") {
			if maxRate.tooSlow() {
				return usageError(tooSlow)
			}
			if _, err := m.house.catalog.SetMaxRate(ctx, mv.ID, int64(maxRate)); err != nil {
				return err
			}
		}
		goal := move.Stay
		switch {
		case wait && (mv.Auto || mv.Asked == placement.AskCutover) && mv.CommittedAt == nil:
			goal = move.ToReversing
		case wait:
			goal = move.Ready
		}
		m.screen.hints = !wait
		after, err := m.drive(ctx, mv.ID, goal)
		if err := endOfMove(after, err); err != nil {
			return err
		}
		return m.showMove(after)
	})
	cmd.Long = `Go on with a move whose process has ended, in whatever way and at whatever moment, from where it was. What was asked for
meanwhile is done. The claim of a process that was killed runs out within ten seconds; one that is alive keeps the
move. Like 'landlord move start' it stays at work until the move is over, or with --wait until it waits for a person.

--max-rate changes how fast what is left is copied; 0 is as fast as it can.`
	cmd.Example = `  landlord move resume acme
  landlord move resume acme --wait --json | jq -r .state`
	cmd.Flags().BoolVar(&wait, "wait", false, "end as soon as the move waits for a person")
	maxRateFlag(cmd.Flags(), &maxRate)
	return cmd
}
