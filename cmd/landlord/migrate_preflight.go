package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/migrate/lint"
	"github.com/landlord-go/landlord/migrate/rehearsal"
	"github.com/landlord-go/landlord/placement"
)

// preflightFlags say what a run begins without.
type preflightFlags struct {
	noRehearsal bool
	allowErrors bool
	allowDrift  bool
}

func (args *preflightFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&args.noRehearsal, "no-rehearsal", false, "do not apply what is pending in a scratch database before")
}

// preflight is what is found out about a plan before a run of it begins.
type preflight struct {
	rehearsals []rehearsal.Result
	targets    int
	workers    int            // of this process, on each cluster
	findings   []lint.Finding // in what is pending
}

// mayBegin returns why a run must not begin, and tells people of the rest.
func (a *app) mayBegin(ctx context.Context, f *fleet.Fleet, catalog *placement.Catalog, args migrateRun, o fleet.Options) error {
	plan, err := f.Plan(ctx, o)
	if err != nil {
		return err
	}
	if len(plan.Targets) > 0 {
		if err := ask(ctx, f, catalog, args); err != nil {
			return err
		}
	}
	ready, err := a.preflight(ctx, f, catalog, args, plan)
	if err != nil {
		return err
	}
	for _, line := range ready.remarks() {
		a.progress("%s", line)
	}
	if why := ready.refusal(args); why != nil {
		return fmt.Errorf("migrate up: nothing was touched: %w", why)
	}
	return nil
}

// preflight rehearses a plan and reads what is pending.
func (a *app) preflight(ctx context.Context, f *fleet.Fleet, catalog *placement.Catalog, args migrateRun, plan fleet.Plan) (p preflight, err error) {
	pending := make(map[string]bool)
	for _, g := range plan.Groups {
		for _, file := range g.Files {
			pending[file] = true
		}
	}
	if plan.Gate != nil && !args.expandOnly {
		for _, file := range plan.Gate.Files {
			pending[file] = true
		}
	}
	p.targets, p.workers = len(plan.Targets), f.Workers()
	if len(pending) == 0 {
		return p, nil
	}
	folder, err := a.migrationsDir(args.dir)
	if err != nil {
		return p, err
	}
	if p.findings, err = a.lintPending(ctx, f, folder, pending); err != nil || args.noRehearsal {
		return p, err
	}
	set, err := migrate.Load(os.DirFS(folder))
	if err != nil {
		return p, err
	}
	p.rehearsals, err = rehearsal.Rehearse(ctx, rehearsal.Config{Catalog: catalog, Set: set, Progress: a.progress}, plan)
	return p, err
}

// lintPending returns what the linter finds in pending files. The homes are asked how large their tables are only where it matters.
func (a *app) lintPending(ctx context.Context, f *fleet.Fleet, folder string, pending map[string]bool) ([]lint.Finding, error) {
	var o lint.Options
	for {
		findings, err := lint.Check(os.DirFS(folder), o)
		if err != nil {
			return nil, err
		}
		findings = slices.DeleteFunc(findings, func(f lint.Finding) bool { return !pending[f.File] })
		if o.Rows != nil || !slices.ContainsFunc(findings, lint.Finding.Counts) {
			return findings, nil
		}
		if err := a.sizes(ctx, f, &o); err != nil {
			return nil, err
		}
	}
}

// errors are the findings that keep a run from beginning.
func (p preflight) errors() []lint.Finding {
	return slices.DeleteFunc(slices.Clone(p.findings), func(f lint.Finding) bool { return !f.Counts() || f.Severity != lint.Error })
}

// refusal is why a run must not begin.
func (p preflight) refusal(args migrateRun) error {
	var why []error
	for _, r := range p.rehearsals {
		if r.Failure != nil {
			why = append(why, fmt.Errorf("the rehearsal on cluster %s failed: %w (--no-rehearsal runs without one)", r.Cluster, r.Failure))
		}
	}
	if found := p.errors(); len(found) > 0 && !args.allowErrors {
		const most = 5
		var lines strings.Builder
		for i, f := range found {
			if i == most {
				fmt.Fprintf(&lines, "\n  and %d more", len(found)-most)
				break
			}
			fmt.Fprintf(&lines, "\n  %s:%d: %s: %s", f.File, max(1, f.Line), f.Rule, printable(f.Risk))
		}
		why = append(why, fmt.Errorf("the linter finds %s in what is pending:%s\n'landlord migrate lint' shows the safe forms; a file can waive a rule, and "+
			"--allow-lint-errors begins all the same", number(len(found), "error"), lines.String()))
	}
	return errors.Join(why...)
}

// planned is how `migrate plan` ends: with findings where `migrate up` would not begin.
func (p preflight) planned(args migrateRun) error {
	if p.refusal(args) != nil {
		return &statusError{status: exitFindings}
	}
	return nil
}

// remarks are what people ought to know of a run that begins.
func (p preflight) remarks() []string {
	var lines []string
	for _, r := range p.rehearsals {
		if r.Skipped != "" || r.Doubt != nil || len(r.LeftOut) > 0 {
			lines = append(lines, viewRehearsal(r).line())
		}
	}
	warnings := 0
	for _, f := range p.findings {
		if f.Counts() && f.Severity == lint.Warning {
			warnings++
		}
	}
	if warnings > 0 {
		lines = append(lines, fmt.Sprintf("the linter finds %s in what is pending: landlord migrate lint shows them", number(warnings, "warning")))
	}
	return lines
}

// number writes how many things there are.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// are says so many things are in a state.
func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return number(n, what) + " are"
}

// estimate is how long a run takes; zero: nobody knows.
func (p preflight) estimate() time.Duration {
	for _, r := range p.rehearsals {
		if r.Skipped != "" || r.Failure != nil || r.Doubt != nil {
			return 0
		}
	}
	return rehearsal.Estimate(p.rehearsals, p.workers)
}
