package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// prepare makes the target's home and what the stream needs. It begins anew whenever it is entered: a slot of which it is not on record
// where it begins is of no use, and without the slot what was copied before is of none either.
func (d *drive) prepare(ctx context.Context) (Phase, error) {
	d.stopStream()
	things := append(sideThings(d.source), sideThings(d.target)...)
	if err := d.intend(ctx, append(things, homeThing(d.target))...); err != nil {
		return "", err
	}
	steps := []struct {
		point string
		do    func(context.Context) error
	}{
		{"hold-source", func(ctx context.Context) error { return d.hold(ctx, d.source) }},
		{"make-home", func(ctx context.Context) error { return d.cfg.Homes.Make(ctx, d.target.Placement, d.owner) }},
		{"hold-target", func(ctx context.Context) error { return d.hold(ctx, d.target) }},
		{"forget-copy", d.forgetCopy},
		{"inspect", func(ctx context.Context) error { d.pairs = nil; return d.readPairs(ctx) }},
		{"open-stream", d.openForward},
	}
	for _, s := range steps {
		if err := fault(ctx, s.point); err != nil {
			return "", err
		}
		if err := s.do(ctx); err != nil {
			return "", err
		}
	}
	return Copying, nil
}

// forgetCopy empties the ledger of what was copied by the help of an earlier slot, or in an earlier attempt. What is still being
// committed of that, on connections that are given up, is waited for: it would come back behind what is copied now.
func (d *drive) forgetCopy(ctx context.Context) error {
	return d.target.with(ctx, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := isolation.HoldFence(ctx, tx, d.target.key(), isolation.Importing, d.owner); err != nil {
				return err
			}
			// What an attempt that was undone was just committing is waited for, and forgotten with the rest.
			const alone = `select from landlord.fence where tenant = $1 and home = $2 for update`
			if _, err := tx.Exec(ctx, alone, d.mv.Tenant.String(), d.target.Home.String()); err != nil {
				return err
			}
			return forgetProgress(ctx, tx, d.mv.ID)
		})
	})
}

func (d *drive) readPairs(ctx context.Context) (err error) {
	if d.pairs == nil {
		d.pairs, err = d.inspect(ctx)
	}
	return err
}

func (d *drive) openForward(ctx context.Context) error {
	d.mv.StartLSN, d.mv.StartXID, d.mv.Rows, d.mv.Bytes, d.mv.Changes = "", 0, 0, 0, 0
	if d.mv.Offline {
		return nil
	}
	name, start, err := d.openStream(ctx, d.source, forward, tablesOf(d.pairs, func(p table.Pair) table.Table { return p.Source }))
	if err != nil {
		return err
	}
	d.mv.ForwardSlot, d.mv.StartLSN = name, start.String()
	if err := fault(ctx, "forward-start"); err != nil {
		return err
	}
	d.mv.StartXID, err = firstXID(ctx, d.source)
	return err
}

// copy brings the rows over. An offline move does that behind its fence.
func (d *drive) copy(ctx context.Context) (Phase, error) {
	if d.mv.Offline {
		return Following, nil
	}
	if err := d.readPairs(ctx); err != nil {
		return "", err
	}
	if err := d.copyRows(ctx); err != nil {
		return "", err
	}
	return Following, fault(ctx, "copied")
}

