package main

import (
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigratePauseCmd(a *app) *cobra.Command {
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Let the run that is at work stop, in all its processes",
		Long: `Let the run that is at work stop: each process ends the targets that it has, takes up no more and ends with exit
status 3. 'landlord migrate resume' goes on.`,
		Example: `  landlord migrate pause --reason 'incident 471'`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dryRun {
				return a.lastRunOnly(cmd.Context())
			}
			return a.withFleet(cmd.Context(), "", false, func(f *fleet.Fleet, _ *placement.Catalog) error {
				s, err := f.Pause(cmd.Context(), reason)
				if err != nil {
					return err
				}
				return a.show(viewRun(s), viewRun(s).write)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who come later")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the run that would be paused")
	return cmd
}
