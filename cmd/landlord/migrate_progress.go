package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/landlord-go/landlord/internal/bars"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// openScreen makes bars of the progress of runs, where a person looks on, until close is called. Elsewhere progress is lines.
func (a *app) openScreen() (close func()) {
	file, ok := a.stderr.(*os.File)
	if name := os.Getenv("TERM"); !ok || !term.IsTerminal(int(file.Fd())) || name == "" || name == "dumb" {
		return func() {}
	}
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil || width == 0 || height == 0 {
			return 80, 24
		}
		return width, height
	}
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	a.screen = bars.NewScreen(file, size, bars.Style{
		Color: os.Getenv("NO_COLOR") == "",
		ASCII: !strings.Contains(locale, "UTF-8") && !strings.Contains(locale, "UTF8"),
	})
	a.stderr = a.screen
	return func() { a.stderr, a.screen = file, nil }
}

// tellProgress passes on how far a run is: to the command, if it wants to know, or else to a person.
func (a *app) tellProgress(s fleet.Status) {
	if a.follow != nil {
		a.follow(s)
		return
	}
	a.draw(s)
}

// draw shows a person how far a run is: one line, or bars.
func (a *app) draw(s fleet.Status) {
	if a.screen != nil {
		a.screen.Draw(time.Now(), barsOf(s), notesOf(s)...)
		return
	}
	all := total(s)
	var line strings.Builder
	fmt.Fprintf(&line, "run %d, wave %d of %d: %d of %d targets verified", s.Run.Number, s.Run.Wave, s.Run.Waves, all.Verified, all.Targets)
	for _, state := range []placement.TargetState{placement.TargetLeased, placement.TargetFailed, placement.TargetSkipped} {
		if n := s.Counts[state]; n > 0 {
			fmt.Fprintf(&line, ", %d %s", n, state)
		}
	}
	if s.Waiting > 0 {
		fmt.Fprintf(&line, ", %d to be tried again (%s)", s.Waiting, oneLine(s.LastErr))
	}
	if wait := waitOf(s.Run); wait != "" {
		line.WriteString("; " + wait)
	}
	if s.Run.State == placement.RunRunning && !s.Run.AtWork {
		line.WriteString("; " + unattended)
	}
	a.progress("%s", line.String())
}

// waitOf says what a run waits for before its next wave; empty: nothing.
func waitOf(r placement.Run) string {
	switch {
	case r.State != placement.RunRunning || r.SoakLeft == nil:
		return ""
	case *r.SoakLeft > 0:
		return fmt.Sprintf("wave %d is done, and soaks for another %s", r.Wave, r.SoakLeft.Round(time.Second))
	case r.Checking:
		return fmt.Sprintf("wave %d is done, and its health is being checked", r.Wave)
	case r.Checked:
		return fmt.Sprintf("wave %d is done, and waits for a process with the health command: landlord migrate resume --health '...'", r.Wave)
	}
	return ""
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func total(s fleet.Status) (all fleet.Tally) {
	for _, w := range s.Waves {
		all.Targets += w.Targets
		all.Verified += w.Verified
		all.Failed += w.Failed
		all.Skipped += w.Skipped
		all.PutOff += w.PutOff
	}
	return all
}

// barsOf are the whole run, each wave of several, and where there are several clusters, each of them in the wave that runs.
func barsOf(s fleet.Status) []bars.Bar {
	bar := func(label string, t fleet.Tally, waiting bool) bars.Bar {
		return bars.Bar{Label: label, Done: t.Done(), Total: t.Targets, Failed: t.Failed, PutOff: t.PutOff, Waiting: waiting}
	}
	all := []bars.Bar{bar(fmt.Sprintf("run %d", s.Run.Number), total(s), false)}
	for _, w := range s.Waves {
		if len(s.Waves) > 1 {
			all = append(all, bar(fmt.Sprintf("  wave %d", w.Wave), w.Tally, w.Wave > s.Run.Wave))
		}
		if w.Wave != s.Run.Wave || len(w.Clusters) < 2 {
			continue
		}
		for _, c := range w.Clusters {
			all = append(all, bar("    "+c.Cluster, c.Tally, false))
		}
	}
	return all
}

// notesOf are what there is to say of a run beside figures.
func notesOf(s fleet.Status) (notes []string) {
	if s.Run.State != placement.RunRunning {
		note := fmt.Sprintf("run %d is %s", s.Run.Number, s.Run.State)
		if s.Run.Why != "" {
			note += ": " + s.Run.Why
		}
		notes = append(notes, oneLine(note))
	}
	if wait := waitOf(s.Run); wait != "" {
		notes = append(notes, wait)
	}
	if s.Run.State == placement.RunRunning && !s.Run.AtWork {
		notes = append(notes, unattended)
	}
	if s.Waiting > 0 {
		notes = append(notes, "put off: "+oneLine(s.LastErr))
	}
	return notes
}
