package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

func newMoveVerifyCmd(a *app) *cobra.Command {
	cmd := moveCommand(a, "verify", "Compare both homes of a tenant, and end once they are equal", func(ctx context.Context, m *mover, mv placement.Move) error {
		if mv.CommittedAt != nil || mv.Over() {
			return fmt.Errorf("the move of tenant %s is %s: the homes are compared before the cutover", mv.Slug, mv.Phase)
		}
		if mv.Offline {
			return fmt.Errorf("the move of tenant %s is an offline one: its homes are compared while it is cut over", mv.Slug)
		}
		after, err := m.drive(ctx, mv.ID, move.Ready)
		if err := endOfMove(after, err); err != nil {
			return err
		}
		return m.showMove(after)
	})
	cmd.Long = `Bring a move as far as it can be cut over, and end: what is missing is copied and applied, and then every table of
both homes is compared, row by row, generated columns too, while the tenant goes on writing. Homes that differ end the
move. A process that drives the move does all this by itself.`
	cmd.Example = "  landlord move verify acme"
	return cmd
}
