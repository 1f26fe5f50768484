package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigratePlanCmd(a *app) *cobra.Command {
	var args migrateRun
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what 'landlord migrate up' would do",
		Long: `Look at all homes, and show which lack which migrations and in which waves they would be brought up to date.
What is pending is rehearsed in a scratch database on each cluster and read by the linter, and how long a run takes is
estimated from that. Nothing is changed. Exit status 4 says that 'landlord migrate up' would not begin, 1 that it can
only fail.`,
		Example: `  landlord migrate plan
  landlord migrate plan --json | jq '.groups[] | select(.problem != "")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migratePlan(cmd.Context(), args) },
	}
	dirFlag(cmd, &args.dir)
	cmd.Flags().StringArrayVar(&args.first, "tenant", nil, "`slug` of a tenant that is to be in the first wave (can be repeated)")
	args.register(cmd)
	return cmd
}

// planView is a plan as it is printed.
type planView struct {
	UpToDate int         `json:"up_to_date"`
	Targets  int         `json:"targets"`
	Waves    []int       `json:"waves"`  // targets of each
	Canary   bool        `json:"canary"` // one failure in the first wave halts the run
	Groups   []groupView `json:"groups"`
	gateView
	Down *int64 `json:"down,omitempty"` // the version above which all is undone
	preflightView
}

type groupView struct {
	Scope   string   `json:"scope"`
	Count   int      `json:"count"`
	Files   []string `json:"files"`
	Problem string   `json:"problem,omitempty"`
	Blocked bool     `json:"blocked"` // nobody tries: they stand in the run as failed
	Example string   `json:"example"`
}

func (a *app) migratePlan(ctx context.Context, args migrateRun) error {
	o, err := args.options()
	if err != nil {
		return err
	}
	return a.withFleet(ctx, args.dir, true, func(f *fleet.Fleet, catalog *placement.Catalog) error {
		p, err := f.Plan(ctx, o)
		if err != nil {
			return err
		}
		ready, err := a.preflight(ctx, f, catalog, args, p)
		if err != nil {
			return err
		}
		v := viewPlan(p)
		v.preflightView = ready.view()
		if err := a.show(v, v.write); err != nil {
			return err
		}
		if err := p.Err(); err != nil {
			return fmt.Errorf("landlord migrate up can only fail: %w", err)
		}
		return ready.planned(args)
	})
}

func viewPlan(p fleet.Plan) planView {
	v := planView{UpToDate: p.UpToDate, Targets: len(p.Targets), Waves: make([]int, p.Waves), Canary: p.Canary, Groups: []groupView{}, gateView: viewGate(p.Gate)}
	if len(p.Targets) == 0 {
		v.Waves = []int{}
	}
	for _, t := range p.Targets {
		v.Waves[t.Wave-1]++
	}
	for _, g := range p.Groups {
		files := g.Files
		if files == nil {
			files = []string{}
		}
		v.Groups = append(v.Groups, groupView{string(g.Scope), g.Count, files, oneLine(g.Problem), g.Blocked, g.Example.String()})
	}
	return v
}

func (v planView) write(w io.Writer) {
	lack := "lack"
	if v.Down != nil {
		fmt.Fprintf(w, "%s not above version %d\n", are(v.UpToDate, "home"), *v.Down)
		lack = "would lose"
	} else {
		fmt.Fprintf(w, "%s up to date\n", are(v.UpToDate, "home"))
	}
	for _, g := range v.Groups {
		what := number(g.Count, map[string]string{"tenant": "home", "database": "database", "server": "server"}[g.Scope])
		if g.Problem != "" {
			act := "would be tried"
			if g.Blocked {
				act = "not to be migrated"
			}
			fmt.Fprintf(w, "%s, such as %s, %s: %s\n", what, g.Example, act, g.Problem)
			continue
		}
		if lack == "lack" && g.Count == 1 {
			fmt.Fprintf(w, "%s, %s, lacks %s\n", what, g.Example, strings.Join(g.Files, ", "))
			continue
		}
		fmt.Fprintf(w, "%s, such as %s, %s %s\n", what, g.Example, lack, strings.Join(g.Files, ", "))
	}
	for i, n := range v.Waves {
		fmt.Fprintf(w, "wave %d: %s\n", i+1, number(n, "target"))
	}
	v.gateView.write(w)
	v.preflightView.write(w)
}
