package main

import (
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateRetryCmd(a *app) *cobra.Command {
	var dir string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "retry [TENANT|HOME]",
		Short: "Try again what failed in the last run",
		Long: `Try again what failed in the last run, all of it or one home, and go on with the run. HOME is cluster/database/schema,
as 'landlord migrate status' shows it.`,
		Example: `  landlord migrate retry
  landlord migrate retry acme`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			if dryRun {
				return a.lastRunOnly(ctx)
			}
			return a.withLastRun(ctx, dir, func(f *fleet.Fleet, catalog *placement.Catalog) error {
				var home *placement.Home
				if len(names) > 0 {
					h, err := homeOf(ctx, catalog, names[0])
					if err != nil {
						return err
					}
					home = &h
				}
				s, err := f.Retry(ctx, home)
				return a.showRun(ctx, s, err)
			})
		},
	}
	runDirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the last run, and what failed in it")
	return cmd
}
