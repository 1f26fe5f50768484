package main

import (
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateResumeCmd(a *app) *cobra.Command {
	var args migrateRun
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Go on with a run that was interrupted, paused or halted",
		Long: `Go on with the last run where it stopped, whatever stopped it. What another process still holds is waited for: its
lease ends some seconds after its last sign of life. Where nothing is left to do, nothing is done. A run that was
asked for and interrupted before it began, while its files were rehearsed, is begun, with the flags of its
'landlord migrate up'.

A run keeps its soak time until --soak says another one. Its health command is stored nowhere: give it again, or
go on without it from now on by --health none. After a health check that failed, it is asked again.`,
		Example: `  landlord migrate resume
  landlord migrate resume --wave 2
  landlord migrate resume --soak 0 --health none`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := args.options()
			switch {
			case err != nil:
				return err
			case args.dryRun:
				return a.lastRunOnly(cmd.Context())
			}
			asked, waiting, err := a.askedRun(cmd.Context(), args)
			switch {
			case err != nil:
				return err
			case waiting:
				a.progress("the run had not begun: beginning it, of %s", asked.dir)
				return a.migrateUp(cmd.Context(), asked)
			}
			return a.withLastRun(cmd.Context(), args.dir, func(f *fleet.Fleet, _ *placement.Catalog) error {
				s, err := f.Resume(cmd.Context(), o)
				return a.showRun(cmd.Context(), s, err)
			})
		},
	}
	runDirFlag(cmd, &args.dir)
	cmd.Flags().IntVar(&args.wave, "wave", 0, "pause after the wave of this `number`")
	args.betweenFlags(cmd)
	a.backfillFlags(cmd)
	cmd.Flags().BoolVar(&args.dryRun, "dry-run", false, "only show the run that would be gone on with")
	return cmd
}
