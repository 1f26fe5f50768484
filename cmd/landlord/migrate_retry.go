package main

import (
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateRetryCmd(a *app) *cobra.Command {
	var args migrateRun
	cmd := &cobra.Command{
		Use:   "retry [TENANT|HOME]",
		Short: "Try again what failed in the last run",
		Long: `Try again what failed in the last run, all of it or one home, and go on with the run. HOME is cluster/database/schema,
as 'landlord migrate status' shows it. As with 'landlord migrate resume', a run that asks a health command wants it again.`,
		Example: `  landlord migrate retry
  landlord migrate retry acme`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			o, err := args.options()
			switch {
			case err != nil:
				return err
			case args.dryRun:
				return a.lastRunOnly(ctx)
			}
			return a.withLastRun(ctx, args.dir, func(f *fleet.Fleet, catalog *placement.Catalog) error {
				var home *placement.Home
				if len(names) > 0 {
					h, err := homeOf(ctx, catalog, names[0])
					if err != nil {
						return err
					}
					home = &h
				}
				s, err := f.Retry(ctx, home, o)
				return a.showRun(ctx, s, err)
			})
		},
	}
	runDirFlag(cmd, &args.dir)
	args.betweenFlags(cmd)
	a.backfillFlags(cmd)
	cmd.Flags().BoolVar(&args.dryRun, "dry-run", false, "only show the last run, and what failed in it")
	return cmd
}
