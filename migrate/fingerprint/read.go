package fingerprint

import (
	"cmp"
	"context"
	_ "embed" // for objects.sql
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// DB is a connection in no transaction, or a transaction whose snapshot counts.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Read returns the fingerprints of homes, by schema. A schema that does not exist is left out. So is one that is busy: somebody has
// locked a table there for longer than a moment, and in the mode in which tables are altered.
//
// It is one query for any number of homes, and one more for every few of those that have views and the like, since PostgreSQL takes
// locks to write these down. It writes nothing, and its memory does not grow with what the homes hold. db's login must be able to
// read landlord.identity.
func Read(ctx context.Context, db DB, homes []Home) (sums map[string]Fingerprint, busy []string, err error) {
	r := reader{homes: homes, seen: make([]reading, len(homes))}
	all := make([]int, len(homes))
	for i := range all {
		all[i] = i
	}
	if err := r.query(ctx, db, all, false); err != nil {
		return nil, nil, err
	}
	for _, page := range r.pages() {
		if err := r.query(ctx, db, page, true); err != nil {
			return nil, nil, err
		}
	}
	sums = make(map[string]Fingerprint, len(homes))
	for i, h := range homes {
		s := r.seen[i]
		if s.there && s.unclear && !s.busy {
			objects, err := Objects(ctx, db, h)
			switch {
			case errors.Is(err, ErrNoSchema):
				continue
			case errors.Is(err, ErrBusy):
				s.busy = true
			case err != nil:
				return nil, nil, err
			}
			s.sum = Of(objects)
		}
		switch {
		case s.busy:
			busy = append(busy, h.Schema)
		case s.there:
			sums[h.Schema] = s.sum
		}
	}
	return sums, busy, nil
}

// lockedAtOnce is how many tables one transaction locks at most, unless a single home has more. A server that is set up as it comes
// has memory for some 6,400 locks of all its sessions.
const lockedAtOnce = 1000

// reader adds up the objects of homes as they come.
type reader struct {
	homes []Home
	seen  []reading
}

type reading struct {
	sum     Fingerprint
	there   bool // the schema exists
	locks   int  // how many tables are locked to read the objects with queries in them; 0: there are none
	unclear bool // some names can only be told by those of all its objects
	busy    bool
}

// pages divides the homes that have queries in them.
func (r *reader) pages() (pages [][]int) {
	locks := 0
	for i, s := range r.seen {
		if s.locks == 0 || s.busy {
			continue
		}
		if locks += s.locks; len(pages) == 0 || locks > lockedAtOnce {
			pages, locks = append(pages, nil), s.locks
		}
		last := len(pages) - 1
		pages[last] = append(pages[last], i)
	}
	return pages
}

// attempts is how often a query is begun again without the homes that somebody has locked meanwhile.
const attempts = 5

// query reads homes, by their places. Those in which tables are locked become busy and are left out.
func (r *reader) query(ctx context.Context, db DB, at []int, asking bool) error {
	for attempt := 1; ; attempt++ {
		homes := make([]Home, len(at))
		before := make([]reading, len(at))
		for i, n := range at {
			homes[i], before[i] = r.homes[n], r.seen[n]
		}
		err := read(ctx, db, homes, asking, func(i int, row raw, app string) {
			s := &r.seen[at[i]]
			s.there = true
			if row.kind == "" {
				s.locks = row.locks()
				return
			}
			o, ok := row.object(homes[i], app, nil)
			s.unclear = s.unclear || !ok
			s.sum.add(o)
		})
		if !errors.Is(err, ErrBusy) || attempt == attempts {
			return err
		}
		locked, err := lockedSchemas(ctx, db)
		if err != nil {
			return err
		}
		var free []int
		for i, n := range at {
			r.seen[n] = before[i]
			if r.seen[n].busy = slices.Contains(locked, r.homes[n].Schema); !r.seen[n].busy {
				free = append(free, n)
			}
		}
		at = free
	}
}

// lockedSchemas returns the schemas in which somebody has a table, or waits for it, in the only mode that keeps others from reading.
func lockedSchemas(ctx context.Context, db DB) (schemas []string, err error) {
	const q = `
select distinct n.nspname::text
  from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
 where l.mode = 'AccessExclusiveLock' and l.database = (select oid from pg_database where datname = current_database())`
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q)
		if err != nil {
			return err
		}
		schemas, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find who has locked tables: %w", err)
	}
	return schemas, nil
}

