package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// moveGoal is where a command wants a move to be.
type moveGoal struct {
	goal    move.Goal
	ask     placement.MoveAsk // what brings another process's move there
	reached []move.Phase      // where it has been reached, also if the move has gone on
}

var (
	goalCutover  = moveGoal{move.ToReversing, placement.AskCutover, []move.Phase{move.Reversing, move.Completing, move.Done}}
	goalRollback = moveGoal{move.ToReverted, placement.AskRollback, []move.Phase{move.Reverted}}
	goalComplete = moveGoal{move.ToDone, placement.AskComplete, []move.Phase{move.Done}}
	goalAbort    = moveGoal{move.ToAborted, placement.AskAbort, []move.Phase{move.Aborted}}
)

// reach brings a move to a goal and prints it: by driving it, or by asking the process that does. In that case it waits for what
// comes of it only if it is told to.
func (m *mover) reach(ctx context.Context, mv placement.Move, g moveGoal, wait bool) error {
	if slices.Contains(g.reached, mv.Phase) {
		return m.showMove(mv)
	}
	after, err := m.bring(ctx, mv, g, wait)
	if err != nil || !slices.Contains(g.reached, after.Phase) {
		err = endOfMove(after, err)
	}
	if err != nil {
		return err
	}
	return m.showMove(after)
}

func (m *mover) bring(ctx context.Context, mv placement.Move, g moveGoal, wait bool) (placement.Move, error) {
	for {
		after, err := m.drive(ctx, mv.ID, g.goal)
		if !errors.Is(err, placement.ErrMoveClaimed) {
			return after, err
		}
		if after, err = m.house.catalog.AskMove(ctx, mv.ID, g.ask); err != nil {
			return after, err
		}
		m.progress("asked the process that drives the move of tenant %s for %s", mv.Slug, g.ask)
		if !wait {
			return after, nil
		}
		after, there, err := m.await(ctx, mv.ID, g)
		if err != nil || there {
			return after, err
		}
		m.progress("the process that drove the move has gone; this one goes on")
	}
}

// maxPauseFlag adds a flag that changes how long the move may keep writers waiting. What it returns records that, if it was given.
func maxPauseFlag(cmd *cobra.Command) (record func(context.Context, *mover, placement.Move) error) {
	longest := cmd.Flags().Duration("max-pause", 0, "from now on, the longest time for which writers may be kept waiting (default as the move has it)")
	return func(ctx context.Context, m *mover, mv placement.Move) error {
		switch {
		case *longest < 0:
			return usageError("--max-pause must be above 0")
		case *longest == 0 || mv.Over():
			return nil
		}
		_, err := m.house.catalog.SetMaxPause(ctx, mv.ID, *longest)
		return err
	}
}

// await looks at a move until it is there, where the goal is, or is driven by nobody.
func (m *mover) await(ctx context.Context, id string, g moveGoal) (mv placement.Move, there bool, err error) {
	for {
		mv, err = m.house.catalog.Move(ctx, id)
		switch {
		case err != nil:
			return mv, false, err
		case slices.Contains(g.reached, mv.Phase):
			return mv, true, nil
		case mv.Over():
			return mv, false, fmt.Errorf("the move of tenant %s is %s, and so not what was asked for: %s", mv.Slug, mv.Phase, oneLine(mv.Error))
		case !mv.Driven:
			return mv, false, nil
		}
		m.screen.see(move.Status{Move: mv})
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return mv, false, fmt.Errorf("what was asked for stays asked for: %w", err)
		}
	}
}

// drive drives a move. When another process does, it first waits to see whether that one is alive: a process that was killed keeps
// its claim for some seconds, and renews it no more.
func (m *mover) drive(ctx context.Context, id string, goal move.Goal) (placement.Move, error) {
	return m.alone(ctx, func() (placement.Move, error) { return m.move.Drive(ctx, id, goal) })
}

func (m *mover) alone(ctx context.Context, work func() (placement.Move, error)) (placement.Move, error) {
	var left time.Duration
	for {
		mv, err := work()
		claimed, ok := errors.AsType[*placement.MoveClaimedError](err)
		switch {
		case !ok:
			mv.Driven = false // any more
			return mv, err
		case left > 0 && claimed.Left > left:
			return mv, err
		}
		if left == 0 {
			m.progress("another process has the move since %s; looking whether it is alive", claimed.Since.Local().Format(time.TimeOnly))
		}
		left = claimed.Left
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return mv, err
		}
	}
}

// pause waits, or returns why it cannot.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
