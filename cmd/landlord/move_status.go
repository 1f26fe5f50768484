package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// moveLive is how far a move is now, as far as its servers can be asked.
type moveLive struct {
	LagMS       float64 `json:"lag_ms"`
	WAL         int64   `json:"wal"`          // bytes of log that are kept for the move
	LeftSeconds float64 `json:"left_seconds"` // estimated, of the copy
	Waiting     string  `json:"waiting"`      // for what; empty: for nothing
}

func viewLive(s move.Status) *moveLive {
	return &moveLive{
		LagMS: milliseconds(s.Lag), WAL: s.WAL, LeftSeconds: s.Left.Seconds(), Waiting: s.Waiting,
	}
}

func (l moveLive) write(row func(name, format string, args ...any)) {
	if l.LeftSeconds > 0 {
		row("copy", "another %s", secondsText(l.LeftSeconds))
	}
	row("log kept", "%s", bytesText(l.WAL))
}

func newMoveStatusCmd(a *app) *cobra.Command {
	cmd := moveReader(a, "status", "Show how far a tenant's move is", func(ctx context.Context, m *mover, mv placement.Move) error {
		v := m.look(ctx, mv)
		return m.show(v, v.write)
	})
	cmd.Long = `Show a tenant's move, or its last one: how far it is, who drives it, and what a person can do. It may be asked from
anywhere; the servers are asked for what the catalog does not know, if they can be reached.`
	cmd.Example = `  landlord move status acme
  landlord move status acme --json | jq -r .state`
	return cmd
}

// look is a move with what its servers say of it.
func (m *mover) look(ctx context.Context, mv placement.Move) moveView {
	v := viewMove(mv)
	if mv.Over() {
		return v
	}
	s, err := m.move.Look(ctx, mv)
	if err != nil {
		m.progress("the move's servers cannot be asked: %s", oneLine(err.Error()))
		return v
	}
	v = viewMove(s.Move)
	v.Live = viewLive(s)
	return v
}

// moveReader makes a command that only looks at the move of one tenant.
func moveReader(a *app, use, short string, run func(context.Context, *mover, placement.Move) error) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   use + " TENANT",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			return a.aboutMove(cmd.Context(), w, run)
		},
	}
	idFlag(cmd, &id)
	return cmd
}

// aboutMove runs fn with the last move of a tenant.
func (a *app) aboutMove(ctx context.Context, w whose, fn func(context.Context, *mover, placement.Move) error) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	mv, err := m.lastMove(ctx, w)
	if err != nil {
		return err
	}
	return fn(ctx, m, mv)
}
