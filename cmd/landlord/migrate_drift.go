package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/tenant"
)

// driftView is what `migrate drift` prints.
type driftView struct {
	Targets int                 `json:"targets"` // homes that were to be looked at
	States  map[drift.State]int `json:"states"`
	Homes   []driftHomeView     `json:"homes"` // those that are not in sync
}

type driftHomeView struct {
	Home        string                   `json:"home"`
	Tenant      string                   `json:"tenant"` // slug; empty: a shared home
	State       drift.State              `json:"state"`
	Version     int64                    `json:"version"` // the last that is applied there
	Reason      string                   `json:"reason,omitempty"`
	Differences []fingerprint.Difference `json:"differences"`
}

func newMigrateDriftCmd(a *app) *cobra.Command {
	var dir string
	var slugs []string
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Find the homes that are not what the migrations make of them",
		Long: `Find the homes that are not what the migrations make of them, and name every object that differs.

What a home should be is built from the same files, in schema landlord_drift of each cluster's shared database, and
dropped again. Homes are only read.

States: in-sync, behind (as the files make it, at an earlier version), ahead (it has versions that the files do not
know), drifted, unknown (it could not be looked at).

Exit status: 0 nothing drifted, 4 some home has drifted or is ahead, 3 some home could not be looked at.`,
		Example: `  landlord migrate drift
  landlord migrate drift --tenant acme --json | jq '.homes[].differences[] | {change, kind, object}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.migrateDrift(cmd.Context(), dir, slugs)
		},
	}
	runDirFlag(cmd, &dir)
	cmd.Flags().StringArrayVar(&slugs, "tenant", nil, "`slug` of a tenant whose home to look at; may be repeated (default: all homes)")
	return cmd
}

func (a *app) migrateDrift(ctx context.Context, dir string, names []string) error {
	slugs := make([]tenant.Slug, len(names))
	for i, name := range names {
		slug, err := tenant.ParseSlug(name)
		if err != nil {
			return usageError("%w", err)
		}
		slugs[i] = slug
	}
	dir, err := a.lastRunDir(ctx, dir)
	if err != nil {
		return err
	}
	folder, err := a.migrationsDir(dir)
	if err != nil {
		return err
	}
	set, err := migrate.Load(os.DirFS(folder))
	if err != nil {
		return err
	}
	catalog, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	defer catalog.Close()
	targets, err := drift.Targets(ctx, catalog, slugs...)
	if err != nil {
		return err
	}
	results, err := drift.Check(ctx, drift.Config{Catalog: catalog, Set: set, Progress: a.progress}, targets)
	if err != nil {
		return err
	}
	out := viewDrift(results)
	if err := a.show(out, out.write); err != nil {
		return err
	}
	switch {
	case out.States[drift.Drifted]+out.States[drift.Ahead] > 0:
		return &statusError{status: exitFindings}
	case out.States[drift.Unknown] > 0:
		return partly(fmt.Errorf("%s could not be looked at: see the reasons, and run this again", number(out.States[drift.Unknown], "home")))
	}
	return nil
}

func viewDrift(results []drift.Result) driftView {
	out := driftView{Targets: len(results), States: map[drift.State]int{}, Homes: []driftHomeView{}}
	for _, r := range results {
		out.States[r.State]++
		if r.State == drift.InSync {
			continue
		}
		home := driftHomeView{r.Home.String(), string(r.Slug), r.State, r.Version, r.Reason, []fingerprint.Difference{}}
		home.Differences = append(home.Differences, r.Differences...)
		out.Homes = append(out.Homes, home)
	}
	return out
}

func (v driftView) write(w io.Writer) {
	for _, h := range v.Homes {
		whose := "shared"
		if h.Tenant != "" {
			whose = "tenant " + h.Tenant
		}
		state := string(h.State)
		if h.State != drift.Unknown {
			state += fmt.Sprintf(" at version %d", h.Version)
		}
		if h.Reason != "" {
			state += ": " + h.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", h.Home, whose, state)
		for _, d := range h.Differences {
			fmt.Fprintf(w, "  %s\n", strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Change, d.Kind, d.Object)))
		}
	}
	var counts []string
	for _, s := range []drift.State{drift.InSync, drift.Behind, drift.Ahead, drift.Drifted, drift.Unknown} {
		if n := v.States[s]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	fmt.Fprintf(w, "%s: %s\n", number(v.Targets, "home"), strings.Join(counts, ", "))
}
