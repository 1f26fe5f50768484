package move

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// A catalog that was restored from a backup has a move as it was then. Since then it may have gone on, or be over, and the tenant may
// have gone elsewhere. The fences beside the data say what has become of it, and so every driver asks them before it does anything:
// what is on record follows them, and what the servers have of the move is put on record again, so that it is taken away in the end.

// whereabouts is where a tenant lives, as the fences of a move's two homes say.
type whereabouts int

const (
	astray   whereabouts = iota // the fences are as no step of this move leaves them
	atSource                    // as before the move
	atTarget                    // it was passed on, whether or not it can enter there already
	atBack                      // it was rolled back, whether or not it can enter there already
)

// standing is what a home's server has of a move.
type standing struct {
	fence  *isolation.Fence // nil: there is none, nor perhaps a database
	things []placement.Cleanup
}

// lives tells whether the tenant is at home there, at the epoch: at most one home in the world is like that.
func (s standing) lives(epoch int64) bool {
	return s.fence != nil && s.fence.Epoch == epoch &&
		slices.Contains([]isolation.FenceState{isolation.Open, isolation.Fenced, isolation.Suspended}, s.fence.State)
}

// passedOn tells whether the tenant lived there at the epoch, and was passed on to a home.
func (s standing) passedOn(epoch int64, to side) bool {
	f := s.fence
	return f != nil && f.State == isolation.Moved && f.Epoch == epoch && f.MovedTo != nil && f.MovedTo.Home == to.Home.String()
}

// where tells it from both.
func (d *drive) where(source, target standing) whereabouts {
	e := d.mv.Epoch
	switch {
	case source.lives(e):
		return atSource
	case source.lives(e + 2), target.passedOn(e+1, d.source) && (source.fence == nil || source.passedOn(e, d.target)):
		return atBack
	case target.lives(e + 1), source.passedOn(e, d.target) && target.importing(e+1):
		return atTarget
	}
	return astray
}

func (s standing) importing(epoch int64) bool {
	return s.fence != nil && s.fence.State == isolation.Importing && s.fence.Epoch == epoch
}

// standing reads what a home's server has of the move.
func (d *drive) standing(ctx context.Context, s side) (found standing, err error) {
	at := placement.Cleanup{Cluster: s.Home.Cluster, Database: s.Home.Database}
	add := func(kind placement.CleanupKind, name string) {
		x := at
		x.Kind, x.Name = kind, name
		found.things = append(found.things, x)
	}
	err = s.with(ctx, func(conn *pgx.Conn) error {
		const named = `
select 'slot', slot_name from pg_replication_slots where starts_with(slot_name, $1) and database = current_database()
union all
select 'publication', pubname from pg_publication where starts_with(pubname, $1)`
		const kept = `
select 'hold', schema from landlord.move_hold where move = $1
union
select 'ledger', 'move' from (select move from landlord.move_chunk union all select move from landlord.move_progress) m where move = $1`
		for _, q := range []struct{ sql, arg string }{{named, objectName(d.mv.ID) + "_"}, {kept, d.mv.ID}} {
			rows, err := conn.Query(ctx, q.sql, q.arg)
			if err != nil {
				return err
			}
			var kind placement.CleanupKind
			var name string
			if _, err := pgx.ForEachRow(rows, []any{&kind, &name}, func() error { add(kind, name); return nil }); err != nil {
				return err
			}
		}
		f, err := isolation.ReadFence(ctx, conn, s.key())
		switch none, is := errors.AsType[*isolation.FenceError](err); {
		case err == nil:
			found.fence = &f
		case is && none.Stands == nil:
			return nil
		}
		return err
	})
	if pgerr.Is(err, pgerr.UndefinedDatabase, pgerr.UndefinedTable, pgerr.UndefinedSchema) { // not made yet, or gone
		err = nil
	}
	return found, err
}

// reconcile makes what is on record of a move agree with its homes. A server that does not answer is left to the steps that need it.
func (d *drive) reconcile(ctx context.Context) error {
	if d.mv.Over() {
		return nil
	}
	source, err := d.standing(ctx, d.source)
	var target standing
	if err == nil {
		target, err = d.standing(ctx, d.target)
	}
	if err != nil {
		d.log.WarnContext(ctx, "the homes could not be compared with what is on record of the move", "move", d.mv.ID, "error", err)
		return context.Cause(ctx)
	}
	where := d.where(source, target)
	things := append(source.things, target.things...)
	if where == atSource && target.importing(d.mv.Epoch+1) {
		things = append(things, homeThing(d.target))
	}
	if len(things) > 0 {
		if err := d.intend(ctx, things...); err != nil {
			return err
		}
	}
	switch where {
	case atSource:
		return d.backToTheStart(ctx, target)
	case atTarget:
		return d.forwardToTarget(ctx, source)
	case atBack:
		if d.mv.Phase == Reverting || d.mv.Phase == RollingBack && target.fence != nil {
			return nil
		}
		return d.correct(ctx, Reverting)
	}
	return d.astray(ctx, source, target)
}