// copyRows brings the rows over, chunk by chunk.
func (d *drive) copyRows(ctx context.Context) error {
	var before int64 // what had been copied when began; both are of the first chunk's end
	var began time.Time
	_, err := chunk.Copy(ctx, chunk.Config{
		Move: d.mv.ID, Pairs: d.pairs, Source: d.source.connect, Target: d.target.connect, SameDatabase: d.sameDatabase(),
		Fence: chunk.Fence{Tenant: d.mv.Tenant.String(), Home: d.target.Home.String(), Owner: d.owner},
		Since: d.mv.StartXID, Workers: d.cfg.Workers, Rate: d.mv.MaxRate,
		Progress: func(p chunk.Progress) {
			if began.IsZero() {
				before, began = p.Rows, time.Now()
			}
			d.mu.Lock()
			d.status.Move.Rows, d.status.Move.Bytes = p.Rows, p.Bytes
			d.status.expect(p.Rows-before, time.Since(began))
			d.mu.Unlock()
		},
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.mv.Rows, d.mv.Bytes = d.status.Move.Rows, d.status.Move.Bytes
	d.status.Left = 0
	d.mu.Unlock()
	return d.analyze(ctx)
}

// analyze tells the planner of the target what its tables hold now. In tables that others share it knows.
func (d *drive) analyze(ctx context.Context) error {
	if d.target.Model == placement.ModelShared {
		return nil
	}
	return d.target.with(ctx, func(conn *pgx.Conn) error {
		if d.mv.MaxRate > 0 { // to the pages that it samples
			if _, err := conn.Exec(ctx, "set vacuum_cost_delay = '10ms'"); err != nil {
				return err
			}
		}
		for _, p := range d.pairs {
			if _, err := conn.Exec(ctx, "analyze "+p.Target.SQL()); err != nil {
				return fmt.Errorf("analyze %s: %w", p.Target.Name, err)
			}
		}
		return nil
	})
}

// catchUp applies what was written since the copy began, makes the way back ready, and compares both homes.
func (d *drive) catchUp(ctx context.Context) (Phase, error) {
	if err := d.following(ctx); err != nil {
		return "", err
	}
	if d.mv.Offline {
		return Verified, nil
	}
	l := d.leg(forward)
	if _, err := d.ping(ctx, l); err != nil {
		return "", err
	}
	if err := fault(ctx, "caught-up"); err != nil {
		return "", err
	}
	if err := d.openReverse(ctx); err != nil {
		return "", err
	}
	if err := fault(ctx, "verify"); err != nil {
		return "", err
	}
	return Verified, d.verify(ctx, l)
}

// following starts the stream that keeps the target in step, unless it runs.
func (d *drive) following(ctx context.Context) error {
	if err := d.readPairs(ctx); err != nil || d.mv.Offline {
		return err
	}
	if s := d.stream; s != nil {
		err := s.failed()
		if err == nil {
			return nil
		}
		d.stopStream()
		if !passes(err) {
			return err
		}
	}
	at, err := repl.ParseLSN(d.mv.StartLSN)
	if err != nil {
		return err
	}
	return d.startStream(d.life, d.leg(forward), at)
}

// openReverse makes the slot of the way back and shows that it works, long before it is needed.
func (d *drive) openReverse(ctx context.Context) error {
	l := d.leg(reverse)
	ready, err := d.reverseReady(ctx)
	if err == nil && !ready {
		d.mv.ReverseSlot, _, err = d.openStream(ctx, l.from, reverse, tablesOf(l.pairs, func(p table.Pair) table.Table { return p.Source }))
	}
	if err != nil {
		return err
	}
	if err := fault(ctx, "prove-reverse"); err != nil {
		return err
	}
	return d.prove(ctx, l)
}

// reverseReady tells whether this process has made the slot of the way back already. Another driver's may have been let go of since.
func (d *drive) reverseReady(ctx context.Context) (ready bool, err error) {
	if d.mv.ReverseSlot != d.newSlotName(reverse) {
		return false, nil
	}
	const q = `select exists (select from pg_replication_slots where slot_name = $1 and wal_status is distinct from 'lost')`
	err = d.target.with(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, q, d.mv.ReverseSlot).Scan(&ready) })
	return ready, err
}

const (
	lookAround  = 100 * time.Millisecond // how soon a driver that stands by does what is asked for
	forgetEvery = 10 * time.Second       // how often the log is let go of that the unused slot of the way back holds
)

// stand keeps the target in step until somebody wants the cutover.
func (d *drive) stand(ctx context.Context) (Phase, error) {
	if d.mv.Offline {
		return Fencing, nil
	}
	if d.stream == nil {
		return Following, nil // whoever kept it in step has died
	}
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	look := time.NewTicker(lookAround)
	defer look.Stop()
	for {
		if err := d.stream.failed(); err != nil {
			return Following, d.unlessPassing(err)
		}
		if d.wants(placement.AskCutover) {
			return Fencing, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-look.C:
		case <-forget.C:
			if err := d.letGo(ctx, d.leg(reverse)); err != nil {
				return "", err
			}
		}
	}
}

// unlessPassing ends a stream that has ended by itself, and returns its error unless it is worth starting again.
func (d *drive) unlessPassing(err error) error {
	d.stopStream()
	if passes(err) {
		return nil
	}
	return err
}

// settle does what is left after the commit point: the target is opened, the catalog follows, and the stream to the target goes. The
// tenant has an open home, which the catalog knows, whatever the driver is told meanwhile.
func (d *drive) settle(ctx context.Context) (Phase, error) {
	detached, done := outlive(ctx)
	defer done()
	if err := d.arrive(detached, d.leg(forward), d.mv.Epoch+1); err != nil {
		return "", err
	}
	// Where another process has cut over, the old home is that one's to keep in step.
	if err := d.takeOverEnd(detached, d.leg(reverse)); err != nil {
		return "", err
	}
	d.stopStream()
	if err := d.closeStream(ctx, forward); err != nil {
		return "", err
	}
	if err := d.compareFrozen(ctx, forward); err != nil { // which keeps nobody from using the target
		d.differ(err)
	}
	return Reversing, nil
}

