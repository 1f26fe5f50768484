package table

import (
	"context"
	_ "embed" // for the queries
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// DB is a connection in no transaction, or a transaction.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Home is the home whose tables are read.
type Home struct {
	Schema    string
	Dedicated bool // it is one tenant's, a schema or database home: its tables without tenant_id and class are the tenant's too
}

var (
	//go:embed tables.sql
	tablesSQL string
	//go:embed columns.sql
	columnsSQL string
	//go:embed keys.sql
	keysSQL string
)

const foreignKeysSQL = `
select f.conrelid, f.conname, n.nspname, r.relname,
       (select array_agg(a.attname::text order by k.o) from unnest(f.conkey) with ordinality as k (n, o)
          join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.n),
       (select array_agg(a.attname::text order by k.o) from unnest(f.confkey) with ordinality as k (n, o)
          join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.n)
  from pg_constraint f
  join pg_class r on r.oid = f.confrelid
  join pg_namespace n on n.oid = r.relnamespace
 where f.conrelid = any($1) and f.contype = 'f' and f.conparentid = 0
 order by f.conrelid, f.conname collate "C"`

const triggersSQL = `
select p.root, 'trigger ' || quote_ident(t.tgname) || case when p.root <> p.relid then ' of ' || p.relid::regclass else '' end
  from (select r as root, coalesce(t.relid, r) as relid from unnest($1::oid[]) as r left join pg_partition_tree(r) t on true) p
  join pg_trigger t on t.tgrelid = p.relid and t.tgenabled in ('A', 'R')
union all
select p.root, 'rule ' || quote_ident(w.rulename)
  from unnest($1::oid[]) as p (root)
  join pg_rewrite w on w.ev_class = p.root and w.ev_enabled in ('A', 'R')
order by 1, 2`

const partitionsSQL = `
select r, n.nspname, c.relname, t.level, coalesce(pg_get_expr(c.relpartbound, c.oid), ''), t.isleaf, c.relkind = 'f', c.relpersistence = 'u',
       case when i.indexrelid is not null then 'key' when c.relreplident = 'f' then 'full' else 'nothing' end,
       (select array_agg(a.attname::text order by k.o) from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality as k (n, o)
          join pg_attribute a on a.attrelid = c.oid and a.attnum = k.n)
  from unnest($1::oid[]) as r
  join pg_partition_tree(r) t on t.level > 0
  join pg_class c on c.oid = t.relid
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indexrelid = pg_get_replica_identity_index(c.oid)
 order by r, t.level, pg_get_expr(c.relpartbound, c.oid), n.nspname, c.relname`

const sequencesSQL = `
select n.nspname, q.relname, format_type(v.seqtypid, null), v.seqincrement
  from pg_namespace n
  join pg_class q on q.relnamespace = n.oid
  join pg_sequence v on v.seqrelid = q.oid
 where n.nspname = $1 and q.relpersistence <> 't'
   and not exists (
       select from pg_depend d left join pg_class c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
        where d.classid = 'pg_class'::regclass and d.objid = q.oid
          and (d.deptype = 'e'
               or d.deptype in ('a', 'i') and obj_description(c.oid, 'pg_class') ~ '^landlord: (reference|global)'
                  and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)))
 order by q.relname collate "C"`

// Inspect returns the tables of a home by name, those that are global or an extension's left out. It writes nothing. A schema that
// does not exist has no tables.
func Inspect(ctx context.Context, db DB, home Home) ([]Table, error) {
	tables, err := inspect(ctx, db, home)
	if err != nil {
		return nil, fmt.Errorf("read the tables of schema %s: %w", home.Schema, err)
	}
	return tables, nil
}

// Sequences returns the sequences of a schema by name, those that belong to tables of which nothing is moved, or to an extension, left out.
func Sequences(ctx context.Context, db DB, schema string) (found []Sequence, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sequencesSQL, schema)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Sequence])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the sequences of schema %s: %w", schema, err)
	}
	return found, nil
}

func inspect(ctx context.Context, db DB, home Home) (tables []Table, err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { // nothing was written, and the settings go
		err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}()
	// With the home's schema in front, what PostgreSQL writes is the same in homes of different names.
	const path = `
select set_config('search_path', quote_ident($1) || ', pg_catalog', true), set_config('quote_all_identifiers', 'off', true)`
	if _, err := tx.Exec(ctx, path, home.Schema); err != nil {
		return nil, err
	}
	i := inspection{home: home, at: make(map[uint32]int)}
	for _, read := range []func(context.Context, pgx.Tx) error{
		i.tables, i.columns, i.keys, i.foreignKeys, i.triggers, i.partitions,
	} {
		if err := read(ctx, tx); err != nil {
			return nil, err
		}
	}
	for n := range i.found {
		i.found[n].settle()
	}
	return i.found, nil
}

