// Package lint reads migrations before anything runs them and names the statements that are dangerous at the size of a fleet,
// each with the form that is not.
//
// It works on the text alone: no server, no configuration. [Check] compiles every file as package migrate does, so that what is
// judged is what would be sent, and knows of the tables, columns, indexes and constraints what earlier files of the same
// directory say. What a file makes itself is new and empty, and nothing done to it is dangerous. What migrate.Load refuses is
// found here too, in all files at once. Only the Up sections are read, and of functions not the bodies: those run later. The
// body of a DO block runs now and is read; SQL that it puts together and executes is not.
//
// It guarantees that a finding stands at the file and line of its statement, that names of rules are stable, that a waiver needs
// a reason and is shown with it, and that a waiver without a purpose is a finding itself.
//
// Text cannot tell everything. Left to whoever runs the files on a copy and watches (package rehearsal does, and [Options] takes
// what it saw): which locks a statement takes in fact and for how long, rewrites and scans that follow from what the set does not
// show (tables made elsewhere, types and functions of extensions, volatility of own functions, whether a partition's CHECK implies
// its bounds, whether a type change keeps a dependent index), statements that are put together at run time, objects that land
// outside the home's schema by way of such statements, and whether the application alive now can live with the change.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// SmallTable is how many rows a table has at least before its size makes a scan or an index build dangerous. Below, they end
// within the time that a lock may be waited for anyhow, and building concurrently costs more than it saves.
const SmallTable = 100_000

// Severity is how bad a finding is.
type Severity string

// The severities, the worst first. Of a finding of severity Info nothing needs to be done.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Options change what Check looks at. The zero value is everything.
type Options struct {
	// Rules are the names of the only rules wanted; none means all.
	Rules []string

	// Rows tells how many rows a table has in the largest home, and whether that is known. Nil: nothing is known. What is not
	// known is taken to be large.
	Rows func(table string) (rows int64, known bool)

	// Traced is what the statements of files were seen to do on a copy, by file. Of a file that is not there nothing was seen.
	Traced map[string][]Traced
}

// Finding is a statement that breaks a rule.
type Finding struct {
	File     string
	Line     int // of the statement, from 1; 0: the file as a whole
	Rule     string
	Severity Severity
	Excerpt  string // the statement's beginning, on one line; empty where it is not about a statement
	Risk     string // what can happen, in one sentence
	Safe     string // the safe form, as SQL where there is one

	// Waived says that the file allows it, for Reason. Such a finding does not count.
	Waived bool
	Reason string

	refused bool // by Load, whatever the file says
}

// Counts reports whether something ought to be done about the finding.
func (f Finding) Counts() bool { return !f.Waived && f.Severity != Info }

// Check reads the migrations in the root of fsys and returns what breaks the rules, in the order of files and lines. Nothing
// found is no error; an error means that fsys cannot be read or that Options name a rule that does not exist.
func Check(fsys fs.FS, o Options) ([]Finding, error) {
	for _, name := range o.Rules {
		if _, ok := byName[name]; !ok {
			return nil, fmt.Errorf("check migrations: %w %.70q", ErrUnknownRule, name)
		}
	}
	files, err := migrate.Files(fsys)
	if err != nil {
		return nil, fmt.Errorf("check migrations: %w", err)
	}
	l := &linter{rows: o.Rows, seen: o.Traced, tables: map[string]*table{}, indexes: map[string]string{}, domains: map[string]bool{}, copies: map[string]bool{}}
	for i := range files {
		l.check(&files[i])
	}
	if len(o.Rules) > 0 {
		l.findings = slices.DeleteFunc(l.findings, func(f Finding) bool { return !slices.Contains(o.Rules, f.Rule) })
	}
	return l.findings, nil
}

// ErrUnknownRule reports a rule that does not exist.
var ErrUnknownRule = errors.New("there is no rule")

