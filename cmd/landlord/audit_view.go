package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/landlord-go/landlord/isolation/audit"
)

// auditView is what `audit` prints.
type auditView struct {
	Databases int                    `json:"databases"` // that were looked at
	Homes     int                    `json:"homes"`
	Findings  []auditFinding         `json:"findings"`
	Counts    map[audit.Severity]int `json:"counts"` // of those that nothing allows
	Errors    int                    `json:"errors"`
	Allowed   int                    `json:"allowed"`
	Unused    []allowConfigView      `json:"unused"`  // entries of audit.allow that nothing needs
	Unknown   []unknownDatabase      `json:"unknown"` // could not be looked at
}

type auditFinding struct {
	Rule     string         `json:"rule"`
	Severity audit.Severity `json:"severity"`
	Database string         `json:"database"` // cluster/database; of a server: the first one where it was seen
	Object   string         `json:"object"`
	Detail   string         `json:"detail,omitempty"`
	Risk     string         `json:"risk"`
	SQL      []string       `json:"sql"`
	Fix      bool           `json:"fix"`               // --fix runs the SQL
	Allowed  string         `json:"allowed,omitempty"` // the reason
}

type allowConfigView struct {
	Rule   string `json:"rule"`
	Object string `json:"object"`
}

type unknownDatabase struct {
	Database string `json:"database"`
	Reason   string `json:"reason"`
}

// viewAudit puts together what was found, the gravest first.
func viewAudit(places []*auditPlace, allow []allowConfig) auditView {
	out := auditView{Findings: []auditFinding{}, Counts: map[audit.Severity]int{}, Unused: []allowConfigView{}, Unknown: []unknownDatabase{}}
	used := make([]bool, len(allow))
	for _, p := range places {
		if p.err != nil {
			out.Unknown = append(out.Unknown, unknownDatabase{p.name(), p.err.Error()})
			continue
		}
		out.Databases++
		out.Homes += len(p.want.Homes)
		for _, f := range p.findings {
			v := auditFinding{
				Rule: f.Rule, Severity: f.Severity, Database: p.name(), Object: f.Object, Detail: f.Detail, Risk: f.Risk,
				SQL: append([]string{}, f.SQL...), Fix: f.Safe,
			}
			for i, entry := range allow {
				if entry.allowed().Covers(f) {
					used[i], v.Allowed = true, entry.Reason
				}
			}
			if v.Allowed != "" {
				out.Allowed++
			} else {
				out.Counts[f.Severity]++
			}
			out.Findings = append(out.Findings, v)
		}
	}
	out.Errors = out.Counts[audit.Error]
	slices.SortStableFunc(out.Findings, func(a, b auditFinding) int {
		return slices.Index(audit.Severities, a.Severity) - slices.Index(audit.Severities, b.Severity)
	})
	for i, entry := range allow {
		if !used[i] && len(out.Unknown) == 0 {
			out.Unused = append(out.Unused, allowConfigView{entry.Rule, entry.Object})
		}
	}
	return out
}

func (v auditView) write(w io.Writer) {
	for _, f := range v.Findings {
		if f.Allowed != "" {
			continue
		}
		what := f.Object
		if f.Detail != "" {
			what += ": " + f.Detail
		}
		fmt.Fprintf(w, "%s: %s: %s: %s\n  %s\n", f.Severity, f.Rule, f.Database, printable(what), f.Risk)
		for _, sql := range f.SQL {
			fmt.Fprintf(w, "    %s;\n", printable(sql))
		}
	}
	for _, u := range v.Unknown {
		fmt.Fprintf(w, "%s could not be looked at: %s\n", u.Database, printable(u.Reason))
	}
	for _, entry := range v.Unused {
		fmt.Fprintf(w, "audit.allow: nothing breaks %s at %s any more: take the entry out\n", entry.Rule, entry.Object)
	}
	var counts []string
	for _, s := range audit.Severities {
		if n := v.Counts[s]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if v.Allowed > 0 {
		counts = append(counts, fmt.Sprintf("%d allowed", v.Allowed))
	}
	if len(counts) == 0 {
		counts = []string{"nothing found"}
	}
	fmt.Fprintf(w, "%d homes in %d databases: %s\n", v.Homes, v.Databases, strings.Join(counts, ", "))
}
