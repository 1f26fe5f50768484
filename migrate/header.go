package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Phase is when a file may run, relative to the versions of the application that are alive.
type Phase string

// The phases, in their order.
const (
	PhaseExpand   Phase = "expand"   // adds what the old application does not notice; where a file says nothing
	PhaseBackfill Phase = "backfill" // fills what was added
	PhaseValidate Phase = "validate" // proves that what was filled is whole
	PhaseContract Phase = "contract" // takes away what only the old application used
)

// ParsePhase reads the name of a phase.
func ParsePhase(name string) (Phase, error) {
	p := Phase(name)
	if !slices.Contains([]Phase{PhaseExpand, PhaseBackfill, PhaseValidate, PhaseContract}, p) {
		return "", fmt.Errorf("phase %.70q: use expand, backfill, validate or contract", name)
	}
	return p, nil
}

// Scope is how often a file runs.
type Scope string

// The scopes.
const (
	ScopeTenant   Scope = "tenant"   // in every home; where a file says nothing
	ScopeDatabase Scope = "database" // once in every database, before its homes
	ScopeServer   Scope = "server"   // once on every server, before its databases
)

// ParseScope reads the name of a scope.
func ParseScope(name string) (Scope, error) {
	s := Scope(name)
	if !slices.Contains([]Scope{ScopeTenant, ScopeDatabase, ScopeServer}, s) {
		return "", fmt.Errorf("scope %.70q: use tenant, database or server", name)
	}
	return s, nil
}

// Waiver lets a file break a rule of the linter, for a reason.
type Waiver struct {
	Rule   string
	Reason string
	Line   int // of the file, from 1
}

// header is what a file says of itself, in lines that begin with "-- landlord:".
type header struct {
	phase   Phase
	scope   Scope
	waivers []Waiver
}

// lineError is what is wrong with a line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// readHeader reads the lines of the form
//
//	-- landlord: phase=contract scope=tenant
//	-- landlord: allow=RULE reason, to the end of the line
//
// wherever they stand in the file. With an error it returns what stands before it.
func readHeader(text string) (header, error) {
	h := header{phase: PhaseExpand, scope: ScopeTenant}
	said := make(map[string]bool)
	for i, line := range strings.Split(text, "\n") {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !ok {
			continue
		}
		rest, ok := strings.CutPrefix(strings.TrimSpace(comment), "landlord:")
		if !ok {
			continue
		}
		if err := h.read(strings.TrimSpace(rest), i+1, said); err != nil {
			return h, &lineError{i + 1, err}
		}
	}
	return h, nil
}

// read reads one line.
func (h *header) read(rest string, line int, said map[string]bool) error {
	if waiver, ok := strings.CutPrefix(rest, "allow="); ok {
		rule, reason, _ := strings.Cut(waiver, " ")
		if rule == "" || strings.TrimSpace(reason) == "" {
			return errors.New("a waiver names a rule and the reason: -- landlord: allow=RULE because it is so")
		}
		h.waivers = append(h.waivers, Waiver{Rule: rule, Reason: strings.TrimSpace(reason), Line: line})
		return nil
	}
	if rest == "" {
		return errors.New("nothing follows landlord: use phase=, scope= or allow=")
	}
	for field := range strings.FieldsSeq(rest) {
		key, value, _ := strings.Cut(field, "=")
		if said[key] {
			return fmt.Errorf("%s is said twice", key)
		}
		said[key] = true
		switch key {
		case "phase":
			phase, err := ParsePhase(value)
			if err != nil {
				return err
			}
			h.phase = phase
		case "scope":
			scope, err := ParseScope(value)
			if err != nil {
				return err
			}
			h.scope = scope
		default:
			return fmt.Errorf("%q is not known: use phase=, scope= or allow=", field)
		}
	}
	return nil
}
