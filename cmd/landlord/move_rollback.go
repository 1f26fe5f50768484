package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newMoveRollbackCmd(a *app) *cobra.Command {
	var wait bool
	var longest func(context.Context, *mover, placement.Move) error
	cmd := moveCommand(a, "rollback", "Take a tenant back to its old home, with what it has written since", func(ctx context.Context, m *mover, mv placement.Move) error {
		if err := longest(ctx, m, mv); err != nil {
			return err
		}
		return m.reach(ctx, mv, goalRollback, wait)
	})
	cmd.Long = `Take a tenant that was cut over back to its old home, as it was brought to the new one: its writers wait for a moment,
and everything that it has written since is there. Then the new home is taken away. It is possible until the move is
completed, unless 'landlord move status' says why there is no way back.

A process that drives the move is asked to do it, and --wait waits until it has. Else this process does it.`
	cmd.Example = "  landlord move rollback acme --wait"
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for it where another process does it")
	longest = maxPauseFlag(cmd)
	return cmd
}
