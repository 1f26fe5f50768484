package lint

import (
	"math"
	"slices"
	"strings"
)

// Traced is what one statement was seen to do, when it ran on a copy, to what had been there before its file. Tables go by their
// names in the home, partitions by the name of the table that they are part of.
type Traced struct {
	Statement int      `json:"statement"`           // its place in the file, from 0; a DO block is one statement
	Rewritten []string `json:"rewritten,omitempty"` // tables that it wrote anew
	Scanned   []string `json:"scanned,omitempty"`   // tables that it read from end to end, under a lock against writers or to write to them
	Locked    []string `json:"locked,omitempty"`    // tables that it was the first of its file to lock against everybody
	Elsewhere []string `json:"elsewhere,omitempty"` // what it made or changed outside of the home's schema
}

// Whether the rule needs a run on a copy.
func isTraced(rule string) bool { return strings.HasPrefix(rule, "traced-") }

// kin are the rules of which the text alone shows that they are broken, and which say the same or more.
var kin = map[string][]string{
	"traced-rewrite": {"add-column-rewrite", "change-type-rewrite", "table-rewrite", "truncate"},
	"traced-scan": {
		"add-column-rewrite", "add-column-check", "add-column-references", "add-column-unique", "add-column-not-null", "change-type-rewrite",
		"change-type-checked", "set-not-null", "add-check", "validate-in-same-transaction", "add-foreign-key", "add-unique",
		"primary-key-nullable", "add-exclude", "attach-without-check", "table-rewrite", "unbounded-write", "index-not-concurrent",
		"reindex-not-concurrent", "domain-constraint",
	},
	"traced-lock": {
		"after-exclusive-lock", "drop-foreign-key", "drop-table", "truncate", "detach-not-concurrent", "drop-index-not-concurrent",
		"validate-in-same-transaction",
	},
	"traced-elsewhere": {"fixed-schema", "database-wide", "cluster-wide", "fixed-function-path"},
}

func (l *linter) wasTraced() bool {
	_, ok := l.seen[l.file.Name]
	return ok
}

// traced reports what was seen on a copy, where the text has not shown it.
func (l *linter) traced() {
	top := slices.DeleteFunc(slices.Clone(l.statements), func(s *statement) bool { return s.block })
	held := ""
	for _, seen := range l.seen[l.file.Name] {
		if seen.Statement < 0 || seen.Statement >= len(top) {
			continue // seen of another text
		}
		s, end := top[seen.Statement], math.MaxInt
		if seen.Statement+1 < len(top) {
			end = top[seen.Statement+1].line
		}
		if !l.said("traced-rewrite", s.line, end) {
			for _, table := range seen.Rewritten {
				l.reportOn(s, table, "traced-rewrite")
			}
		}
		if !l.said("traced-scan", s.line, end) {
			for _, table := range seen.Scanned {
				l.reportOn(s, table, "traced-scan")
			}
		}
		for _, table := range seen.Locked {
			if held == "" {
				held = table
			} else if table != held && !l.said("traced-lock", 0, math.MaxInt) {
				l.report(s, "traced-lock", "{table}", table, "{ref}", held)
			}
		}
		if !l.said("traced-elsewhere", s.line, end) {
			for _, object := range seen.Elsewhere {
				l.report(s, "traced-elsewhere", "{object}", object)
			}
		}
	}
}

// said reports whether a finding on the lines of a statement, from line to before end, says as much as a traced rule does. Of
// traced-lock one finding is enough for a file.
func (l *linter) said(rule string, line, end int) bool {
	return slices.ContainsFunc(l.found, func(f Finding) bool {
		here := f.Line == line || f.Line > line && f.Line < end
		return here && (slices.Contains(kin[rule], f.Rule) || rule == "traced-lock" && f.Rule == rule)
	})
}
