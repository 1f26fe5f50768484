package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/lint"
)

func newMigrateLintCmd(a *app) *cobra.Command {
	var dir string
	var rules []string
	var list, trace bool
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "Find statements that are dangerous at the size of a fleet",
		Long: `Find statements that are dangerous at the size of a fleet, each with its safe form, before anything runs. No server and no
configuration are needed. A rule can be waived in the file: -- landlord: allow=RULE reason.

--trace also runs the files in a scratch database, on a server of the configuration's, and watches what each statement
locks, reads and writes; and it asks the homes how large their tables are.

Exit status: 0 nothing to do, 1 the folder cannot be read, 4 errors or warnings that no file waives.`,
		Example: `  landlord migrate lint
  landlord migrate lint --dir migrations --json
  landlord migrate lint --rule index-not-concurrent --rule set-not-null
  landlord migrate lint --trace
  landlord migrate lint --list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				return a.showRules(lint.Rules())
			}
			dir, err := a.migrationsDir(dir)
			if err != nil {
				return err
			}
			return a.lint(cmd.Context(), dir, rules, trace)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`folder` of the migrations (default: the configuration's)")
	cmd.Flags().StringArrayVar(&rules, "rule", nil, "only this `rule`; may be repeated")
	cmd.Flags().BoolVar(&trace, "trace", false, "also run the files in a scratch database, and watch")
	cmd.Flags().BoolVar(&list, "list", false, "show the rules")
	return cmd
}

// ruleView is a rule as it is printed.
type ruleView struct {
	Name     string `json:"name"`
	Severity string `json:"severity"`
	Waivable bool   `json:"waivable"`
	Risk     string `json:"risk"`
	Safe     string `json:"safe"`
}

func (a *app) showRules(rules []lint.Rule) error {
	views := make([]ruleView, len(rules))
	for i, r := range rules {
		views[i] = ruleView{Name: r.Name, Severity: string(r.Severity), Waivable: !r.Refused, Risk: r.Risk, Safe: r.Safe}
	}
	return a.show(map[string]any{"rules": views}, func(w io.Writer) {
		fmt.Fprintln(w, "RULE\tSEVERITY\tRISK")
		for _, r := range views {
			fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, r.Severity, r.Risk)
		}
	})
}

// findingView is a finding as it is printed.
type findingView struct {
	File      string `json:"file"`
	Line      int    `json:"line"` // 0: the file as a whole
	Rule      string `json:"rule"`
	Severity  string `json:"severity"`
	Statement string `json:"statement,omitempty"` // its beginning
	Risk      string `json:"risk"`
	Safe      string `json:"safe"`
	Waived    bool   `json:"waived"`
	Reason    string `json:"reason,omitempty"` // of the waiver
}

// lintResult is what `migrate lint` prints.
type lintResult struct {
	Dir      string        `json:"dir"`
	Findings []findingView `json:"findings"`
	Count    int           `json:"count"` // errors and warnings that nothing waives
}

func (a *app) lint(ctx context.Context, dir string, rules []string, trace bool) error {
	o := lint.Options{Rules: rules}
	var traceErr error
	if trace {
		if traceErr = a.trace(ctx, dir, &o); traceErr != nil && o.Traced == nil {
			return traceErr
		}
	}
	findings, err := lint.Check(os.DirFS(dir), o)
	switch {
	case errors.Is(err, lint.ErrUnknownRule):
		return usageError("%w: 'landlord migrate lint --list' shows the rules", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("lint %s: there is no such folder: name that of the migrations with --dir", dir)
	case err != nil:
		return fmt.Errorf("lint %s: %w", dir, err)
	}
	r := lintResult{Dir: dir, Findings: make([]findingView, len(findings))}
	for i, f := range findings {
		r.Findings[i] = findingView{
			File: filepath.Join(dir, f.File), Line: f.Line, Rule: f.Rule, Severity: string(f.Severity), Statement: f.Excerpt,
			Risk: f.Risk, Safe: f.Safe, Waived: f.Waived, Reason: f.Reason,
		}
		if f.Counts() {
			r.Count++
		}
	}
	if err := a.show(r, r.write); err != nil {
		return err
	}
	if traceErr != nil {
		return traceErr
	}
	if r.Count > 0 {
		return &statusError{status: exitFindings}
	}
	return nil
}

// write prints the findings by file.
func (r lintResult) write(w io.Writer) {
	file := ""
	for _, f := range r.Findings {
		if f.File != file && file != "" {
			fmt.Fprintln(w)
		}
		file = f.File
		severity := f.Severity
		if f.Waived {
			severity = "waived"
		}
		fmt.Fprintf(w, "%s:%d: %s: %s\n", f.File, max(1, f.Line), severity, f.Rule)
		if f.Statement != "" {
			fmt.Fprintf(w, "    %s\n", printable(f.Statement))
		}
		fmt.Fprintf(w, "  %s\n", printable(f.Risk))
		if f.Waived {
			fmt.Fprintf(w, "  allowed: %s\n", printable(f.Reason))
			continue
		}
		fmt.Fprintln(w, "  safe form:")
		for line := range strings.SplitSeq(f.Safe, "\n") {
			fmt.Fprintf(w, "    %s\n", printable(line))
		}
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s: %s\n", r.Dir, cmp.Or(r.summary(), "nothing found"))
}

// summary counts the findings by what becomes of them.
func (r lintResult) summary() string {
	counts := map[string]int{}
	for _, f := range r.Findings {
		if f.Waived {
			f.Severity = "waived"
		}
		counts[f.Severity]++
	}
	var parts []string
	for _, of := range []string{"error", "warning", "info", "waived"} {
		if n := counts[of]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, of))
		}
	}
	return strings.Join(parts, ", ")
}

// printable takes out what a terminal or a table would act on: names and comments of a file are somebody else's text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
