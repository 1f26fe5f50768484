package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func newMigrateHistoryCmd(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history [RUN]",
		Short: "List past runs, or show one of them",
		Long: `List the runs that began last, the newest first. With the number of a RUN, show that one as 'landlord migrate status'
shows the last.`,
		Example: `  landlord migrate history
  landlord migrate history 7
  landlord migrate history --json --limit 100 | jq '.[] | select(.failed > 0) | .run'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				number, err := strconv.ParseInt(args[0], 10, 64)
				if err != nil || number < 1 {
					return usageError("show run %.50q: name it by its number", args[0])
				}
				return a.migrateRunShow(cmd.Context(), number)
			}
			if limit < 1 {
				return usageError("--limit is a number of runs, from 1")
			}
			return a.migrateHistory(cmd.Context(), limit)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "show at most this `number` of runs")
	return cmd
}

// pastRunView is a run as it is listed.
type pastRunView struct {
	Run       int64      `json:"run"`
	State     string     `json:"state"`
	Phases    []string   `json:"phases"` // of its files; none: it is from before they were recorded
	Newest    int64      `json:"newest"`
	Targets   int        `json:"targets"`
	Verified  int        `json:"verified"`
	Failed    int        `json:"failed"`
	Skipped   int        `json:"skipped"`
	Actor     string     `json:"actor"`
	StartedAt time.Time  `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"` // null: it is not over
	Seconds   float64    `json:"seconds"`
	Why       string     `json:"why,omitempty"`
}

func (a *app) migrateHistory(ctx context.Context, limit int) error {
	return a.withFleet(ctx, "", false, func(f *fleet.Fleet, _ *placement.Catalog) error {
		runs, err := f.History(ctx, limit)
		if err != nil {
			return err
		}
		views := []pastRunView{}
		for _, r := range runs {
			views = append(views, pastRunView{
				r.Number, string(r.State), append([]string{}, r.Phases...), r.Newest, r.Targets, r.Verified, r.Failed, r.Skipped, r.Actor, r.StartedAt, r.EndedAt,
				r.Took.Seconds(), r.Why,
			})
		}
		return a.show(views, func(w io.Writer) { writeHistory(w, views) })
	})
}

func writeHistory(w io.Writer, runs []pastRunView) {
	if len(runs) == 0 {
		fmt.Fprintln(w, "there is no run")
		return
	}
	fmt.Fprintln(w, "RUN\tSTATE\tPHASES\tNEWEST\tTARGETS\tVERIFIED\tFAILED\tSKIPPED\tSTARTED\tTOOK\tBY")
	for _, r := range runs {
		took := time.Duration(r.Seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
		if r.EndedAt == nil {
			took += " so far"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", r.Run, r.State, strings.Join(r.Phases, ", "), r.Newest, r.Targets, r.Verified, r.Failed, r.Skipped,
			r.StartedAt.Local().Format(time.RFC3339), took, r.Actor)
	}
}

func (a *app) migrateRunShow(ctx context.Context, number int64) error {
	return a.withFleet(ctx, "", false, func(f *fleet.Fleet, _ *placement.Catalog) error {
		s, err := f.StatusOf(ctx, number)
		switch {
		case errors.Is(err, placement.ErrNoRun):
			return fmt.Errorf("there is no run %d: landlord migrate history lists those there are", number)
		case err != nil:
			return err
		}
		return a.show(viewRun(s), viewRun(s).write)
	})
}
