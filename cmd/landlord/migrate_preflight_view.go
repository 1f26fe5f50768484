package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/landlord-go/landlord/migrate/lint"
	"github.com/landlord-go/landlord/migrate/rehearsal"
)

// preflightView is what `migrate plan` prints of what was found out.
type preflightView struct {
	Lint       lintCounts      `json:"lint"` // of what is pending
	Rehearsals []rehearsalView `json:"rehearsals"`
	// EstimateSeconds is how long a run takes, from what the files took on empty tables; null: nobody knows.
	EstimateSeconds *float64 `json:"estimate_seconds"`

	targets, workers int
}

type lintCounts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Infos    int `json:"infos"`
	Waived   int `json:"waived"`
}

type rehearsalView struct {
	Cluster string     `json:"cluster"`
	Skipped string     `json:"skipped,omitempty"` // why
	LeftOut []string   `json:"left_out"`          // files of the scope server
	Failure string     `json:"failure,omitempty"`
	Doubt   string     `json:"doubt,omitempty"` // a failure that may come of what was left out
	Steps   []stepView `json:"steps"`
}

type stepView struct {
	File         string  `json:"file"`
	Home         string  `json:"home"`
	Milliseconds float64 `json:"milliseconds"`
	Error        string  `json:"error,omitempty"`
}

func (p preflight) view() preflightView {
	v := preflightView{Rehearsals: []rehearsalView{}, targets: p.targets, workers: p.workers}
	for _, f := range p.findings {
		switch {
		case f.Waived:
			v.Lint.Waived++
		case f.Severity == lint.Error:
			v.Lint.Errors++
		case f.Severity == lint.Warning:
			v.Lint.Warnings++
		default:
			v.Lint.Infos++
		}
	}
	for _, r := range p.rehearsals {
		v.Rehearsals = append(v.Rehearsals, viewRehearsal(r))
	}
	if d := p.estimate(); d > 0 {
		seconds := d.Seconds()
		v.EstimateSeconds = &seconds
	}
	return v
}

func viewRehearsal(r rehearsal.Result) rehearsalView {
	v := rehearsalView{Cluster: r.Cluster, Skipped: oneLine(r.Skipped), LeftOut: append([]string{}, r.LeftOut...), Steps: []stepView{}}
	if r.Failure != nil {
		v.Failure = oneLine(r.Failure.Error())
	}
	if r.Doubt != nil {
		v.Doubt = oneLine(r.Doubt.Error())
	}
	for _, s := range r.Steps {
		step := stepView{File: s.File, Home: s.Home, Milliseconds: float64(s.Took.Microseconds()) / 1000}
		if s.Err != nil {
			step.Error = oneLine(s.Err.Error())
		}
		v.Steps = append(v.Steps, step)
	}
	return v
}

// line is a rehearsal in words.
func (v rehearsalView) line() string {
	line := "rehearsal on cluster " + v.Cluster + ": "
	switch {
	case v.Skipped != "":
		return line + "skipped: " + v.Skipped
	case v.Failure != "":
		line += "failed: " + v.Failure
	case v.Doubt != "":
		line += "in doubt: " + v.Doubt
	default:
		homes := make(map[string]bool)
		for _, s := range v.Steps {
			homes[s.Home] = true
		}
		line += fmt.Sprintf("%s in %s, all well", number(len(v.Steps), "step"), number(len(homes), "home"))
	}
	if len(v.LeftOut) > 0 {
		line += "; " + strings.Join(v.LeftOut, ", ") + " was left out, since it would touch the server"
	}
	return line
}

func (v preflightView) write(w io.Writer) {
	var found []string
	for _, c := range []struct {
		n    int
		what string
	}{{v.Lint.Errors, "error"}, {v.Lint.Warnings, "warning"}} {
		if c.n > 0 {
			found = append(found, number(c.n, c.what))
		}
	}
	if len(found) > 0 {
		fmt.Fprintf(w, "lint: %s in what is pending: landlord migrate lint shows them\n", strings.Join(found, ", "))
	}
	for _, r := range v.Rehearsals {
		fmt.Fprintln(w, printable(r.line()))
	}
	if v.EstimateSeconds != nil {
		d := time.Duration(*v.EstimateSeconds * float64(time.Second))
		fmt.Fprintf(w, "estimate: %s for %s with %d workers on each cluster, from what the files took on empty tables\n",
			roughly(d), number(v.targets, "target"), v.workers)
	}
}

// roughly writes a duration as one says it.
func roughly(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	return "about " + d.Round(time.Second).String()
}
