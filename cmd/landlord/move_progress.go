package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/landlord-go/landlord/internal/bars"
	"github.com/landlord-go/landlord/move"
)

// moveScreen shows a person how far moves are: as bars on a terminal; elsewhere as lines, one whenever a move comes to another phase, and every ten
// seconds in between.
type moveScreen struct {
	app   *app
	hints bool   // whether to say what a person can do
	close func() // of the terminal's bars

	mu   sync.Mutex // guards what follows
	last map[string]move.Status
	said map[string]time.Time
}

func newMoveScreen(a *app) *moveScreen {
	return &moveScreen{app: a, close: func() {}, last: map[string]move.Status{}, said: map[string]time.Time{}}
}

// see takes down how far a move is, and shows it. Moves may be seen at the same time.
func (s *moveScreen) see(now move.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Move.ID == "" {
		return
	}
	if len(s.last) == 0 && s.app.screen == nil {
		s.close = s.app.openScreen()
	}
	slug := string(now.Move.Slug)
	before, known := s.last[slug]
	s.last[slug] = now
	if s.app.screen != nil {
		s.app.screen.Draw(time.Now(), s.bars(), s.notes()...)
		return
	}
	if changed := !known || before.Move.Phase != now.Move.Phase || before.Waiting != now.Waiting; changed || time.Since(s.said[slug]) >= 10*time.Second {
		s.said[slug] = time.Now()
		s.app.progress("tenant %s: %s", slug, s.text(now))
	}
}

// end leaves the last picture where it is.
func (s *moveScreen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	s.close = func() {}
}

// bars are the rows that are copied, of each move that is known to copy some.
func (s *moveScreen) bars() (all []bars.Bar) {
	for _, slug := range slices.Sorted(maps.Keys(s.last)) {
		now := s.last[slug]
		of := now.Move.OfRows
		if copied := now.Move.Phase != move.Planned && now.Move.Phase != move.Preparing && now.Move.Phase != move.Copying; copied {
			of = now.Move.Rows // the estimate has served its time
		}
		all = append(all, bars.Bar{
			Label: slug, Done: int(min(now.Move.Rows, max(of, 1))), Total: int(max(of, 1)),
			Waiting: now.Move.Phase == move.Planned || now.Move.Phase == move.Preparing,
		})
	}
	return all
}

func (s *moveScreen) notes() (all []string) {
	for _, slug := range slices.Sorted(maps.Keys(s.last)) {
		all = append(all, slug+": "+s.text(s.last[slug]))
	}
	return all
}

// text says in a line how far a move is.
func (s *moveScreen) text(now move.Status) string {
	m := now.Move
	text := []string{string(m.Phase)}
	add := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	switch m.Phase {
	case move.Copying:
		if m.OfRows > 0 {
			add("%d of about %d rows, %s of %s", m.Rows, m.OfRows, bytesText(m.Bytes), bytesText(m.OfBytes))
		} else {
			add("%d rows, %s", m.Rows, bytesText(m.Bytes))
		}
		if now.Left > 0 {
			add("another %s", secondsText(now.Left.Seconds()))
		}
	case move.Following, move.Verified, move.Reversing:
		add("%d changes applied, lag %.0f ms", m.Changes, milliseconds(now.Lag))
	case move.Fencing, move.RollingBack:
		add("attempt %d, a pause of at most %.0f ms", m.Attempts, milliseconds(m.MaxPause))
	}
	if now.WAL > 0 {
		add("%s of log kept, of at most %s", bytesText(now.WAL), bytesText(m.MaxWAL))
	}
	if (m.CommittedAt != nil || m.Phase == move.Reverted) && m.Pause > 0 {
		add("the pause was %.1f ms", milliseconds(m.Pause))
	}
	if m.Asked != "" && !m.Over() {
		add("asked for %s", m.Asked)
	}
	if now.Waiting != "" {
		add("waiting: %s", oneLine(now.Waiting))
	}
	if next := nextOf(m); next != "" && s.hints {
		add("next: %s", next)
	}
	return strings.Join(text, ", ")
}
