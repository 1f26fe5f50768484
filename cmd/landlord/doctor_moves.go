package main

import (
	"context"
	"fmt"
	"time"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// moves finds moves that nobody works at, and what moves have left that are over.
func (d *doctor) moves(ctx context.Context) error {
	left, err := move.Residue(ctx, d.h.catalog)
	for _, l := range left {
		d.out.Residue = append(d.out.Residue, residue{
			Cluster: l.Cluster, Object: l.Object + " in database " + l.Database, Why: "is of no move that is under way", Fix: l.Fix,
		})
	}
	if err != nil && len(d.out.Findings) == 0 { // else the other examinations have not reached it either
		d.find("moves", "see why the operator cannot read it", "%v", err)
	}
	all, err := d.h.catalog.Moves(ctx, placement.MoveFilter{})
	if err != nil {
		return err
	}
	for _, m := range all {
		switch {
		case m.Over():
			if err := d.cleanups(ctx, m); err != nil {
				return err
			}
		case !m.Driven:
			d.idleMove(m)
		}
	}
	return ctx.Err()
}

// idleMove finds a move that stands still, and for which a server may be keeping its log.
func (d *doctor) idleMove(m placement.Move) {
	problem := fmt.Sprintf("its move to %s is %s since %s, and no process works at it", m.Target, m.Phase, m.PhaseAt.Local().Format(time.DateTime))
	problem += d.heldFor(m)
	if m.Error != "" {
		problem += "; the last error was: " + oneLine(m.Error)
	}
	fix := fmt.Sprintf("landlord move resume %s", m.Slug)
	if next := nextOf(m); next != "" {
		fix += "; or " + next
	}
	d.find("tenant "+string(m.Slug), fix, "%s", problem)
}

// cleanups finds what is on record as made by a move that is over.
func (d *doctor) cleanups(ctx context.Context, m placement.Move) error {
	left, err := d.h.catalog.Cleanups(ctx, m.ID)
	for _, x := range left {
		d.out.Residue = append(d.out.Residue, residue{
			Cluster: x.Cluster, Object: x.String(), Why: fmt.Sprintf("is on record as made by a move of tenant %s that is over", m.Slug),
			Fix: fmt.Sprintf("take it away if it is there; then, in the catalog: delete from landlord.move_cleanups where move = '%s' and kind = '%s' and name = '%s'",
				m.ID, x.Kind, x.Name),
		})
	}
	return err
}
