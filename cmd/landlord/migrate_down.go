package main

import (
	"bufio"
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// migrateDown are the flags of `migrate down`.
type migrateDown struct {
	migrateRun
	to  int64
	yes bool
}

func newMigrateDownCmd(a *app) *cobra.Command {
	var args migrateDown
	cmd := &cobra.Command{
		Use:   "down --to VERSION",
		Short: "Undo the last expand steps in all homes",
		Long: `Bring all homes that are above a version down to it, by the Down sections of the files, in waves like those of
'landlord migrate up'. What a Down section drops is gone, with the rows in it.

Only files of the phase expand that have a Down section can be undone; where a home has another one above the
version, nothing is undone anywhere. So it is while instances of the application need a version above it. Version 0
is that of an empty home. The plan is shown first, and begins when the version is typed once more, or with --yes.

It can be stopped at any moment: 'landlord migrate resume' goes on. 'landlord migrate up' brings the homes up again,
and so does whoever adds a tenant: take files that are not to come back out of the folder.`,
		Example: `  landlord migrate down --to 41 --dry-run
  landlord migrate down --to 41
  landlord migrate down --to 41 --yes --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case args.to < 0:
				return usageError("--to is the version of a file, or 0")
			case a.json && !args.yes && !args.dryRun:
				return usageError("with --json nobody is asked: look at it with --dry-run, then give --yes")
			}
			return a.migrateDown(cmd.Context(), args)
		},
	}
	dirFlag(cmd, &args.dir)
	flags := cmd.Flags()
	flags.Int64Var(&args.to, "to", 0, "`version` that homes are to have then")
	_ = cmd.MarkFlagRequired("to") // fails only for a flag that does not exist
	flags.StringArrayVar(&args.first, "tenant", nil, "`slug` of a tenant that is to be in the first wave (can be repeated)")
	flags.IntVar(&args.wave, "wave", 0, "pause after the wave of this `number`")
	flags.BoolVar(&args.yes, "yes", false, "do not ask")
	flags.BoolVar(&args.dryRun, "dry-run", false, "only show what would be undone")
	return cmd
}

func (a *app) migrateDown(ctx context.Context, args migrateDown) error {
	o, err := args.options()
	if err != nil {
		return err
	}
	return a.withFleet(ctx, args.dir, true, func(f *fleet.Fleet, _ *placement.Catalog) error {
		plan, err := f.PlanDown(ctx, args.to, o)
		if err != nil {
			return err
		}
		v := viewPlan(plan)
		v.Down = &args.to
		if args.dryRun || len(plan.Targets) == 0 {
			return a.show(v, v.write)
		}
		if !args.yes {
			v.write(a.stderr)
			if err := a.confirm(ctx, args.to); err != nil {
				return err
			}
		}
		s, err := f.Down(ctx, args.to, o)
		return a.showRun(ctx, s, err)
	})
}

// confirm asks for the version once more.
func (a *app) confirm(ctx context.Context, version int64) error {
	a.progress("What is dropped is gone, with the rows in it. Type %d to begin:", version)
	answer := make(chan string, 1)
	go func() { // a terminal cannot be told to stop waiting; the process ends soon
		line, _ := bufio.NewReader(a.stdin).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case typed := <-answer:
		if typed == strconv.FormatInt(version, 10) {
			return nil
		}
	}
	return usageError("nothing was undone: type the version when asked, or give --yes")
}
