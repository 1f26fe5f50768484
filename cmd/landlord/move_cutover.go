package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newMoveCutoverCmd(a *app) *cobra.Command {
	var wait bool
	var at window
	var longest func(context.Context, *mover, placement.Move) error
	cmd := moveCommand(a, "cutover", "Let a tenant go on at its new home", func(ctx context.Context, m *mover, mv placement.Move) error {
		if err := longest(ctx, m, mv); err != nil {
			return err
		}
		if !at.set || mv.CommittedAt != nil || mv.Over() {
			return m.reach(ctx, mv, goalCutover, wait)
		}
		after, err := m.inWindow(ctx, mv, at, true)
		if err := endOfMove(after, err); err != nil {
			return err
		}
		return m.reach(ctx, after, goalCutover, true) // nothing is left to do, unless the process that was asked has gone
	})
	cmd.Long = `Cut a tenant over to its new home: its writers wait for a moment, reads go on, and no call fails. When the wait would
become longer than --max-pause, everything is as before, and it is tried again. From then on the old home
is kept in step, and 'landlord move rollback' goes back to it.

A process that drives the move is asked to do it, and --wait waits until it has. Else this process does it, and ends
once it is done. --at waits for a time of the day first, and keeps both homes in step until then. It bounds when
the cutover begins to be tried, not how long.`
	cmd.Example = `  landlord move cutover acme --wait
  landlord move cutover acme --at 22:00-04:00`
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for it where another process does it")
	cmd.Flags().Var(&at, "at", "time `window` of the day, such as 22:00-04:00, in which to begin")
	longest = maxPauseFlag(cmd)
	return cmd
}
