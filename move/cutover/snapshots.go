package cutover

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/verify"
)

// Snapshots takes snapshots of both homes that show the same state, while the tenant goes on working at the old one: its writers wait
// only until the old home's snapshot is taken and a message is written behind it, at which the follower stops for the other one. The
// caller closes both. It tries for as long as Run does.
func (c *Cutover) Snapshots(ctx context.Context) (before, after *verify.Snapshot, err error) {
	err = c.try(ctx, "take snapshots of both homes", func(ctx context.Context) error {
		before, after, err = c.snapshots(ctx)
		return err
	})
	return before, after, err
}

func (c *Cutover) snapshots(ctx context.Context) (before, after *verify.Snapshot, err error) {
	a := &attempt{Cutover: c, id: uuid.NewString()}
	defer a.close(ctx)
	if err := a.open(ctx); err != nil {
		return nil, nil, later(ctx, err, false)
	}
	if err := a.step(ctx, "gate", a.gate); err != nil {
		return nil, nil, later(ctx, err, false)
	}
	type taken struct {
		snapshot *verify.Snapshot
		err      error
	}
	arrived := make(chan taken, 1)
	token := "verify " + a.id
	cancel := c.cfg.Follower.At(token, func(ctx context.Context, _ repl.LSN) error {
		s, err := a.snapshot(ctx, &a.after, c.cfg.To)
		arrived <- taken{s, err}
		return nil
	})
	var r Result
	stalled, err := a.lock(ctx, &r)
	if err == nil {
		before, err = a.snapshot(ctx, &a.before, c.cfg.From)
	}
	if err == nil {
		const q = `select pg_logical_emit_message(true, '` + isolation.MessagePrefix + `', $1)`
		_, err = a.fence.Exec(ctx, q, token)
	}
	_, unlockErr := a.unlock(context.WithoutCancel(ctx)) // a session that is gone has let go
	err = errors.Join(err, unlockErr)
	answered := false
	if err == nil {
		select {
		case got := <-arrived:
			after, err, answered = got.snapshot, got.err, true
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err == nil {
		return before, after, nil
	}
	if !answered && !cancel() { // the follower is at it
		after = (<-arrived).snapshot
	}
	for _, s := range []*verify.Snapshot{before, after} {
		if s != nil {
			_ = s.Close(ctx)
		}
	}
	return nil, nil, later(ctx, fmt.Errorf("freeze both homes: %w", err), stalled)
}
