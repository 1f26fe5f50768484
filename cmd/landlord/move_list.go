package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newMoveListCmd(a *app) *cobra.Command {
	var f placement.MoveFilter
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the moves that are not over, or all there were",
		Long: `List the moves that are not over, the last one first; with --all also those that are. One that is driven by nobody
stands still: 'landlord move resume' goes on with it.`,
		Example: `  landlord move list
  landlord move list --all --cluster b --json | jq -r '.[] | "\(.tenant) \(.state) \(.pause_ms)"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Limit < 0 {
				return usageError("--limit is negative")
			}
			f.Active = !all
			return a.listMoves(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only moves from or to this cluster")
	cmd.Flags().BoolVar(&all, "all", false, "also those that are over")
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "at most this `number`; 0: all")
	return cmd
}

func (a *app) listMoves(ctx context.Context, f placement.MoveFilter) error {
	catalog, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	defer catalog.Close()
	found, err := catalog.Moves(ctx, f)
	if err != nil {
		return err
	}
	views := make([]moveView, 0, len(found))
	for _, m := range found {
		views = append(views, viewMove(m))
	}
	return a.show(views, func(w io.Writer) { writeMoves(w, views) })
}

func writeMoves(w io.Writer, views []moveView) {
	if len(views) == 0 {
		fmt.Fprintln(w, "there is none")
		return
	}
	fmt.Fprintln(w, "TENANT\tSTATE\tDRIVEN\tFROM\tTO\tROWS\tPAUSE\tSTARTED")
	for _, v := range views {
		driven, pause := "no", "-"
		switch {
		case v.Driven:
			driven = "yes"
		case v.EndedAt != nil:
			driven = "-"
		}
		if v.PauseMS > 0 {
			pause = fmt.Sprintf("%.1f ms", v.PauseMS)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s %s\t%d\t%s\t%s\n", v.Tenant, v.State, driven,
			v.Source.Model, v.Source.Home, v.Target.Model, v.Target.Home, v.Rows, pause, v.StartedAt.Local().Format(time.DateTime))
	}
}
