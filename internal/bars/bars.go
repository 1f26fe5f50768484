// Package bars draws how far something long is, in place on a terminal.
//
// It guarantees that no line is longer than the terminal is wide, that what others write in the meantime stands above the bars,
// and that the cursor is visible and below them whenever the program ends, however it ends. Each picture is one write that
// covers the last one without clearing it first, so nothing flickers.
package bars

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
)

// Bar is one line: how many of a number of things are done.
type Bar struct {
	Label   string // rates are kept by it: no two of one picture are alike
	Done    int    // with Failed
	Total   int
	Failed  int
	PutOff  int
	Waiting bool // its turn has not come: it has no rate
}

// Style is how bars look.
type Style struct {
	Color bool
	ASCII bool // no characters beyond those
}

// window is how far back a rate looks.
const window = 10 * time.Second

// meter remembers how much was done when.
type meter struct {
	at   []time.Time
	done []int
}

// rate notes what is done and returns how much of that was done each second lately; 0: not known. What has become less is begun
// anew: it is tried again, or the bar is another's now.
func (m *meter) rate(now time.Time, done int) float64 {
	if n := len(m.done); n > 0 && done < m.done[n-1] {
		*m = meter{}
	}
	m.at, m.done = append(m.at, now), append(m.done, done)
	for len(m.at) > 2 && now.Sub(m.at[0]) > window {
		m.at, m.done = m.at[1:], m.done[1:]
	}
	seconds := now.Sub(m.at[0]).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(done-m.done[0]) / seconds
}

// line is a bar's text within width columns.
func (b Bar) line(width, labels, counts int, rate float64, s Style) string {
	text := []string{fmt.Sprintf("%*s", counts, fmt.Sprintf("%d/%d", b.Done, b.Total))}
	add := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	if rate > 0 && !b.Waiting && b.Done < b.Total {
		add("%s/s", brief(rate))
		add("ETA %s", eta(float64(b.Total-b.Done)/rate))
	}
	var bad, late int // where in text
	if b.Failed > 0 {
		bad = len(text)
		add("%d failed", b.Failed)
	}
	if b.PutOff > 0 {
		late = len(text)
		add("%d put off", b.PutOff)
	}
	var out strings.Builder
	left := width
	put := func(sgr, s string) {
		s = cut(s, left)
		left -= columns(s)
		if sgr != "" && s != "" {
			s = "\x1b[" + sgr + "m" + s + "\x1b[m"
		}
		out.WriteString(s)
	}
	color := func(sgr string) string {
		if !s.Color {
			return ""
		}
		return sgr
	}
	put("", fmt.Sprintf("%-*s", labels, cut(b.Label, labels)))
	if size := min(40, (width+1)/4); size >= 10 {
		full, empty := "█", "░"
		if s.ASCII {
			full, empty = "#", "."
		}
		done, failed := b.cells(size)
		put("", "  ")
		put(color("32"), strings.Repeat(full, done-failed))
		put(color("31"), strings.Repeat(full, failed))
		put(color("2"), strings.Repeat(empty, size-done))
	}
	for i, t := range text {
		sgr := ""
		switch {
		case i == bad && i > 0:
			sgr = color("31")
		case i == late && i > 0:
			sgr = color("33")
		}
		put("", "  ")
		put(sgr, t)
	}
	return out.String()
}

// cells are how many of size are full, and how many of those stand for failures: at least one, where there are any.
func (b Bar) cells(size int) (done, failed int) {
	if b.Total <= 0 {
		return size, 0
	}
	done = size * min(b.Done, b.Total) / b.Total
	if b.Failed > 0 {
		failed = min(size, max(1, size*b.Failed/b.Total))
	}
	return max(done, failed), failed
}

func brief(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f", rate)
	}
	return fmt.Sprintf("%.0f", rate)
}

func eta(seconds float64) string {
	if seconds > (1000 * time.Hour).Seconds() {
		return "never"
	}
	return (time.Duration(math.Ceil(seconds)) * time.Second).String()
}

// cut shortens text to so many columns and takes out what could move the cursor.
func cut(text string, most int) string {
	var b strings.Builder
	used := 0
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if used += columns(string(r)); used > most {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// columns is how many a text takes, at most: what is not known to be narrow counts as wide.
func columns(text string) (n int) {
	for _, r := range text {
		n++
		if r > 0x24f && r != '█' && r != '░' && r != '…' {
			n++
		}
	}
	return n
}
