package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// benchReport is what bench prints.
type benchReport struct {
	Machine  benchMachine   `json:"machine"`
	Seconds  float64        `json:"seconds_each"`
	Sections []benchSection `json:"sections"`
}

// benchMachine is what the figures depend on.
type benchMachine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Kernel   string `json:"kernel"`
	Platform string `json:"platform"`
	Go       string `json:"go"`
	PGX      string `json:"pgx"`
	Landlord string `json:"landlord"`
}

// benchSection is one run: ways that took turns.
type benchSection struct {
	Mode       string     `json:"mode"`
	Model      string     `json:"model"`
	Tenant     string     `json:"tenant,omitempty"`
	Network    string     `json:"network"`
	AskedUS    float64    `json:"round_trip_asked_us"`    // that was to be added
	AchievedUS float64    `json:"round_trip_achieved_us"` // that was added, by the medians of this run
	PostgreSQL string     `json:"postgresql"`
	Ways       []benchWay `json:"ways"`
}

// benchWay is what one way took.
type benchWay struct {
	Name     string  `json:"name"`
	Count    int     `json:"count"`
	MedianUS float64 `json:"median_us"`
	P99US    float64 `json:"p99_us"`
	Against  string  `json:"against,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`     // of the medians
	RatioP5  float64 `json:"ratio_p5,omitempty"`  // of the ratios of single rounds
	RatioP95 float64 `json:"ratio_p95,omitempty"` // likewise
}

func newBenchReport(each time.Duration) benchReport {
	v := readVersion()
	m := benchMachine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), Kernel: "unknown", Platform: v.Platform, Go: v.Go, PGX: "unknown", Landlord: v.Version,
	}
	if v.Commit != "" {
		m.Landlord += " " + v.Commit[:min(12, len(v.Commit))]
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/jackc/pgx/v5" {
				m.PGX = d.Version
			}
		}
	}
	return benchReport{Machine: m, Seconds: each.Seconds(), Sections: []benchSection{}}
}

// cpuModel is the name of the processor, as far as the system tells it.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// write prints Markdown: a report is kept more often than it is looked at.
func (r benchReport) write(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "Machine: %s, %d cores, kernel %s, %s. %s, pgx %s, landlord %s. %g s for each table.\n",
		m.CPU, m.Cores, m.Kernel, m.Platform, m.Go, m.PGX, m.Landlord, r.Seconds)
	for _, s := range r.Sections {
		s.write(w)
	}
}

func (s benchSection) write(w io.Writer) {
	fmt.Fprintf(w, "\n### Mode %s, %s, PostgreSQL %s, network %s\n\n", s.Mode, s.Model, s.PostgreSQL, s.Network)
	if s.AskedUS > 0 {
		fmt.Fprintf(w, "Round trip: %.0f µs to be added, %.0f µs achieved.\n\n", s.AskedUS, s.AchievedUS)
	}
	fmt.Fprint(w, "| way | median | p99 | ratio | of single rounds | to |\n|---|--:|--:|--:|--:|---|\n")
	for _, way := range s.Ways {
		fmt.Fprintf(w, "| %s | %.0f µs | %.0f µs |", way.Name, way.MedianUS, way.P99US)
		if way.Against == "" {
			fmt.Fprint(w, " | | |\n")
			continue
		}
		fmt.Fprintf(w, " **%.2f** | %.2f to %.2f | %s |\n", way.Ratio, way.RatioP5, way.RatioP95, way.Against)
	}
}
