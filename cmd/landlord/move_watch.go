package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

func newMoveWatchCmd(a *app) *cobra.Command {
	cmd := moveReader(a, "watch", "Follow a tenant's move, from any machine, until it is over", func(ctx context.Context, m *mover, mv placement.Move) error {
		return m.watch(ctx, mv)
	})
	cmd.Long = `Follow a tenant's move, whichever process drives it, until it is over. It asks the catalog and the servers and changes
nothing. Ctrl-C ends the watching, not the move. With --json it prints an object a second, one on each line.`
	cmd.Example = `  landlord move watch acme
  landlord move watch acme --json | jq -r '"\(.state) \(.rows) rows, lag \(.live.lag_ms) ms"'`
	return cmd
}

func (m *mover) watch(ctx context.Context, mv placement.Move) error {
	m.screen.hints = true
	for {
		s := move.Status{Move: mv}
		if !mv.Over() {
			looked, err := m.move.Look(ctx, mv)
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("the watching ends, not the move: %w", ctx.Err())
			case err != nil:
				s.Waiting = "the servers cannot be asked: " + oneLine(err.Error())
			default:
				s = looked
			}
		}
		if m.json {
			v := viewMove(s.Move)
			v.Live = viewLive(s)
			if err := m.showLine(v); err != nil {
				return err
			}
		} else {
			m.screen.see(s)
		}
		if mv.Over() {
			break
		}
		if err := pause(ctx, time.Second); err != nil {
			return fmt.Errorf("the watching ends, not the move: %w", err)
		}
		next, err := m.house.catalog.Move(ctx, mv.ID)
		switch {
		case errors.Is(err, placement.ErrUnavailable):
			m.progress("the catalog cannot be reached, and is asked again: %s", oneLine(err.Error()))
		case err != nil:
			return err
		default:
			mv = next
		}
	}
	if m.json {
		return endOfMove(mv, nil)
	}
	if err := m.showMove(mv); err != nil {
		return err
	}
	return endOfMove(mv, nil)
}