// arrive opens the home to which a tenant was passed on, and tells the catalog. From then on the other home is what has to go.
func (d *drive) arrive(ctx context.Context, l leg, epoch int64) error {
	to := l.to.Placement
	to.Epoch = epoch
	err := d.retrying(ctx, func(ctx context.Context) error {
		c, err := d.cutover(ctx, l, epoch, nil)
		if err != nil {
			return err
		}
		err = c.Finish(ctx)
		if errors.Is(err, isolation.ErrFence) || pgerr.Is(err, pgerr.UndefinedDatabase) {
			// Unless it was opened before, and the old home is taken away, or half of it.
			found, lookErr := d.standing(ctx, l.to)
			if lookErr != nil || found.lives(epoch) {
				return lookErr
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := fault(ctx, l.direction+"-opened"); err != nil {
		return err
	}
	err = d.reaching(ctx, func() error {
		now, err := d.cfg.Catalog.Tenant(ctx, d.mv.Tenant)
		if err != nil || now.Epoch == epoch && now.Home == to.Home {
			return err
		}
		return d.cfg.Catalog.SetPlacement(ctx, now.Epoch, to) // which may be older than epoch-1, if it was restored
	})
	if err != nil {
		return err
	}
	if err := fault(ctx, l.direction+"-routed"); err != nil {
		return err
	}
	if err := d.intend(ctx, homeThing(l.from)); err != nil {
		return err
	}
	return d.reaching(ctx, func() error { return d.cfg.Catalog.Cleaned(ctx, d.mv.ID, homeThing(l.to)) })
}

// followBack starts the stream that keeps the source in step. Where it begins was put down with the commit point.
func (d *drive) followBack(ctx context.Context) error {
	if d.mv.ReverseSlot == "" {
		return fmt.Errorf("%w: the catalog has no record of it", repl.ErrSlotLost)
	}
	if err := d.readPairs(ctx); err != nil {
		return err
	}
	return d.startStream(d.life, d.leg(reverse), 0)
}

// standBack keeps the source in step until somebody wants to go back, or to end the move.
func (d *drive) standBack(ctx context.Context) (Phase, error) {
	look := time.NewTicker(lookAround)
	defer look.Stop()
	for {
		if err := d.wayBack(ctx); err != nil {
			return "", err
		}
		if Uncompared(d.mv) && (d.stream != nil || d.mv.NoRollback != "") && !d.wants(placement.AskRollback) {
			if err := d.compareLate(ctx); err != nil {
				return "", err
			}
			if !Uncompared(d.mv) && slices.Contains(reached[d.goal], Reversing) {
				return Reversing, nil
			}
		}
		switch {
		case d.goal == ToDone && d.different != nil: // who wished for that knew nothing of it
			return "", d.different
		case d.wants(placement.AskComplete) && !Uncompared(d.mv):
			return Completing, nil
		case d.wants(placement.AskRollback) && d.mv.NoRollback == "":
			return RollingBack, nil
		case d.wants(placement.AskRollback):
			return "", fmt.Errorf("%w: there is no way back: %s", placement.ErrMovePhase, d.mv.NoRollback)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-look.C:
		}
	}
}

// wayBack sees to it that the source is kept in step, or says on record why that is over.
func (d *drive) wayBack(ctx context.Context) error {
	if d.mv.NoRollback != "" {
		return nil
	}
	var err error
	if d.stream == nil {
		err = d.followBack(ctx)
	} else if err = d.stream.failed(); err != nil {
		d.stopStream()
	}
	if err == nil || passes(err) {
		return nil
	}
	return d.loseWayBack(ctx, err)
}

// loseWayBack records why a move cannot be rolled back any more, and lets the log go.
func (d *drive) loseWayBack(ctx context.Context, err error) error {
	var problems *ProblemsError // the tables have changed since the cutover
	if !isStreamEnd(err) && !errors.Is(err, repl.ErrSlotLost) && !errors.Is(err, errTooMuchWAL) && !errors.As(err, &problems) {
		return err
	}
	d.stopStream()
	d.mv.NoRollback = err.Error()
	d.log.WarnContext(ctx, "the move cannot be rolled back any more", "tenant", d.mv.Slug, "move", d.mv.ID, "error", err)
	if err := d.advance(ctx, Reversing); err != nil {
		return err
	}
	return d.closeStream(ctx, reverse)
}

// complete ends the way back: the source is taken away.
func (d *drive) complete(ctx context.Context) (Phase, error) {
	d.stopStream()
	return Done, d.cleanAll(ctx)
}

// abort takes away all that was made. The tenant is where it was.
func (d *drive) abort(ctx context.Context) (Phase, error) {
	d.stopStream()
	return Aborted, d.cleanAll(ctx)
}

// revert does what is left after the commit point of a rollback, and takes the target away. Where that has something else than the source
// had when it was opened, it may be all that there is of it, so it stays until somebody has looked and drives the move on.
func (d *drive) revert(ctx context.Context) (Phase, error) {
	detached, done := outlive(ctx)
	defer done()
	if d.mv.Error == notCompared { // they are compared now
		d.mv.Error = ""
	}
	if err := d.arrive(detached, d.leg(reverse), d.mv.Epoch+2); err != nil {
		return "", err
	}
	d.stopStream()
	if err := d.compareFrozen(ctx, reverse); err != nil {
		return "", fmt.Errorf("the tenant is back at %s, and what it had at %s stays there until you have looked at these rows: %w",
			d.source.Home, d.target.Home, err)
	}
	return Reverted, d.cleanAll(ctx)
}
