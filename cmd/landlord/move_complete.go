package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newMoveCompleteCmd(a *app) *cobra.Command {
	var wait, yes bool
	var confirm string
	cmd := moveCommand(a, "complete", "End a move: take the old home away", func(ctx context.Context, m *mover, mv placement.Move) error {
		if mv.CommittedAt == nil && !mv.Over() {
			return fmt.Errorf("the move of tenant %s is %s, and the tenant has not been cut over: 'landlord move cutover %[1]s' does that; complete the move then",
				mv.Slug, mv.Phase)
		}
		if !yes && confirm != string(mv.Slug) && !slices.Contains(goalComplete.reached, mv.Phase) {
			return usageError("this destroys what tenant %s has left at %s, and there is no way back there afterwards; if that is what you want, type:\n"+
				"  landlord move complete %[1]s --confirm %[1]s", mv.Slug, mv.Source)
		}
		return m.reach(ctx, mv, goalComplete, wait)
	})
	cmd.Long = `End a move that was cut over: the tenant's rows at the old home are deleted, or its schema or database is dropped,
and with them the way back. Whoever still reads there is waited for. A tenant that has not been cut over is left alone.

A process that drives the move is asked to do it, and --wait waits until it has. Else this process does it.`
	cmd.Example = `  landlord move complete acme --confirm acme --wait`
	flags := cmd.Flags()
	flags.StringVar(&confirm, "confirm", "", "the tenant's `slug` once more")
	flags.BoolVar(&yes, "yes", false, "instead of --confirm, for scripts")
	flags.BoolVar(&wait, "wait", false, "wait for it where another process does it")
	return cmd
}
