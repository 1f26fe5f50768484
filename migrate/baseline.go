package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
)

// GooseTable is where goose keeps what it has applied, unless it is told otherwise.
const GooseTable = "goose_db_version"

// ErrGoose reports a home whose tables goose has made, and of which landlord has no versions yet.
var ErrGoose = errors.New("goose has made the tables here, and landlord does not know which: run landlord migrate baseline")

// Baseline is what [Set.Baseline] is to do.
type Baseline struct {
	Table  string // of goose, in the schema of the home; empty: GooseTable
	Server bool   // the home lies in the shared database of its server
	Limits Limits
	DryRun bool // only look
}

// Takeover is what has become of a home.
type Takeover struct {
	State TakeoverState
	Files []string // that are on record now, or would be
}

// TakeoverState says what there was to take over.
type TakeoverState string

// The states.
const (
	Taken     TakeoverState = "taken"     // what goose has applied is on record now, and its tables are secured
	Versioned TakeoverState = "versioned" // the home has versions: it is landlord's already
	Untouched TakeoverState = "untouched" // goose has no table there
)

// Baseline takes a home over that goose has migrated so far: it records what goose has applied there as if it had been applied
// by landlord, gives the tables to landlord's owner and secures them, all in one transaction. Goose's own table stays. conn's
// login is the operator's and is in no transaction.
//
// Files of the scope database that goose has run there are recorded for the database, and those of the scope server for the
// server, unless its shared database is another one. A version that the files do not know, a hole, and a table that conn's
// login may not give away are errors, and all stays as it was. A home that has versions already is left alone.
func (s *Set) Baseline(ctx context.Context, conn *pgx.Conn, t Target, b Baseline) (out Takeover, err error) {
	sql, err := t.compile(conn)
	if err != nil {
		return Takeover{}, err
	}
	if b.Table == "" {
		b.Table = GooseTable
	}
	access := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	if b.DryRun {
		access.AccessMode = pgx.ReadOnly
	}
	err = pgx.BeginTxFunc(ctx, conn, access, func(tx pgx.Tx) error {
		out, err = s.baseline(ctx, tx, t, sql, b)
		return err
	})
	if err != nil {
		return Takeover{}, fmt.Errorf("take over home %s: %w", sql.place, err)
	}
	return out, nil
}

func (s *Set) baseline(ctx context.Context, tx pgx.Tx, t Target, sql target, b Baseline) (Takeover, error) {
	conn := tx.Conn()
	if err := exec(ctx, conn, "reset all;"+settings("set local ", b.Limits, sql.path)); err != nil {
		return Takeover{}, err
	}
	if err := lockPlace(ctx, tx, sql.place); err != nil {
		return Takeover{}, err
	}
	var held bool
	if err := tx.QueryRow(ctx, `select exists (select from landlord.move_hold where schema = $1)`, sql.place).Scan(&held); err != nil {
		return Takeover{}, err
	}
	if held {
		return Takeover{}, errors.New("it is being moved: try again when that is over")
	}
	if have, err := readApplied(ctx, tx, sql.place); err != nil || len(have) > 0 {
		return Takeover{State: Versioned}, err
	}
	table := pgx.Identifier{sql.schema, b.Table}.Sanitize()
	var there bool
	if err := tx.QueryRow(ctx, `select to_regclass($1) is not null`, table).Scan(&there); err != nil || !there {
		return Takeover{State: Untouched}, err
	}
	if err := owned(ctx, tx, sql.schema); err != nil {
		return Takeover{}, err
	}
	if !b.DryRun {
		// Goose may be at work: it writes its table within the transaction of each file.
		if err := exec(ctx, conn, "lock table "+table+" in access exclusive mode"); err != nil {
			return Takeover{}, err
		}
	}
	applied, err := readGoose(ctx, tx, table)
	if err != nil {
		return Takeover{}, err
	}
	out := Takeover{State: Taken}
	places := []Target{t, {Scope: ScopeDatabase}}
	if b.Server {
		places = append(places, Target{Scope: ScopeServer})
	}
	if err := s.known(applied); err != nil {
		return Takeover{}, err
	}
	for _, place := range places {
		files, err := s.missing(ctx, tx, place, applied)
		if err != nil {
			return Takeover{}, err
		}
		out.Files = append(out.Files, files.names()...)
		if b.DryRun {
			continue
		}
		if err := (&builder{conn: conn, target: target{place: place.Place()}}).record(ctx, tx, files); err != nil {
			return Takeover{}, err
		}
	}
	slices.Sort(out.Files)
	if b.DryRun {
		return out, nil
	}
	if err := giveTypes(ctx, tx, sql.schema); err != nil {
		return Takeover{}, err
	}
	if err := exec(ctx, conn, sql.secure); err != nil {
		return Takeover{}, fmt.Errorf("secure its tables: %w", err)
	}
	return out, nil
}

type migrations []Migration

func (files migrations) names() []string {
	names := make([]string, len(files))
	for i, m := range files {
		names[i] = m.File
	}
	return names
}

