package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// migrateRun are the flags of the commands that work on a run.
type migrateRun struct {
	dir        string
	first      []string
	wave       int
	dryRun     bool
	expandOnly bool
	soak       *time.Duration // nil: not said
	health     string
	preflightFlags
}

func (args *migrateRun) options() (fleet.Options, error) {
	if args.wave < 0 {
		return fleet.Options{}, usageError("--wave is the number of a wave, from 1")
	}
	o := fleet.Options{First: args.first, StopAfter: args.wave, ExpandOnly: args.expandOnly, AllowDrift: args.allowDrift}
	return o, args.between(&o)
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "`folder` of the migrations (default the configuration's)")
}

func newMigrateUpCmd(a *app) *cobra.Command {
	var args migrateRun
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring all homes to the version of the migrations",
		Long: `Bring all homes to the version of the migrations, in waves: homes of every kind a few at first, then more. A home
that fails keeps no other from being migrated; too many that fail halt the run.

Before anything is touched, what is pending is rehearsed in a scratch database on each cluster and read by the
linter. A file that fails there, or that the linter finds an error in which it does not waive, begins no run. Homes
that have drifted are left as they are, and stand in the run as failed.

It can be stopped at any moment, also while it rehearses: 'landlord migrate resume' goes on. Started again, or on another machine, while a
run of the same files is at work, it helps.

Files of the phase contract run in a run of their own, once every home has all before them and no instance of the
application is alive that is written for an older version. What they wait for is shown, and is no failure.

Exit status 3 says that not all homes are done: failures are listed, grouped by SQLSTATE.`,
		Example: `  landlord migrate up
  landlord migrate up --dry-run
  landlord migrate up --tenant acme --wave 1   # acme first, and then a look at it
  landlord migrate up --soak 10m --health 'curl -fsS https://app.example.com/healthz'
  landlord migrate up --json | jq '.failures'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migrateUp(cmd.Context(), args) },
	}
	dirFlag(cmd, &args.dir)
	cmd.Flags().StringArrayVar(&args.first, "tenant", nil, "`slug` of a tenant that is to be in the first wave (can be repeated)")
	args.register(cmd)
	cmd.Flags().BoolVar(&args.allowErrors, "allow-lint-errors", false, "begin although the linter finds errors in what is pending")
	cmd.Flags().BoolVar(&args.allowDrift, "allow-drift", false, "migrate homes that have drifted, or cannot be looked at, too")
	cmd.Flags().IntVar(&args.wave, "wave", 0, "pause after the wave of this `number`")
	cmd.Flags().BoolVar(&args.expandOnly, "expand-only", false, "do not begin with files of the phase contract")
	args.betweenFlags(cmd)
	a.backfillFlags(cmd)
	cmd.Flags().BoolVar(&args.dryRun, "dry-run", false, "only show what would be done, as 'landlord migrate plan' does")
	return cmd
}

func (a *app) migrateUp(ctx context.Context, args migrateRun) error {
	o, err := args.options()
	if err != nil {
		return err
	}
	if args.dryRun {
		return a.migratePlan(ctx, args)
	}
	return a.withFleet(ctx, args.dir, true, func(f *fleet.Fleet, catalog *placement.Catalog) error {
		if err := a.mayBegin(ctx, f, catalog, args, o); err != nil {
			return errors.Join(err, forgetAsked(ctx, catalog))
		}
		s, err := f.Up(ctx, o)
		return errors.Join(a.showRun(ctx, s, err), forgetAsked(ctx, catalog))
	})
}
