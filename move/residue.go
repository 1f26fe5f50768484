package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Leftover is something of a move that is over, or that the catalog does not know any more.
type Leftover struct {
	Cluster, Database string
	Object            string // what it is, as a person would call it
	Fix               string // SQL that takes it away
}

// Residue lists what moves have left on the clusters and in the catalog: slots, publications, holds, ledgers, fences of homes where
// nobody lives, and what is still recorded as to be taken away. What belongs to a move that is not over is none. A server or
// database that cannot be read is reported with the others' errors, and does not stop the rest.
func Residue(ctx context.Context, catalog *placement.Catalog) (left []Leftover, err error) {
	r := residue{catalog: catalog, active: map[string]bool{}, homes: map[string]bool{}}
	moves, err := catalog.Moves(ctx, placement.MoveFilter{Active: true})
	if err != nil {
		return nil, err
	}
	for _, m := range moves {
		r.active[m.ID] = true
		for _, p := range []placement.Place{m.Source, m.Target} {
			r.homes[m.Tenant.String()+"@"+p.Home.String()] = true
		}
	}
	clusters, err := catalog.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	databases, err := catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, c := range clusters {
		for _, db := range databases {
			if db.Cluster != c.Name {
				continue
			}
			s := side{cluster: c, Placement: placement.Placement{Home: placement.Home{Cluster: c.Name, Database: db.Name}}}
			if err := s.with(ctx, func(conn *pgx.Conn) error { return r.database(ctx, conn, s.Home) }); err != nil {
				errs = append(errs, fmt.Errorf("look for what moves have left in database %s of cluster %s: %w", db.Name, c.Name, err))
			}
		}
	}
	r.fences()
	return r.left, errors.Join(errs...)
}

type residue struct {
	catalog *placement.Catalog
	active  map[string]bool // ids
	homes   map[string]bool // tenant@home
	closed  []closedFence
	left    []Leftover
}

func (r *residue) add(h placement.Home, object, fix string) {
	r.left = append(r.left, Leftover{Cluster: h.Cluster, Database: h.Database, Object: object, Fix: fix})
}

// moveOf is the id in the name of a slot or publication.
func moveOf(name string) string {
	hex := strings.TrimPrefix(name, ObjectPrefix)
	if len(hex) < 32 {
		return ""
	}
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:32]}, "-")
}

func (r *residue) database(ctx context.Context, conn *pgx.Conn, h placement.Home) error {
	const named = `
select 'slot', slot_name, format('select pg_drop_replication_slot(%L)', slot_name)
  from pg_replication_slots where starts_with(slot_name, $1) and database = current_database()
union all
select 'publication', pubname, format('drop publication %I', pubname) from pg_publication where starts_with(pubname, $1)`
	rows, err := conn.Query(ctx, named, ObjectPrefix)
	if err != nil {
		return err
	}
	var kind, name, fix string
	if _, err := pgx.ForEachRow(rows, []any{&kind, &name, &fix}, func() error {
		if !r.active[moveOf(name)] {
			r.add(h, kind+" "+name, fix)
		}
		return nil
	}); err != nil {
		return err
	}
	const kept = `
select 'hold of schema ' || schema, move::text, format('delete from landlord.move_hold where move = %L', move) from landlord.move_hold
union
select 'ledger of a copy', move::text, format('delete from landlord.move_chunk where move = %L', move) from landlord.move_chunk
union
select 'progress of a stream', move::text, format('delete from landlord.move_progress where move = %L', move) from landlord.move_progress`
	if rows, err = conn.Query(ctx, kept); err != nil {
		return err
	}
	if _, err := pgx.ForEachRow(rows, []any{&kind, &name, &fix}, func() error {
		if !r.active[name] {
			r.add(h, kind+" for move "+name, fix)
		}
		return nil
	}); err != nil && !pgerr.Is(err, pgerr.UndefinedTable) { // objects of an older version
		return err
	}
	const fences = `
select tenant, slug, home, epoch, state, coalesce(moved_to ->> 'home', ''), coalesce((moved_to ->> 'epoch')::int8, 0),
       format('delete from landlord.fence where tenant = %L and home = %L', tenant, home),
       format('update landlord.fence set state = %L, owner = null where tenant = %L and home = %L and epoch = %s and state = %L',
              'open', tenant, home, epoch, 'importing')
  from landlord.fence where state in ('importing', 'moved')`
	if rows, err = conn.Query(ctx, fences); err != nil {
		return err
	}
	f := closedFence{at: h}
	_, err = pgx.ForEachRow(rows, []any{&f.tenant, &f.slug, &f.home, &f.epoch, &f.state, &f.to, &f.toEpoch, &f.forget, &f.open}, func() error {
		if !r.homes[f.tenant+"@"+f.home] {
			r.closed = append(r.closed, f)
		}
		return nil
	})
	return err
}

// closedFence is the fence of a home that takes nobody in, and that no move on record has.
type closedFence struct {
	at                        placement.Home
	tenant, slug, home, state string
	epoch                     int64
	to                        string // home to which the tenant was passed on
	toEpoch                   int64
	forget, open              string // SQL
}

// ledTo tells whether the tenant was passed on from f to a home that was never opened.
func (f closedFence) ledTo(to closedFence) bool {
	return f.tenant == to.tenant && f.state == string(isolation.Moved) && f.to == to.home && f.toEpoch == to.epoch &&
		to.state == string(isolation.Importing)
}

// fences lists what is left of homes. Where the catalog has lost a move between its commit point and the opening of the new home, both
// fences are all that tells where the tenant is, and have to stay.
func (r *residue) fences() {
	for _, f := range r.closed {
		object := fmt.Sprintf("fence of tenant %s at %s (%s)", f.slug, f.home, f.state)
		from := slices.IndexFunc(r.closed, func(g closedFence) bool { return g.ledTo(f) })
		switch {
		case from >= 0:
			r.add(f.at, object+", to which the tenant was passed on from "+r.closed[from].home+", so that nobody can enter anywhere",
				f.open+" -- then: landlord doctor --rebuild-catalog")
		case slices.ContainsFunc(r.closed, f.ledTo): // said there
		default:
			r.add(f.at, object, f.forget)
		}
	}
}
