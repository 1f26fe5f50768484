package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
)

// finishTimeout bounds what is done behind the commit point before somebody is told.
const finishTimeout = 30 * time.Second

// passedOn tells whether a row of the old home says that the tenant was passed on to the new one.
func (cfg Config) passedOn(f *isolation.Fence) bool {
	return f != nil && f.State == isolation.Moved && f.Epoch == cfg.From.Epoch && f.MovedTo != nil && *f.MovedTo == cfg.Address
}

// finish opens the new home of a committed attempt and lets the tenant's writers go.
func (c *Cutover) finish(ctx context.Context, a *attempt, r *Result) error {
	r.Committed = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	err := a.step(ctx, "open", func(ctx context.Context) error {
		if c.cfg.Same {
			return nil
		}
		if a.fence.IsClosed() || a.to.IsClosed() {
			return c.complete(ctx)
		}
		if err := awaitStandbys(ctx, a.fence); err != nil {
			return err
		}
		return c.receive(ctx, a.to)
	})
	if err != nil && !a.fence.IsClosed() { // the tenant is told of its new home, and waits there
		_, _ = a.unlock(ctx)
	}
	if err != nil {
		return &UnfinishedError{Err: err}
	}
	r.Opened = true
	r.Pause = a.paused(ctx)
	c.log.InfoContext(ctx, "the tenant has a new home", "from", c.cfg.From.Key.Home, "to", c.cfg.To.Key.Home,
		"epoch", c.cfg.To.Epoch, "pause", r.Pause, "drain", r.Drain, "attempts", r.Attempts)
	if err := c.cfg.Step(ctx, "cutover-opened"); err != nil {
		return &UnfinishedError{Err: err}
	}
	return nil
}

func (c *Cutover) receive(ctx context.Context, conn *pgx.Conn) error {
	return isolation.Receive(ctx, conn, c.cfg.To.Key, c.cfg.ToState, c.cfg.To.Epoch, c.cfg.Owner)
}

// Settle finds out what has become of an attempt that somebody left behind: whether the tenant was passed on, after which Finish is
// all that may be done. If not, the old home is open when it returns. It waits until a fence that is still up is overdue. A row that
// stands there in another state or epoch is a *isolation.FenceError.
func (c *Cutover) Settle(ctx context.Context) (passedOn bool, err error) {
	conn, err := c.cfg.From.Connect(ctx)
	if err != nil {
		return false, fmt.Errorf("settle the cutover: %w", err)
	}
	defer closeConn(ctx, conn)
	key, epoch := c.cfg.From.Key, c.cfg.From.Epoch
	for {
		err := isolation.LowerOverdueFence(ctx, conn, key, epoch)
		lost := new(isolation.FenceError)
		switch {
		case err == nil:
			return false, nil
		case !errors.As(err, &lost):
			return false, fmt.Errorf("settle the cutover: %w", err)
		case c.cfg.passedOn(lost.Stands):
			return true, nil
		case lost.Stands == nil || lost.Stands.State != isolation.Fenced || lost.Stands.Epoch != epoch:
			return false, fmt.Errorf("settle the cutover: %w", err)
		}
		select {
		case <-time.After(firstBackOff):
		case <-ctx.Done():
			return false, fmt.Errorf("settle the cutover: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// Finish opens the new home of a tenant that was passed on, whoever did that. It can be called again. Where the tenant was not passed
// on, it is a *isolation.FenceError, and nothing happens. An error that matches isolation.ErrFence says that the new home is another's.
func (c *Cutover) Finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := c.complete(ctx); err != nil {
		return &UnfinishedError{Err: err}
	}
	return nil
}

// complete opens the new home on sessions of its own.
func (c *Cutover) complete(ctx context.Context) error {
	from, err := c.cfg.From.Connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.cfg.From.Key.Home, err)
	}
	defer closeConn(ctx, from)
	old, err := isolation.ReadFence(ctx, from, c.cfg.From.Key)
	if err != nil {
		return err
	}
	if !c.cfg.passedOn(&old) {
		return &isolation.FenceError{Act: "open the new home", Home: c.cfg.From.Key.Home, Stands: &old}
	}
	if err := awaitStandbys(ctx, from); err != nil {
		return err
	}
	to, err := c.cfg.To.Connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.cfg.To.Key.Home, err)
	}
	defer closeConn(ctx, to)
	err = c.receive(ctx, to)
	lost := new(isolation.FenceError)
	if errors.As(err, &lost) && lost.Stands != nil && lost.Stands.State == c.cfg.ToState { // a dead mover's
		if err = isolation.TakeOver(ctx, to, c.cfg.To.Key, c.cfg.ToState, lost.Stands.Epoch, c.cfg.Owner); err == nil {
			err = c.receive(ctx, to)
		}
	}
	return err
}
