package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/landlord-go/landlord/migrate/fleet"
)

// gateView is the next contract files and what they wait for, as they are printed.
type gateView struct {
	Contract []string `json:"contract"`
	Waits    []string `json:"waits"`
}

func viewGate(g *fleet.Gate) gateView {
	v := gateView{Contract: []string{}, Waits: []string{}}
	if g == nil {
		return v
	}
	v.Contract = append(v.Contract, g.Files...)
	for _, w := range g.Waits {
		v.Waits = append(v.Waits, oneLine(w))
	}
	return v
}

func (v gateView) write(w io.Writer) {
	if len(v.Contract) == 0 {
		return
	}
	files := strings.Join(v.Contract, ", ") + " (contract)"
	switch len(v.Waits) {
	case 0:
		fmt.Fprintf(w, "%s comes next: landlord migrate up\n", files)
	case 1:
		fmt.Fprintf(w, "%s waits for: %s\n", files, v.Waits[0])
	default:
		fmt.Fprintf(w, "%s waits for:\n", files)
		for _, wait := range v.Waits {
			fmt.Fprintf(w, "  %s\n", wait)
		}
	}
}

// filesAtHand tells whether the configuration's migrations can be read. A command that only looks at a run does without them.
func (a *app) filesAtHand() bool {
	c, err := a.config()
	if err != nil || c.Migrations == "" {
		return false
	}
	_, err = newTables(c.Migrations).load()
	return err == nil
}
