package move

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
)

// A move makes few things on servers: a hold on either home, the target's home, a ledger of what is copied and applied, and for each
// of its two streams a publication and a slot. Each is in the catalog before it is made, and found by its name.

const (
	forward = "forward" // the stream from source to target, until the cutover
	reverse = "reverse" // from target to source, after it
)

// newSlotName is that of a slot which this process makes, and of its publication. Another driver's are called otherwise: one that was
// stopped, replaced and woken drops and makes nothing that its successor relies on. Slots of all databases of a server share one
// namespace.
func (d *drive) newSlotName(direction string) string {
	return slotPrefix(d.mv.ID, direction) + d.owner[:8]
}

func slotPrefix(move, direction string) string { return objectName(move) + "_" + direction[:1] + "_" }

// slotName is the slot of a stream as it is on record; empty: there is none yet.
func slotName(m placement.Move, direction string) string {
	if direction == forward {
		return m.ForwardSlot
	}
	return m.ReverseSlot
}

// streamThings lists what a move makes for a stream at the side from which it comes.
func streamThings(name string, from side) []placement.Cleanup {
	at := placement.Cleanup{Cluster: from.Home.Cluster, Database: from.Home.Database, Name: name}
	slot, publication := at, at
	slot.Kind, publication.Kind = placement.CleanSlot, placement.CleanPublication
	return []placement.Cleanup{slot, publication}
}

// closeStream takes away what this and earlier drivers have made for a stream.
func (d *drive) closeStream(ctx context.Context, direction string) error {
	all, err := d.cleanups(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []placement.CleanupKind{placement.CleanSlot, placement.CleanPublication} {
		for _, x := range all {
			if x.Kind != kind || !strings.HasPrefix(x.Name, slotPrefix(d.mv.ID, direction)) {
				continue
			}
			if err := fault(ctx, "drop-"+direction+"-"+string(kind)); err != nil {
				return err
			}
			if err := d.clean(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// sideThings lists what a move leaves at a side apart from its streams.
func sideThings(s side) []placement.Cleanup {
	at := placement.Cleanup{Cluster: s.Home.Cluster, Database: s.Home.Database}
	hold, ledger := at, at
	hold.Kind, hold.Name = placement.CleanHold, s.Home.Schema
	ledger.Kind, ledger.Name = placement.CleanLedger, "move"
	return []placement.Cleanup{hold, ledger}
}

// homeThing is the home of a side, as something that has to be taken away.
func homeThing(s side) placement.Cleanup {
	return placement.Cleanup{Cluster: s.Home.Cluster, Database: s.Home.Database, Kind: placement.CleanHome, Name: s.Home.String()}
}

// waitForLock bounds the wait for a lock behind which others would queue.
const waitForLock = "2s"

// patiently runs fn until it does not fail for a lock that is not free, with growing pauses.
func (d *drive) patiently(ctx context.Context, what string, fn func() error) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := fn()
		if !pgerr.Is(err, pgerr.LockNotAvailable) {
			return err
		}
		d.log.InfoContext(ctx, "waiting for a lock", "what", what, "error", err)
		d.note(err.Error())
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return err
		}
	}
}

// sleep returns the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// hold keeps migrations away from a home: from now on no step begins there, and those that have begun are over.
func (d *drive) hold(ctx context.Context, s side) error {
	return d.patiently(ctx, "hold of "+s.Home.String(), func() error {
		return s.with(ctx, func(conn *pgx.Conn) error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				// The lock is that of begin_step.
				const lock = `select pg_advisory_xact_lock(hashtextextended('landlord build ' || $1, 0))`
				const insert = `insert into landlord.move_hold (schema, move) values ($1, $2) on conflict do nothing`
				if _, err := tx.Exec(ctx, "set local lock_timeout = '"+waitForLock+"'"); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, lock, s.Home.Schema); err != nil {
					return fmt.Errorf("hold migrations of %s: a step is under way there: %w", s.Home, err)
				}
				if _, err := tx.Exec(ctx, insert, s.Home.Schema, d.mv.ID); err != nil {
					return fmt.Errorf("hold migrations of %s: %w", s.Home, err)
				}
				return nil
			})
		})
	})
}

