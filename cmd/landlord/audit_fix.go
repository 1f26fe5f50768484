package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/landlord-go/landlord/isolation/audit"
)

// auditFix is how `audit --fix` was asked for.
type auditFix struct{ wanted, yes, dryRun bool }

// mayFix shows what would be run and tells whether to go on. On a terminal a person is asked; elsewhere the flag itself is the
// answer. A dry run shows the SQL as the result, and ends here.
func (a *app) mayFix(ctx context.Context, places []*auditPlace, fix auditFix) (bool, error) {
	plan := a.fixPlan(places)
	if fix.dryRun {
		return false, a.show(map[string]any{"fixes": plan}, func(w io.Writer) { writePlan(w, plan) })
	}
	if len(plan) == 0 {
		return true, nil
	}
	writePlan(a.stderr, plan)
	in, ok := a.stdin.(*os.File)
	if fix.yes || !ok || !term.IsTerminal(int(in.Fd())) {
		return true, ctx.Err()
	}
	fmt.Fprint(a.stderr, "Run this? [y/N] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return false, errors.New("nothing was run")
	}
	return true, ctx.Err()
}

// plannedFix is what would be run in one database.
type plannedFix struct {
	Database string   `json:"database"`
	SQL      []string `json:"sql"`
}

func (a *app) fixPlan(places []*auditPlace) []plannedFix {
	plan := []plannedFix{}
	for _, p := range places {
		var sql []string
		for _, f := range p.findings {
			if f.Safe && !slices.ContainsFunc(a.loaded.Audit.Allow, func(c allowConfig) bool { return c.allowed().Covers(f) }) {
				sql = append(sql, f.SQL...)
			}
		}
		if len(sql) > 0 {
			plan = append(plan, plannedFix{p.name(), sql})
		}
	}
	return plan
}

func writePlan(w io.Writer, plan []plannedFix) {
	for _, fix := range plan {
		fmt.Fprintf(w, "in %s:\n", fix.Database)
		for _, sql := range fix.SQL {
			fmt.Fprintf(w, "    %s;\n", printable(sql))
		}
	}
	if len(plan) == 0 {
		fmt.Fprintln(w, "nothing to mend")
	}
}

func (a *app) showAuditRules() error {
	type ruleView struct {
		Name     string `json:"name"`
		Severity string `json:"severity"`
		Risk     string `json:"risk"`
		Fix      string `json:"fix,omitempty"` // what --fix does
	}
	var views []ruleView
	for _, r := range audit.Rules() {
		views = append(views, ruleView{r.Name, string(r.Severity), r.Risk, r.Mends})
	}
	return a.show(map[string]any{"rules": views}, func(w io.Writer) {
		fmt.Fprintln(w, "RULE\tSEVERITY\tRISK")
		for _, r := range views {
			fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, r.Severity, r.Risk)
		}
	})
}
