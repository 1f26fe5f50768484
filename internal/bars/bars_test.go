package bars_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/bars"
)

// terminal does what a terminal does with what a screen writes.
type terminal struct {
	bytes.Buffer
	width, height int
}

func (o *terminal) size() (int, int) { return o.width, o.height }

var control = regexp.MustCompile(`^\x1b\[(\??\d*)([A-Za-z])`)

// lines are what is to be seen, with colours as they came.
func (o *terminal) lines(t *testing.T) []string {
	t.Helper()
	var rows []string
	row, line, hidden := 0, "", false
	at := func() {
		for len(rows) <= row {
			rows = append(rows, "")
		}
	}
	at()
	for text := o.String(); text != ""; {
		if m := control.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch m[2] {
			case "A":
				var n int
				_, err := fmt.Sscan(m[1], &n)
				require.NoError(t, err)
				row -= n
				require.GreaterOrEqual(t, row, 0, "above what it has drawn")
			case "K":
				rows[row] = line
			case "J":
				rows = rows[:row]
				at()
			case "l", "h":
				require.Equal(t, "?25", m[1])
				hidden = m[2] == "l"
			case "m":
				line += m[0]
			default:
				require.Fail(t, "unknown sequence", "%q", m[0])
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch r {
		case '\r':
			line = ""
		case '\n':
			if line != "" {
				rows[row] = line
			}
			row, line = row+1, ""
			at()
		default:
			line += string(r)
		}
	}
	require.False(t, hidden, "the cursor is to be seen")
	require.Equal(t, len(rows)-1, row, "the cursor is below all")
	return rows[:row]
}

func TestBarsAreDrawnInPlaceAndOthersWriteAboveThem(t *testing.T) {
	t.Parallel()
	out := &terminal{width: 80, height: 24}
	s := bars.NewScreen(out, out.size, bars.Style{ASCII: true})
	fmt.Fprintln(s, "before")
	start := time.Unix(0, 0)
	s.Draw(start, []bars.Bar{{Label: "run 7", Total: 200}, {Label: "  wave 1", Total: 100}}, "a note", "and one more")
	s.Draw(start.Add(4*time.Second), []bars.Bar{
		{Label: "run 7", Done: 80, Total: 200, Failed: 3},
		{Label: "  wave 1", Done: 80, Total: 100, Failed: 3, PutOff: 2},
		{Label: "  wave 2", Total: 100, Waiting: true},
	}, "another note")
	fmt.Fprintln(s, "a warning\nof two lines")
	require.Equal(t, []string{
		"before",
		"a warning",
		"of two lines",
		"run 7     ########............   80/200  20/s  ETA 6s  3 failed",
		"  wave 1  ################....   80/100  20/s  ETA 1s  3 failed  2 put off",
		"  wave 2  ....................    0/100",
		"another note",
	}, out.lines(t))

	s.End()
	fmt.Fprintln(s, "after")
	s.Draw(start, []bars.Bar{{Label: "x", Done: 1, Total: 1}})
	lines := out.lines(t)
	require.Equal(t, []string{"another note", "after", "x  ####################  1/1"}, lines[len(lines)-3:])
}

func TestARateIsThatOfTheLastSecondsAndEndsWithTheWork(t *testing.T) {
	t.Parallel()
	out := &terminal{width: 60, height: 24}
	s := bars.NewScreen(out, out.size, bars.Style{ASCII: true})
	draw := func(second, done int) string {
		s.Draw(time.Unix(int64(second), 0), []bars.Bar{{Label: "x", Done: done, Total: 1000}})
		lines := out.lines(t)
		require.Len(t, lines, 1)
		_, text, _ := strings.Cut(lines[0], "/1000")
		return strings.TrimSpace(text)
	}
	require.Empty(t, draw(0, 100), "it may have been joined")
	require.Equal(t, "100/s  ETA 8s", draw(1, 200))
	for i := range 9 {
		draw(2+i, 200)
	}
	require.Empty(t, draw(12, 200), "it stands still")
	require.Equal(t, "0.1/s  ETA 2h13m10s", draw(13, 201))
	require.Empty(t, draw(14, 50), "it is begun anew")
	require.Equal(t, "50/s  ETA 18s", draw(15, 100))
	require.Empty(t, draw(16, 1000))
}

func TestNothingIsWiderThanTheTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{1, 2, 9, 20, 39, 40, 41, 60, 79, 80, 120, 300} {
		for _, height := range []int{1, 2, 3, 7, 24} {
			out := &terminal{width: width, height: height}
			s := bars.NewScreen(out, out.size, bars.Style{})
			var all []bars.Bar
			for i := range 9 {
				all = append(all, bars.Bar{Label: fmt.Sprintf("a rather long label %d", i), Done: i * 100, Total: 1000, Failed: i, PutOff: i})
			}
			for i := range 3 {
				s.Draw(time.Unix(int64(i), 0), all, "a note\x1b[2J\r\n\u202e"+strings.Repeat("é漢", 100))
			}
			lines := out.lines(t)
			require.Less(t, len(lines), max(height, 3), "%dx%d", width, height)
			for _, l := range lines {
				require.Less(t, utf8.RuneCountInString(l), max(width, 2), "%q", l)
				require.NotContains(t, l, "\u202e")
			}
			if height == 7 && width == 80 {
				require.Equal(t, "and 5 more", lines[4])
			}
		}
	}
}

func TestATerminalThatBecomesNarrowerKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	out := &terminal{width: 80, height: 24}
	s := bars.NewScreen(out, out.size, bars.Style{ASCII: true})
	fmt.Fprintln(s, "before")
	one := []bars.Bar{{Label: "x", Done: 1, Total: 2}}
	s.Draw(time.Unix(0, 0), one)
	out.width = 41
	s.Draw(time.Unix(1, 0), one)
	s.Draw(time.Unix(2, 0), one)
	require.Equal(t, []string{"before", "x  ##########..........  1/2", "x  #####.....  1/2"}, out.lines(t))
}

func TestColorsAreLeftOutWhereTheyAreNotWanted(t *testing.T) {
	t.Parallel()
	for _, color := range []bool{true, false} {
		out := &terminal{width: 80, height: 24}
		s := bars.NewScreen(out, out.size, bars.Style{Color: color})
		s.Draw(time.Unix(0, 0), []bars.Bar{{Label: "x", Done: 10, Total: 20, Failed: 1}})
		line := out.lines(t)[0]
		require.Equal(t, color, strings.Contains(line, "\x1b["), "%q", line)
		require.Contains(t, line, "█")
		require.Equal(t, color, strings.Contains(line, "\x1b[31m█\x1b[m"), "the failure is there to see")
	}
}