// inspect reads the tables of both homes and pairs them. What does not match is a [*ProblemsError].
func (d *drive) inspect(ctx context.Context) ([]table.Pair, error) {
	read := func(s side, sequences *[]table.Sequence) (tables []table.Table, err error) {
		err = s.with(ctx, func(conn *pgx.Conn) error {
			if tables, err = table.Inspect(ctx, conn, table.Home{Schema: s.Home.Schema, Dedicated: s.Model != placement.ModelShared}); err != nil {
				return err
			}
			*sequences, err = table.Sequences(ctx, conn, s.Home.Schema)
			return err
		})
		return tables, err
	}
	source, err := read(d.source, &d.sequences[0])
	if err != nil {
		return nil, err
	}
	target, err := read(d.target, &d.sequences[1])
	if err != nil {
		return nil, err
	}
	pairs, problems := table.Match(source, target, d.mv.Tenant.String())
	if len(problems) > 0 {
		return nil, &ProblemsError{Slug: d.mv.Slug, Problems: problems}
	}
	d.references = verify.References(source, target)
	return pairs, nil
}

// openStream makes a publication and then its slot at from, anew, and returns its name and where it begins. A publication made after its
// slot would leave a gap: what was committed in between is decoded without it.
func (d *drive) openStream(ctx context.Context, from side, direction string, tables []table.Table) (name string, start repl.LSN, err error) {
	if err := d.closeStream(ctx, direction); err != nil {
		return "", 0, err
	}
	name = d.newSlotName(direction)
	if err := d.intend(ctx, streamThings(name, from)...); err != nil {
		return "", 0, err
	}
	if err := fault(ctx, direction+"-publication"); err != nil {
		return "", 0, err
	}
	err = d.patiently(ctx, "publication", func() error {
		return from.with(ctx, func(conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, "set lock_timeout = '"+waitForLock+"'"); err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, publish(name, from, tables)); err != nil {
				return fmt.Errorf("make publication %s at %s: %w", name, from.Home, err)
			}
			return nil
		})
	})
	if err != nil {
		return "", 0, err
	}
	if err := fault(ctx, direction+"-slot"); err != nil {
		return "", 0, err
	}
	cfg, err := from.config()
	if err != nil {
		return "", 0, err
	}
	conn, err := repl.Connect(ctx, cfg)
	if err != nil {
		return "", 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the slot is there, or is not
	}()
	err = d.patiently(ctx, "slot", func() error {
		start, err = conn.CreateSlot(ctx, name, 5*time.Second)
		return err
	})
	return name, start, err
}

// publish is the statement that makes a publication of the tenant's rows. Tables are named one by one: those of a schema would take
// in later ones silently. Where others' rows lie in the same tables, only the tenant's are published. TRUNCATE is published, though no
// filter holds for it, so that it is seen.
func publish(name string, from side, tables []table.Table) string {
	list := make([]string, len(tables))
	for i, t := range tables {
		list[i] = t.SQL()
		if from.Model == placement.ModelShared {
			list[i] += " where (" + t.Whose(from.Tenant.String()) + ")"
		}
	}
	of := ""
	if len(list) > 0 {
		of = " for table " + strings.Join(list, ", ")
	}
	return "create publication " + pgx.Identifier{name}.Sanitize() + of +
		" with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
}

// firstXID returns a transaction id below which none writes any more behind the position of a slot that was made before.
func firstXID(ctx context.Context, s side) (xid uint64, err error) {
	err = s.with(ctx, func(conn *pgx.Conn) error {
		var n int64
		if err := conn.QueryRow(ctx, `select pg_snapshot_xmax(pg_current_snapshot())::text::int8`).Scan(&n); err != nil {
			return fmt.Errorf("read the transaction id at %s: %w", s.Home, err)
		}
		xid = uint64(n)
		return nil
	})
	return xid, err
}

// tablesOf returns the pairs' tables at one side.
func tablesOf(pairs []table.Pair, of func(table.Pair) table.Table) []table.Table {
	tables := make([]table.Table, len(pairs))
	for i, p := range pairs {
		tables[i] = of(p)
	}
	return tables
}

// intend records what this process is about to make.
func (d *drive) intend(ctx context.Context, things ...placement.Cleanup) error {
	d.made = true
	return d.reaching(ctx, func() error { return d.cfg.Catalog.Intend(ctx, d.mv.ID, d.owner, things...) })
}

// reaching runs fn, which asks the catalog, until the catalog can be reached. Nobody but the mover waits for it.
func (d *drive) reaching(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if !errors.Is(err, placement.ErrUnavailable) {
			return err
		}
		d.log.WarnContext(ctx, "the catalog cannot be reached, the move waits for it", "error", err)
		d.note(err.Error())
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}
