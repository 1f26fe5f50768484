package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// migrateBaseline are the flags of `migrate baseline`.
type migrateBaseline struct {
	dir, table string
	tenants    []string
	dryRun     bool
}

func newMigrateBaselineCmd(a *app) *cobra.Command {
	var args migrateBaseline
	cmd := &cobra.Command{
		Use:   "baseline",
		Short: "Take over homes that goose has migrated so far",
		Long: `Take over the homes of the catalog in which goose has a table of versions and landlord has none: what goose has
applied is recorded with the checksums of the files, and the tables are given to landlord's owner and secured, in one
transaction for each home. From then on 'landlord migrate up' migrates them. Goose's own table stays.

A home with a version that the files do not know, with a hole, or with tables that the operator's login may not give
away is left as it was, and keeps no other from being taken over. Run again, it does what is left.

Exit status 3 says that some homes could not be taken over.`,
		Example: `  landlord migrate baseline --dry-run
  landlord migrate baseline
  landlord migrate baseline --table schema_versions --tenant acme --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migrateBaseline(cmd.Context(), args) },
	}
	dirFlag(cmd, &args.dir)
	cmd.Flags().StringVar(&args.table, "table", migrate.GooseTable, "`name` of goose's table, in the schema of each home")
	cmd.Flags().StringArrayVar(&args.tenants, "tenant", nil, "`slug` of a tenant whose home to take over; may be repeated (default: all homes)")
	cmd.Flags().BoolVar(&args.dryRun, "dry-run", false, "only show what would be recorded")
	return cmd
}

// baselineView is what `migrate baseline` prints.
type baselineView struct {
	Homes  []baselineHomeView            `json:"homes"`
	States map[migrate.TakeoverState]int `json:"states"`
	Failed int                           `json:"failed"`
	DryRun bool                          `json:"dry_run,omitempty"`
}

type baselineHomeView struct {
	Home  string                `json:"home"`
	State migrate.TakeoverState `json:"state"` // empty: it failed
	Files []string              `json:"files"`
	Error string                `json:"error,omitempty"`
}

func (a *app) migrateBaseline(ctx context.Context, args migrateBaseline) error {
	return a.withFleet(ctx, args.dir, true, func(f *fleet.Fleet, _ *placement.Catalog) error {
		results, err := f.Baseline(ctx, fleet.BaselineOptions{Table: args.table, Tenants: args.tenants, DryRun: args.dryRun})
		v := baselineView{Homes: []baselineHomeView{}, States: map[migrate.TakeoverState]int{}, DryRun: args.dryRun}
		for _, r := range results {
			home := baselineHomeView{Home: r.Home.String(), State: r.State, Files: []string{}}
			home.Files = append(home.Files, r.Files...)
			if r.Err != nil {
				home.Error = oneLine(r.Err.Error())
				v.Failed++
			} else {
				v.States[r.State]++
			}
			v.Homes = append(v.Homes, home)
		}
		if err != nil {
			return err
		}
		if err := a.show(v, v.write); err != nil {
			return err
		}
		if v.Failed > 0 {
			return partly(fmt.Errorf("%s could not be taken over, and all else is done: put right what stands in the way, and run this again", number(v.Failed, "home")))
		}
		return nil
	})
}

func (v baselineView) write(w io.Writer) {
	taken := "taken over"
	if v.DryRun {
		taken = "would be taken over"
	}
	for _, h := range v.Homes {
		switch {
		case h.Error != "":
			fmt.Fprintf(w, "%s: %s\n", h.Home, h.Error)
		case h.State == migrate.Taken:
			fmt.Fprintf(w, "%s: %s with %s\n", h.Home, taken, number(len(h.Files), "file"))
		}
	}
	fmt.Fprintf(w, "%s %s, %d with versions already, %d without a table of goose's, %d failed\n",
		number(v.States[migrate.Taken], "home"), taken, v.States[migrate.Versioned], v.States[migrate.Untouched], v.Failed)
}