// backToTheStart has a move begin again whose new home is gone, or was never made: it was aborted, or is to be.
func (d *drive) backToTheStart(ctx context.Context, target standing) error {
	if !slices.Contains([]Phase{Copying, Following, Verified, Fencing}, d.mv.Phase) || target.fence != nil && target.importing(d.mv.Epoch+1) {
		return nil
	}
	// Nobody passes it on to a home that is not there.
	if err := d.source.with(ctx, func(conn *pgx.Conn) error { return d.lowered(ctx, conn, d.source) }); err != nil {
		return err
	}
	return d.correct(ctx, Preparing)
}

// forwardToTarget has a move go on behind its commit point.
func (d *drive) forwardToTarget(ctx context.Context, source standing) error {
	gone := source.fence == nil // the move was completed
	switch {
	case slices.Contains([]Phase{Committed, Reversing, RollingBack}, d.mv.Phase):
		if !gone || d.mv.NoRollback != "" {
			return nil
		}
	case slices.Contains([]Phase{Planned, Preparing, Copying, Following, Verified, Aborting}, d.mv.Phase):
	case d.mv.Phase == Fencing:
		if !gone { // which the step finds out
			return nil
		}
	default:
		return nil
	}
	switch {
	case gone:
		d.mv.NoRollback = "the old home has been taken away"
	case d.mv.Offline:
		d.mv.NoRollback = noWayBack
	}
	to := Committed
	if d.mv.Phase == Reversing || d.mv.Phase == RollingBack {
		to = Reversing
	}
	return d.correct(ctx, to)
}

// correct records where a move really is.
func (d *drive) correct(ctx context.Context, to Phase) error {
	d.log.WarnContext(ctx, "the homes of a move are not as the catalog says, which follows them: was it restored from a backup?",
		"tenant", d.mv.Slug, "move", d.mv.ID, "recorded", string(d.mv.Phase), "found", string(to))
	return d.record(ctx, to)
}

// astray ends what cannot be gone on with: the tenant lives at neither home as this move would have it.
func (d *drive) astray(ctx context.Context, source, target standing) error {
	if !slices.Contains(mustLive, d.mv.Phase) {
		return nil
	}
	say := func(s side, found standing) string {
		if found.fence == nil {
			return fmt.Sprintf("at %s there is no fence of it", s.Home)
		}
		what := fmt.Sprintf("the fence at %s is %s, at epoch %d", s.Home, found.fence.State, found.fence.Epoch)
		if to := found.fence.MovedTo; to != nil && found.fence.State == isolation.Moved {
			what += fmt.Sprintf(", and leads to %s", to.Home)
		}
		return what
	}
	lost := &enoughError{fmt.Errorf("the homes are as no step of this move leaves them: %s; %s", say(d.source, source), say(d.target, target))}
	var now placement.Tenant
	if err := d.reaching(ctx, func() (err error) {
		now, err = d.cfg.Catalog.Tenant(ctx, d.mv.Tenant)
		return err
	}); err != nil {
		return err
	}
	switch {
	case now.Epoch <= d.mv.Epoch+1:
		return fmt.Errorf("%w: if the catalog was restored from a backup, 'landlord doctor --rebuild-catalog' finds out where tenant %s lives; do this again then",
			lost, d.mv.Slug)
	case !d.wants(placement.AskAbort):
		return fmt.Errorf("%w: the tenant has gone on since, and lives at %s, at epoch %d: 'landlord move abort %s' ends this move",
			lost, now.Home, now.Epoch, d.mv.Slug)
	}
	return d.bury(ctx, lost.Error())
}

// mustLive lists the phases in which the tenant has to be at one of the two homes.
var mustLive = []Phase{Planned, Preparing, Copying, Following, Verified, Fencing, Committed, Reversing, RollingBack, Reverting}

// bury ends a move behind which the tenant has gone on to other homes. It takes away what is the move's only, and no home.
func (d *drive) bury(ctx context.Context, why string) error {
	d.mv.Error = why
	if err := d.record(ctx, Aborting); err != nil {
		return err
	}
	for _, s := range []side{d.source, d.target} {
		if err := d.reaching(ctx, func() error { return d.cfg.Catalog.Cleaned(ctx, d.mv.ID, homeThing(s)) }); err != nil {
			return err
		}
	}
	if err := d.cleanAll(ctx); err != nil {
		return err
	}
	return d.record(ctx, Aborted)
}
