package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateSkipCmd(a *app) *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "skip TENANT|HOME",
		Short: "Leave a home out of the last run, for a reason",
		Long: `Leave a home out of the last run, which then ends without it. The home stays behind, and the next run takes it up
again. HOME is cluster/database/schema, as 'landlord migrate status' shows it.`,
		Example: `  landlord migrate skip acme --reason 'two customers with one address, they clean up by Friday'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if strings.TrimSpace(reason) == "" {
				return usageError("say why with --reason")
			}
			ctx := cmd.Context()
			return a.withFleet(ctx, "", false, func(f *fleet.Fleet, catalog *placement.Catalog) error {
				home, err := homeOf(ctx, catalog, names[0])
				if err != nil {
					return err
				}
				if dryRun {
					a.progress("%s would be left out of the last run", home)
					return nil
				}
				s, err := f.Skip(ctx, home, reason)
				if err != nil {
					return err
				}
				if err := a.show(viewRun(s), viewRun(s).write); err != nil {
					return fmt.Errorf("%s is left out: %w", home, err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who come later")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show which home would be left out")
	return cmd
}
