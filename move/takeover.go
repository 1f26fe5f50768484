package move

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// takeOver makes this process the one that may write, before it does anything else. It waits for the open transactions of a driver
// that has died, or was believed to, but not for long: one that stands still would keep them open for ever.
func (d *drive) takeOver(ctx context.Context) error {
	l, ok := map[Phase]leg{
		Copying: d.leg(forward), Following: d.leg(forward), Verified: d.leg(forward), Fencing: d.leg(forward), Committed: d.leg(forward),
		Reversing: d.leg(reverse), RollingBack: d.leg(reverse), Reverting: d.leg(reverse),
	}[d.mv.Phase]
	if !ok {
		return nil
	}
	return d.takeOverEnd(ctx, l)
}

// takeOverEnd makes this process the one that may write to the home to which a leg leads.
func (d *drive) takeOverEnd(ctx context.Context, l leg) error {
	err := l.to.with(ctx, func(conn *pgx.Conn) error {
		defer d.endBlockers(ctx, l.to, conn)()
		err := isolation.TakeOver(ctx, conn, l.to.key(), l.state, l.to.Epoch, d.owner)
		lost, is := errors.AsType[*isolation.FenceError](err)
		switch {
		case !is:
		case lost.Stands == nil && l.direction == reverse && d.mv.NoRollback != "":
			return nil // it has been taken away
		case lost.Stands == nil:
		case slices.Contains([]isolation.FenceState{isolation.Open, isolation.Suspended}, lost.Stands.State) && lost.Stands.Epoch >= l.to.Epoch:
			return nil // behind its commit point already
		}
		return err
	})
	if pgerr.Is(err, pgerr.UndefinedDatabase) && l.direction == reverse && d.mv.NoRollback != "" {
		return nil
	}
	return err
}

// blockedFor is how long the sessions of an earlier driver may keep a new one from its first step.
const blockedFor = time.Second

// endBlockers ends the movers' sessions that conn waits for, until stop is called. Theirs is what this process has claimed; who else
// is in the way is waited for.
func (d *drive) endBlockers(ctx context.Context, at side, conn *pgx.Conn) (stop func()) {
	const q = `
select count(pg_terminate_backend(a.pid)) from pg_stat_activity a
 where a.pid = any(pg_blocking_pids($1)) and a.application_name = $2 and a.usename = current_user`
	ctx, cancel := context.WithCancel(ctx)
	pid := conn.PgConn().PID()
	var watch sync.WaitGroup
	watch.Go(func() {
		for sleep(ctx, blockedFor) == nil {
			err := at.with(ctx, func(other *pgx.Conn) error {
				var ended int
				err := other.QueryRow(ctx, q, pid, settings["application_name"]).Scan(&ended)
				if ended > 0 {
					d.log.InfoContext(ctx, "an earlier driver's sessions were ended", "move", d.mv.ID, "home", at.Home, "sessions", ended)
				}
				return err
			})
			if err != nil && ctx.Err() == nil {
				d.log.WarnContext(ctx, "who is in the way could not be found out", "move", d.mv.ID, "home", at.Home, "error", err)
			}
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}