// readGoose returns the versions that goose's table says are applied: the last row of each tells.
func readGoose(ctx context.Context, tx pgx.Tx, table string) ([]int64, error) {
	rows, err := tx.Query(ctx, `
select version_id from (select distinct on (version_id) version_id, is_applied from `+table+` order by version_id, id desc) last
 where is_applied and version_id > 0 order by version_id`)
	if err != nil {
		return nil, fmt.Errorf("read goose's table: %w", err)
	}
	applied, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read goose's table %s: %w", table, err)
	}
	if len(applied) == 0 {
		return nil, fmt.Errorf("goose has applied nothing here: drop its table %s, and landlord migrate up begins from nothing", table)
	}
	return applied, nil
}

// known refuses versions that the files do not know.
func (s *Set) known(applied []int64) error {
	versions := s.Versions()
	for _, v := range applied {
		if !slices.Contains(versions, v) {
			return fmt.Errorf("goose has applied version %d here, and the files know no such version: put its file back", v)
		}
	}
	return nil
}

// lockPlace takes the lock of begin_step. Each statement after it sees what its last holder has committed.
func lockPlace(ctx context.Context, tx pgx.Tx, place string) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('landlord build ' || $1, 0))`, place)
	return err
}

// missing returns the files that goose has applied, of a place's scope, and that are not on record for it. Together with those that
// are, they have no holes.
func (s *Set) missing(ctx context.Context, tx pgx.Tx, place Target, applied []int64) (migrations, error) {
	if err := lockPlace(ctx, tx, place.Place()); err != nil {
		return nil, err
	}
	have, err := readApplied(ctx, tx, place.Place())
	if err != nil {
		return nil, err
	}
	var files migrations
	for _, m := range s.Scoped(place.Scope) {
		recorded := slices.ContainsFunc(have, func(a Applied) bool { return a.Version == m.Version })
		if slices.Contains(applied, m.Version) && !recorded {
			files = append(files, m)
		}
	}
	for _, m := range files {
		have = append(have, Applied{Version: m.Version, Checksum: m.Checksum})
	}
	slices.SortFunc(have, func(a, b Applied) int { return cmp.Compare(a.Version, b.Version) })
	_, err = s.Pending(place.Scope, have)
	return files, err
}

// objects are the tables, routines and types of schema $1, found through pg_depend, which has an index by schema.
const objects = `
with obj as (
  select d.classid, d.objid from pg_depend d
   where d.refclassid = 'pg_namespace'::regclass and d.refobjid = to_regnamespace(quote_ident($1))::oid and d.deptype = 'n')
`

// owned refuses a home with objects that the login may not give away.
func owned(ctx context.Context, tx pgx.Tx, schema string) error {
	const q = objects + `
select distinct quote_ident(pg_get_userbyid(o.owner)), quote_ident(current_user)
  from (select c.relowner from obj join pg_class c on obj.classid = 'pg_class'::regclass and c.oid = obj.objid
        union select p.proowner from obj join pg_proc p on obj.classid = 'pg_proc'::regclass and p.oid = obj.objid
        union select t.typowner from obj join pg_type t on obj.classid = 'pg_type'::regclass and t.oid = obj.objid) o (owner)
 where not pg_has_role(current_user, o.owner, 'usage') order by 1`
	rows, err := tx.Query(ctx, q, schema)
	if err != nil {
		return err
	}
	var owner, login string
	var owners []string
	if _, err := pgx.ForEachRow(rows, []any{&owner, &login}, func() error { owners = append(owners, owner); return nil }); err != nil {
		return err
	}
	if len(owners) > 0 {
		return fmt.Errorf("objects there belong to %[1]s, and the operator's login may not give them to landlord: grant %[1]s to %[2]s",
			strings.Join(owners, ", "), login)
	}
	return nil
}

// giveTypes gives types to the role that alters them from now on; landlord.secure does the same for all else.
func giveTypes(ctx context.Context, tx pgx.Tx, schema string) error {
	const q = objects + `
select format('alter type %s owner to landlord_migrator', t.oid::regtype)
  from obj join pg_type t on obj.classid = 'pg_type'::regclass and t.oid = obj.objid
 where t.typowner not in ('landlord_migrator'::regrole, 'landlord_owner'::regrole)
   and not exists (select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
 order by 1`
	rows, err := tx.Query(ctx, q, schema)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(statements) == 0 {
		return err
	}
	if err := exec(ctx, tx.Conn(), strings.Join(statements, ";\n")); err != nil {
		return fmt.Errorf("take over its types: %w", err)
	}
	return nil
}

// refuseGoose is [ErrGoose] where goose has a table in a schema of which nothing is on record.
func refuseGoose(ctx context.Context, tx pgx.Tx, schema string, have []Applied) error {
	if len(have) > 0 {
		return nil
	}
	const q = `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relname = $1 and n.nspname = $2)`
	var there bool
	if err := tx.QueryRow(ctx, q, GooseTable, schema).Scan(&there); err != nil {
		return fmt.Errorf("look for goose's table: %w", err)
	}
	if there {
		return ErrGoose
	}
	return nil
}

// checkGoose refuses a database in whose main schema goose has been at work, before anything is run there.
func checkGoose(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		have, err := readApplied(ctx, tx, isolation.SharedSchema)
		if err != nil {
			return err
		}
		return refuseGoose(ctx, tx, isolation.SharedSchema, have)
	})
}
