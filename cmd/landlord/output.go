package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// show prints a command's result: v as JSON, or what text writes, with its tab-separated columns aligned.
func (a *app) show(v any, text func(w io.Writer)) error {
	if a.screen != nil {
		a.screen.End()
	}
	if a.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("print the result: %w", err)
		}
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	text(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// progress tells a person what goes on. It is never a result.
func (a *app) progress(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// logTo is where log records go: to what stderr is when they are written.
type logTo struct{ a *app }

func (l logTo) Write(p []byte) (int, error) { return l.a.stderr.Write(p) }
