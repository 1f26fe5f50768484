package bars

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Screen is a terminal with bars at its end. What is written to it stands above them. It is safe for concurrent use.
type Screen struct {
	out   io.Writer
	size  func() (width, height int)
	style Style

	mu     sync.Mutex
	meters map[string]*meter
	drawn  []byte // the bars that are to be seen, and how many lines they take
	lines  int
	width  int // of the terminal when they were drawn
}

// NewScreen returns the screen of a terminal whose size can be asked at any time.
func NewScreen(out io.Writer, size func() (width, height int), style Style) *Screen {
	return &Screen{out: out, size: size, style: style, meters: make(map[string]*meter)}
}

// Draw puts bars, and notes below them, in the place of those that are to be seen.
func (s *Screen) Draw(now time.Time, all []Bar, notes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	width, height := s.size()
	width, height = max(width-1, 1), max(height-1, 2) // the last column and line are left free: a terminal that reaches them moves on
	labels, counts := 0, 0
	for _, b := range all {
		labels = max(labels, min(columns(b.Label), width/3))
		counts = max(counts, len(fmt.Sprintf("%d/%d", b.Total, b.Total)))
	}
	var lines []string
	for _, b := range all {
		if s.meters[b.Label] == nil {
			s.meters[b.Label] = &meter{}
		}
		lines = append(lines, b.line(width, labels, counts, s.meters[b.Label].rate(now, b.Done), s.style))
	}
	notes = notes[:min(len(notes), height-1)]
	if room := height - len(notes); len(lines) > room {
		lines = append(lines[:room-1], cut(fmt.Sprintf("and %d more", len(lines)-room+1), width))
	}
	for _, n := range notes {
		lines = append(lines, cut(n, width))
	}

	up := s.lines
	if s.width != width { // the terminal may have broken the old lines: leave them
		up = 0
	}
	s.drawn = []byte(strings.Join(lines, "\x1b[K\n") + "\x1b[K\n")
	s.lines, s.width = len(lines), width
	s.put(up, nil)
}

// put writes text in the place of the last so many lines, and the bars below it.
func (s *Screen) put(up int, text []byte) {
	var b bytes.Buffer
	b.WriteString("\x1b[?25l\r") // the cursor is hidden only within this one write
	if up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	for line := range bytes.Lines(text) {
		b.Write(bytes.TrimSuffix(line, []byte("\n")))
		b.WriteString("\x1b[K\n")
	}
	b.Write(s.drawn)
	b.WriteString("\x1b[J\x1b[?25h")
	_, _ = s.out.Write(b.Bytes()) // a terminal that is gone has nobody who looks
}

// Write writes lines above the bars.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == 0 {
		return s.out.Write(p)
	}
	s.put(s.lines, p)
	return len(p), nil
}

// End leaves the bars as they are: what follows is written below them.
func (s *Screen) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn, s.lines = nil, 0
}
