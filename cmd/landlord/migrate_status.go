package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateStatusCmd(a *app) *cobra.Command {
	var failures bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far the last run is, and what failed",
		Long: `Show how far the last run is, what failed, grouped by SQLSTATE, and what files of the phase contract wait for. It asks
the catalog only: 'landlord migrate plan' asks the homes. With --failures, all homes that failed are named, with what leads on
from there. With --json it lists each target too, with the version that it has; homes that are not verified are asked for it.
Exit status 3 says that the run is not over, or that not all homes are done.`,
		Example: `  landlord migrate status
  landlord migrate status --failures
  landlord migrate status --json | jq -r '.failures[] | .homes[]'
  landlord migrate status --json | jq -e '[.targets[].version] | unique | length == 1'   # all have the same`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write := runView.write
			if failures {
				write = runView.writeFailures
			}
			return a.migrateStatus(cmd.Context(), write, func(s fleet.Status) error {
				if s.Whole() {
					return nil
				}
				return &statusError{status: exitPartly}
			})
		},
	}
	cmd.Flags().BoolVar(&failures, "failures", false, "only list what failed, all of it (--json always does)")
	return cmd
}

// migrateStatus prints how far the last run is, and ends as end finds.
func (a *app) migrateStatus(ctx context.Context, write func(runView, io.Writer), end func(fleet.Status) error) error {
	return a.withFleet(ctx, "", a.filesAtHand(), func(f *fleet.Fleet, catalog *placement.Catalog) error {
		s, err := f.Status(ctx)
		if err != nil {
			return err
		}
		v := statusView{runView: viewRun(s)}
		if a.json {
			if v, err = viewStatus(ctx, f, catalog, s); err != nil {
				return err
			}
		}
		if err := a.show(v, func(w io.Writer) { write(v.runView, w) }); err != nil {
			return err
		}
		return end(s)
	})
}

// lastRunOnly is a dry run of what works on the last run: it shows that.
func (a *app) lastRunOnly(ctx context.Context) error {
	return a.migrateStatus(ctx, runView.write, func(fleet.Status) error { return nil })
}