// inspection is a home as far as it has been read.
type inspection struct {
	home  Home
	oids  []uint32
	found []Table
	at    map[uint32]int // place in found, by oid
}

func (i *inspection) tables(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, tablesSQL, i.home.Schema, i.home.Dedicated)
	if err != nil {
		return err
	}
	var oid uint32
	var t Table
	var cast *string
	_, err = pgx.ForEachRow(rows, []any{
		&oid, &t.Schema, &t.Name, &t.Class, &t.Partitioned, &t.Foreign, &t.Unlogged, &t.Identity, &t.Key, &t.Inherits, &cast,
	}, func() error {
		i.at[oid] = len(i.found)
		i.oids = append(i.oids, oid)
		i.found = append(i.found, t)
		if cast != nil {
			last := &i.found[len(i.found)-1]
			last.HasTenantID, last.TenantIDType = true, *cast
		}
		return nil
	})
	return err
}

// each runs a query over all tables, whose first column is a table's oid, and calls fn with that table for every row. The other columns are read into to.
func (i *inspection) each(ctx context.Context, tx pgx.Tx, query string, to []any, fn func(*Table)) error {
	rows, err := tx.Query(ctx, query, i.oids)
	if err != nil {
		return err
	}
	var oid uint32
	_, err = pgx.ForEachRow(rows, append([]any{&oid}, to...), func() error {
		fn(&i.found[i.at[oid]])
		return nil
	})
	return err
}

func (i *inspection) columns(ctx context.Context, tx pgx.Tx) error {
	var c Column
	var schema, name, kind *string
	var increment *int64
	return i.each(ctx, tx, columnsSQL, []any{
		&c.Name, &c.Type, &c.Cast, &c.Labels, &c.Collation, &c.Bytewise, &c.Binary, &c.NotNull, &c.Generated, &c.Identity,
		&schema, &name, &kind, &increment,
	}, func(t *Table) {
		c.Sequence = nil
		if name != nil {
			c.Sequence = &Sequence{Schema: *schema, Name: *name, Type: *kind, Increment: *increment}
		}
		t.Columns = append(t.Columns, c)
	})
}

func (i *inspection) keys(ctx context.Context, tx pgx.Tx) error {
	var k Key
	return i.each(ctx, tx, keysSQL, []any{
		&k.Name, &k.Primary, &k.Exclusion, &k.Columns, &k.Terms, &k.Predicate, &k.Deferrable, &k.NullsEqual, &k.Definition,
	}, func(t *Table) { t.Keys = append(t.Keys, k) })
}

func (i *inspection) foreignKeys(ctx context.Context, tx pgx.Tx) error {
	var f ForeignKey
	return i.each(ctx, tx, foreignKeysSQL, []any{&f.Name, &f.RefSchema, &f.RefTable, &f.Columns, &f.RefColumns},
		func(t *Table) { t.ForeignKeys = append(t.ForeignKeys, f) })
}

func (i *inspection) triggers(ctx context.Context, tx pgx.Tx) error {
	var name string
	return i.each(ctx, tx, triggersSQL, []any{&name}, func(t *Table) { t.Triggers = append(t.Triggers, name) })
}

func (i *inspection) partitions(ctx context.Context, tx pgx.Tx) error {
	var p Partition
	var foreign, unlogged bool
	return i.each(ctx, tx, partitionsSQL, []any{
		&p.Schema, &p.Name, &p.Level, &p.Bound, &p.Leaf, &foreign, &unlogged, &p.Identity, &p.Key,
	}, func(t *Table) {
		t.Partitions = append(t.Partitions, p)
		t.Foreign = t.Foreign || foreign
		t.Unlogged = t.Unlogged || unlogged
	})
}

// settle finds the key of a table whose replica identity names none.
func (t *Table) settle() {
	if t.Identity != IdentityFull {
		return
	}
	for _, k := range t.Keys { // the primary key comes first
		if k.Plain() && t.notNull(k.Columns) {
			t.Key = k.Columns
			return
		}
	}
}

func (t *Table) notNull(columns []string) bool {
	return !slices.ContainsFunc(columns, func(name string) bool {
		c, _ := t.Column(name)
		return !c.NotNull
	})
}