// linter is one Check: what it found and what the files so far have made.
type linter struct {
	rows     func(string) (int64, bool)
	seen     map[string][]Traced
	findings []Finding

	tables  map[string]*table
	indexes map[string]string // the table of each index
	domains map[string]bool   // that have a constraint
	copies  map[string]bool   // materialized views

	// The file that is being read.
	file       *migrate.File
	statements []*statement
	found      []Finding
	made       map[string]bool // objects other than tables that it has made
	unmade     map[string]bool // indexes that it has dropped, if they were there
	literals   map[string]int  // where each was last: index of a statement
}

// check reads one file.
func (l *linter) check(f *migrate.File) {
	l.file, l.found, l.statements = f, nil, nil
	l.made, l.unmade, l.literals = map[string]bool{}, map[string]bool{}, map[string]int{}
	if f.Err != nil {
		l.unreadable(f)
	}
	for _, t := range l.tables {
		t.fresh = false
	}
	l.readStatements()
	for i, s := range l.statements {
		s.at = i
		for _, t := range s.tokens {
			if t.Kind == sqltext.Literal {
				l.literals[t.Text] = i
			}
		}
	}
	for _, s := range l.statements {
		l.judge(s)
	}
	l.whole()
	l.traced()
	l.waive()
	slices.SortStableFunc(l.found, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	l.findings = append(l.findings, l.found...)
}

func (l *linter) unreadable(f *migrate.File) {
	name := "unreadable-file"
	if errors.Is(f.Err, migrate.ErrGo) {
		name = "go-migration"
	}
	l.add(name, f.Line, "")
	if name == "unreadable-file" {
		const most = 300 // goose repeats what it could not read
		what := []rune(strings.Join(strings.Fields(f.Err.Error()), " "))
		if len(what) > most {
			what = append(what[:most-1], '…')
		}
		l.found[len(l.found)-1].Risk += ": " + string(what)
	}
}

// report notes that a statement breaks a rule. pairs are placeholders of the rule's texts and what stands for them here.
func (l *linter) report(s *statement, rule string, pairs ...string) {
	l.add(rule, s.line, s.excerpt(), pairs...)
}

// reportOn is report for rules that depend on how large a table is.
func (l *linter) reportOn(s *statement, table, rule string, pairs ...string) {
	l.report(s, rule, append(pairs, "{table}", table)...)
	if l.small(table) {
		l.found[len(l.found)-1].Severity = Info
	}
}

func (l *linter) add(rule string, line int, excerpt string, pairs ...string) {
	r := byName[rule]
	for i := 1; i < len(pairs); i += 2 {
		if pairs[i] == "" { // keep the general form
			pairs[i] = pairs[i-1]
		}
	}
	fill := strings.NewReplacer(pairs...)
	l.found = append(l.found, Finding{
		File: l.file.Name, Line: line, Rule: rule, Severity: r.Severity, Excerpt: excerpt,
		Risk: general.Replace(fill.Replace(r.Risk)), Safe: general.Replace(fill.Replace(r.Safe)),
		refused: r.Refused,
	})
}

// small reports whether a table is known to be small.
func (l *linter) small(table string) bool {
	if l.rows == nil {
		return false
	}
	n, known := l.rows(table)
	return known && n < SmallTable
}

// refusals are the rules that Load enforces, by its reasons.
var refusals = []struct {
	err  error
	rule string
}{
	{sqltext.ErrTransaction, "transaction-control"},
	{sqltext.ErrPath, "changes-search-path"},
	{sqltext.ErrRole, "changes-role"},
	{sqltext.ErrCopy, "copy-from-client"},
	{sqltext.ErrQualified, "fixed-schema"},
}

// refuse reports whether Load would refuse the statement, and says so.
func (l *linter) refuse(s *statement) bool {
	err := sqltext.Refuse(s.tokens)
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			l.report(s, r.rule)
			l.found[len(l.found)-1].refused = !s.block
			return true
		}
	}
	return false
}