// Objects returns what a home is made of, by kind and name. A schema that does not exist is [ErrNoSchema], and one in which somebody
// has locked what must be read is [ErrBusy].
func Objects(ctx context.Context, db DB, home Home) ([]Object, error) {
	var rows []raw
	var app string
	var asks bool
	names := make(map[string]bool)
	take := func(_ int, r raw, login string) {
		if r.kind == "" {
			asks = true
			return
		}
		app = login
		rows = append(rows, r)
		if r.of == "" || slices.Contains(named, r.kind) {
			names[unquote(r.name)] = true
		}
	}
	err := read(ctx, db, []Home{home}, false, take)
	if err == nil && asks {
		err = read(ctx, db, []Home{home}, true, take)
	}
	if err == nil && len(rows) == 0 {
		err = ErrNoSchema
	}
	if err != nil {
		return nil, fmt.Errorf("read home %s: %w", home.Schema, err)
	}
	objects := make([]Object, len(rows))
	for i, r := range rows {
		objects[i], _ = r.object(home, app, names)
	}
	slices.SortFunc(objects, func(a, b Object) int {
		return strings.Compare(a.Kind+"\x00"+a.Name, b.Kind+"\x00"+b.Name)
	})
	return objects, nil
}

//go:embed objects.sql
var objectsSQL string

// settings are those that PostgreSQL's writing down of names and constants depends on. The compiler of expressions would cost more
// than it saves.
const settings = `
set transaction read only; set local search_path = pg_catalog; set local jit = off; set local standard_conforming_strings = on;
set local quote_all_identifiers = off; set local datestyle = 'ISO, MDY'; set local intervalstyle = postgres;
set local timezone = 'UTC'; set local extra_float_digits = 1; set local bytea_output = hex; set local statement_timeout = '10min';
set local lock_timeout = '500ms'; set local work_mem = '32MB'`

// named are the kinds of objects that are part of a relation and have a name among the schema's own.
var named = []string{"index", "sequence", "statistics"}

// raw is a row of objects.sql.
type raw struct {
	kind, of, name, definition string
	path                       *string
}

// read calls fn with every object of homes that has a query in it, or that has none, by the place of its home.
func read(ctx context.Context, db DB, homes []Home, asking bool, fn func(i int, r raw, app string)) (err error) {
	fail := func(err error) error {
		if pgerr.Is(err, pgerr.LockNotAvailable) {
			err = fmt.Errorf("%w: %w", ErrBusy, err)
		}
		return fmt.Errorf("read what homes are made of: %w", err)
	}
	tx, err := db.Begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer func() { // nothing was written, and the settings go
		if endErr := tx.Rollback(context.WithoutCancel(ctx)); err == nil && endErr != nil {
			err = fail(endErr)
		}
	}()
	if _, err := tx.Conn().PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return fail(err)
	}
	var app string
	if err := tx.QueryRow(ctx, `select app_login::text from landlord.identity`).Scan(&app); err != nil {
		return fail(err)
	}
	schemas := make([]string, len(homes))
	for i, h := range homes {
		schemas[i] = h.Schema
	}
	// Planned for the number of schemas, so neither prepared nor cached.
	rows, err := tx.Query(ctx, objectsSQL, pgx.QueryExecModeExec, schemas, asking)
	if err != nil {
		return fail(err)
	}
	var i int
	var r raw
	var of, definition *string
	_, err = pgx.ForEachRow(rows, []any{&i, &r.kind, &of, &r.name, &definition, &r.path}, func() error {
		r.of, r.definition = text(of), text(definition)
		fn(i-1, r, app)
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// locks is at least 1: there may be no table, and still something to ask for.
func (r raw) locks() int {
	n, err := strconv.Atoi(r.definition)
	if err != nil {
		return 1 // it is a count
	}
	return max(n, 1)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// object makes a row comparable between homes. It is false when names of the home's objects are needed to do so, and names is nil.
func (r raw) object(h Home, app string, names map[string]bool) (o Object, ok bool) {
	o = Object{Kind: r.kind, of: r.of}
	n := namer{schema: h.Schema, of: unquote(r.of), names: names}
	switch r.kind {
	case "grants", "default privileges":
		o.Definition = grants(r.definition, app)
	case "comment":
		o.Definition = r.definition
	case "policy":
		n.tenant = h.Tenant
		o.Definition = n.rename(r.definition)
	default:
		o.Definition = n.rename(r.definition)
	}
	if r.path != nil {
		o.Definition += "\nset search_path=" + (&namer{schema: h.Schema, path: true}).rename(*r.path)
	}
	o.name = r.name
	if r.of == "" { // the name of a routine has types in it
		n.tenant = ""
		o.name = n.rename(r.name)
	}
	o.Name = cmp.Or(o.name, markHome)
	if r.of != "" && !slices.Contains(named, r.kind) {
		o.Name = r.of + "." + o.name
	}
	return o, !n.unclear
}
