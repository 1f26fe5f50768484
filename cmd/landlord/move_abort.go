package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newMoveAbortCmd(a *app) *cobra.Command {
	var wait, forget bool
	var confirm string
	cmd := moveCommand(a, "abort", "Give up a move before its cutover", func(ctx context.Context, m *mover, mv placement.Move) error {
		if forget && confirm != string(mv.Slug) {
			return usageError("what the move has made on the server of %s stays there, if that comes back; if that is what you want, type:\n"+
				"  landlord move abort %s --forget-unreachable --confirm %[2]s", mv.Target, mv.Slug)
		}
		if forget {
			after, err := m.alone(ctx, func() (placement.Move, error) { return m.move.Forget(ctx, mv.ID) })
			if err != nil {
				return err
			}
			m.progress("'landlord doctor' reports what may be left at cluster %s", mv.Target.Home.Cluster)
			return m.showMove(after)
		}
		return m.reach(ctx, mv, goalAbort, wait)
	})
	cmd.Long = `Give up a move before its cutover. The tenant stays where it is and notices nothing; the new home and everything else
that the move has made is taken away. After the cutover it is 'landlord move rollback'.

A process that drives the move is asked to do it, and --wait waits until it has. Else this process does it.

--forget-unreachable is for a new home whose server is gone for good, which else would keep the move from ever being
over. What may be left there stays on record, and 'landlord doctor' reports it.`
	cmd.Example = "  landlord move abort acme --wait"
	flags := cmd.Flags()
	flags.BoolVar(&wait, "wait", false, "wait for it where another process does it")
	flags.BoolVar(&forget, "forget-unreachable", false, "leave what was made on the target's server, which is gone for good")
	flags.StringVar(&confirm, "confirm", "", "with --forget-unreachable, the tenant's `slug` once more")
	return cmd
}
