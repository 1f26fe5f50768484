package main

import (
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateReconcileCmd(a *app) *cobra.Command {
	var args migrateRun
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Make the catalog's ledger agree with what the homes have",
		Long: `Look at all homes and make the ledger of the last run agree with them, as after the catalog was restored from a backup.
Where homes are behind and there is no run of these files, one is made, paused: 'landlord migrate resume' begins it.
No home is changed.`,
		Example: `  landlord migrate reconcile
  landlord migrate reconcile && landlord migrate resume`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if args.dryRun {
				return a.migratePlan(ctx, args)
			}
			return a.withLastRun(ctx, args.dir, func(f *fleet.Fleet, _ *placement.Catalog) error {
				changed, s, err := f.Reconcile(ctx)
				if err != nil {
					return err
				}
				a.progress("%d entries of the ledger were changed", changed)
				return a.show(viewRun(s), viewRun(s).write)
			})
		},
	}
	runDirFlag(cmd, &args.dir)
	cmd.Flags().BoolVar(&args.dryRun, "dry-run", false, "only show what the homes have, as 'landlord migrate plan' does")
	return cmd
}
