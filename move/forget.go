package move

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

// ErrAnswers reports a server that is not gone: what a move has made there can be taken away.
var ErrAnswers = errors.New("the target's server answers: landlord move abort takes away what the move has made there")

// Forget gives up a move before its cutover whose target's server is gone for good, or aborts one on that server's behalf that
// already is being aborted. The tenant is where it was, and active again. What the move has made at the source is taken away; what it
// may have made at the target stays on record, for landlord doctor to report. A server that answers is [ErrAnswers]; a move that is
// cut over, or over, is [placement.ErrMovePhase]: the tenant's rows are at the target, or perhaps are.
func (m *Mover) Forget(ctx context.Context, id string) (placement.Move, error) {
	return m.claim(ctx, id, ToAborted, (*drive).forget)
}

// forget cannot take the target over from whoever drove the move before. What keeps that one from passing the tenant on is that its
// stream is gone, without which no attempt comes to its end, and that it cannot record another attempt.
func (d *drive) forget(ctx context.Context) error {
	if !slices.Contains(append([]Phase{Fencing, Aborting}, beforeCommit...), d.mv.Phase) {
		return fmt.Errorf("%w: it is %s", placement.ErrMovePhase, d.mv.Phase)
	}
	if err := d.reaching(ctx, func() error { return d.readSides(ctx) }); err != nil {
		return err
	}
	unreachable := d.target.with(ctx, func(*pgx.Conn) error { return nil })
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case unreachable == nil || pgerr.Code(unreachable) != "":
		return ErrAnswers
	}
	if err := d.closeStream(ctx, forward); err != nil {
		return err
	}
	if d.mv.Phase != Aborting {
		if err := d.stays(ctx, Aborting); err != nil {
			return err
		}
		d.mv.Error = "its target was given up: " + unreachable.Error()
		if err := d.advance(ctx, Aborting); err != nil {
			return err
		}
	}
	if err := d.cleanAt(ctx, d.source); err != nil {
		return err
	}
	return d.advance(ctx, Aborted)
}
