package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateWatchCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "Follow the last run, from any machine, until it ends",
		Long: `Follow the last run, in whatever processes it is at work, until it is over, paused or halted, and end as 'landlord
migrate up' would. It asks the catalog only, and waits for one that goes away meanwhile. Ctrl-C ends the watching, not
the run.

With --json it prints an object a second, one on each line. The last one also lists what failed and what is skipped.`,
		Example: `  landlord migrate watch
  landlord migrate watch --json | jq -r '"\(.verified) verified, \(.failed) failed"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migrateWatch(cmd.Context()) },
	}
}

func (a *app) migrateWatch(ctx context.Context) error {
	a.patience = -1 // the watching itself asks again, and says so
	return a.withFleet(ctx, "", false, func(f *fleet.Fleet, _ *placement.Catalog) error {
		w := watcher{app: a}
		a.follow = w.see
		s, err := f.Watch(ctx, w.lose)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the watching ends, not the run: %w", ctx.Err())
		case err == nil && a.json:
			if err := errors.Join(w.err, a.showLine(viewRun(s))); err != nil {
				return err
			}
			return endOf(s)
		}
		return a.showRun(ctx, s, err)
	})
}

// watcher shows what is seen of a run.
type watcher struct {
	*app
	last fleet.Status
	lost time.Time // since when the catalog cannot be reached; zero: it can
	said time.Time // when that was said last
	err  error     // of writing
}

func (w *watcher) see(s fleet.Status) {
	w.last, w.lost, w.said = s, time.Time{}, time.Time{}
	if !w.json {
		w.draw(s)
	} else if s.Run.State == placement.RunRunning {
		v := viewRun(s)
		v.Failures, v.Skips = nil, nil // not asked for while it is at work
		w.err = errors.Join(w.err, w.showLine(v))
	}
}

// lose says that the catalog cannot be reached: each time on bars, elsewhere every ten seconds.
func (w *watcher) lose(err error) {
	now := time.Now()
	if w.lost.IsZero() {
		w.lost = now
	}
	text := fmt.Sprintf("the catalog cannot be reached for %s, and is asked again: %s", now.Sub(w.lost).Round(time.Second), oneLine(err.Error()))
	switch {
	case w.screen != nil && w.last.Run.ID != "" && !w.json:
		w.screen.Draw(now, barsOf(w.last), text)
	case now.Sub(w.said) >= 10*time.Second:
		w.said = now
		w.progress("%s", text)
	}
}

// showLine prints an object on a line of its own.
func (a *app) showLine(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}
