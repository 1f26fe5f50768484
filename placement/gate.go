package placement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// Gate is how far the fleet may leave the old shape of its tables behind.
type Gate struct {
	Contracted int64 // files of the phase contract may run up to this version, and no further
	Needs      int64 // the application has to be written for this version, or a newer one
}

// GateWaits is what keeps the gate closed.
type GateWaits struct {
	For  []string // in words, for people; none: it is open, or nothing here keeps it from being opened
	Soon bool     // all of it is a run that somebody is at work on
}

// ErrGate reports that the gate is not any more where it stood when files were chosen.
var ErrGate = errors.New("contract files were let run meanwhile: try again")

const readGate = `select contracted, needs from landlord.gate `

// Gate reads where the gate stands.
func (c *Catalog) Gate(ctx context.Context) (g Gate, err error) {
	err = c.read(ctx, "read the contract gate", func(ctx context.Context, q querier) error {
		g, err = oneGate(ctx, q, readGate)
		return err
	})
	return g, err
}

func oneGate(ctx context.Context, q querier, query string) (Gate, error) {
	rows, err := q.Query(ctx, query)
	if err != nil {
		return Gate{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Gate])
}

// LogEnd returns the number of the placement log's last entry, 0 when it has none: whoever then looks at the homes can tell
// [Catalog.OpenGate] since when.
func (c *Catalog) LogEnd(ctx context.Context) (seq int64, err error) {
	err = c.read(ctx, "read the end of the placement log", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, `select coalesce(max(seq), 0) from landlord.placement_log`)
		if err != nil {
			return err
		}
		seq, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	})
	return seq, err
}

// GateWaits returns what in the catalog keeps the gate from being opened as far as to. It changes nothing, and knows nothing of
// the homes.
func (c *Catalog) GateWaits(ctx context.Context, to Gate) (w GateWaits, err error) {
	err = c.read(ctx, "look at the contract gate", func(ctx context.Context, q querier) error {
		w, err = gateWaits(ctx, q, to)
		return err
	})
	return w, err
}

// OpenGate lets contract files run up to to.Contracted, and refuses from then on what is written for an older version than
// to.Needs, if nothing keeps it from doing so. The caller has seen that every home has all files in front of those; from is
// where the gate stood then, and seen the log's end before he looked. If homes have come or moved since, look looks at them again,
// and says what keeps the gate closed.
//
// It holds the placement lock, so that no home comes while look is at work; and the gate while it asks all else, so that no run
// and no instance begins meanwhile. A gate that somebody else has opened as far is open.
func (c *Catalog) OpenGate(ctx context.Context, from, to Gate, seen int64, look func(context.Context) ([]string, error)) (w GateWaits, err error) {
	const update = `update landlord.gate set contracted = $1, needs = greatest(needs, $2)`
	err = c.change(ctx, "open the contract gate", func(ctx context.Context, tx pgx.Tx) error {
		w = GateWaits{}
		moved, err := homesMoved(ctx, tx, seen)
		if err == nil && moved {
			most := max(c.cfg.Retry, c.cfg.Timeout) / 2 // others wait for the lock no longer than twice that
			looking, cancel := context.WithTimeout(ctx, most)
			defer cancel()
			w.For, err = look(looking)
			if looking.Err() != nil && ctx.Err() == nil {
				w.For, err = []string{fmt.Sprintf("another look at the homes, since some came or moved during the last one: it took longer "+
					"than %s, for which nobody could be placed: landlord migrate up looks again", most)}, nil
			}
		}
		if err != nil || len(w.For) > 0 {
			return err
		}
		// Whoever begins (landlord.beat), or begins a run, holds it shared: the statements below see what he has committed.
		now, err := oneGate(ctx, tx, readGate+`for update`)
		switch {
		case err != nil || now.Contracted >= to.Contracted:
			return err
		case now.Contracted != from.Contracted:
			return ErrGate
		}
		if w, err = gateWaits(ctx, tx, to); err != nil || len(w.For) > 0 {
			return err
		}
		_, err = tx.Exec(ctx, update, to.Contracted, to.Needs)
		return err
	})
	return w, err
}

// Activate makes a tenant active whose home was built while the gate stood at contracted. When it has moved since, it is
// [ErrGate]: the home lacks what its builder was not allowed, and nobody who opened the gate has looked at it. Otherwise it is as
// [Catalog.SetState] from provisioning.
func (c *Catalog) Activate(ctx context.Context, id tenant.ID, contracted int64) error {
	return c.setState(ctx, id, StateActive, []State{StateProvisioning}, nil, func(ctx context.Context, tx pgx.Tx) error {
		return holdGate(ctx, tx, contracted, `for share`)
	})
}

// RaiseGate records how far contract files have run already, after the catalog was restored from an older backup. It never
// lowers the gate.
func (c *Catalog) RaiseGate(ctx context.Context, to Gate) error {
	const update = `update landlord.gate set contracted = greatest(contracted, $1), needs = greatest(needs, $2)`
	return c.change(ctx, "raise the contract gate", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, update, to.Contracted, to.Needs)
		return err
	})
}

// holdGate keeps the gate where it was when files were chosen, to the end of the transaction, with the row lock lock.
func holdGate(ctx context.Context, tx pgx.Tx, contracted int64, lock string) error {
	g, err := oneGate(ctx, tx, readGate+lock)
	if err == nil && g.Contracted != contracted {
		err = ErrGate
	}
	return err
}

// homesMoved tells whether, behind an entry of the log, a home came into being or is now another one. Who lives in a shared home
// does not matter, nor does who is suspended or gone; and a home that is being made matters when it is made ([Catalog.Activate]).
func homesMoved(ctx context.Context, q querier, seen int64) (bool, error) {
	const query = `
select exists (
  select from landlord.placement_log l where l.seq > $1
     and (l.kind in ('moved', 'rebuilt', 'endpoint') or l.kind = 'database' and l.tenant is null
          or l.kind = 'state' and l.before = 'provisioning'
             and exists (select from landlord.placements p where p.tenant = l.tenant and p.model <> 'shared')))`
	rows, err := q.Query(ctx, query, seen)
	if err != nil {
		return false, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
}

// gateWaits asks everything but the homes.
func gateWaits(ctx context.Context, q querier, to Gate) (w GateWaits, err error) {
	const runs = `
select number, state from landlord.runs where state in ('running', 'paused', 'halted')`
	const older = `
select id::text, name, schema_version, clock_timestamp() - seen_at from landlord.instances
 where schema_version = 0 or schema_version < $1 order by name, id`
	stopped := false
	run, err := inWords(ctx, q, runs, nil, func(row pgx.CollectableRow) (string, error) {
		var r Run
		err := row.Scan(&r.Number, &r.State)
		stopped = r.State != RunRunning
		return fmt.Sprintf("run %d, which is %s: landlord migrate resume goes on with it", r.Number, r.State), err
	})
	if err != nil {
		return w, err
	}
	instances, err := inWords(ctx, q, older, []any{to.Needs}, func(row pgx.CollectableRow) (string, error) {
		var id, name string
		var version int64
		var silence time.Duration
		err := row.Scan(&id, &name, &version, &silence)
		return olderInstance(id, name, version, silence, to.Needs), err
	})
	w.For = append(run, instances...)
	w.Soon = len(run) > 0 && !stopped && len(instances) == 0
	return w, err
}

// longSilence is when an instance, which gives a sign of life every few seconds, is dead or cut off from the catalog.
const longSilence = time.Minute

func olderInstance(id, name string, version int64, silence time.Duration, needs int64) string {
	is := fmt.Sprintf("is written for version %d", version)
	if version == 0 {
		is = "does not say for which version it is written"
	}
	text := fmt.Sprintf("instance %s (%s), which %s and was last seen %s ago: deploy one that is written for version %d",
		name, id, is, max(silence, 0).Round(time.Second), needs)
	if silence > longSilence {
		text += fmt.Sprintf("; silent for so long, it is dead or cut off: when it is known to be dead, landlord instance forget %s", id)
	}
	return text
}

// inWords runs a query and makes a text of each row.
func inWords(ctx context.Context, q querier, query string, args []any, word func(pgx.CollectableRow) (string, error)) ([]string, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, word)
}
