package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
)

// Rows returns how many rows the tables of homes have, by name and each in the home in which it is largest, as PostgreSQL estimates
// them. It is one query in each database, and waits for nobody. Databases that cannot be asked are left out, and counted.
func (f *Fleet) Rows(ctx context.Context) (rows map[string]int64, missed int, err error) {
	all, err := f.targets(ctx)
	if err != nil {
		return nil, 0, err
	}
	schemas := make(map[place][]string)
	for _, t := range all {
		if t.Scope == string(migrate.ScopeTenant) {
			at := place{t.Home.Cluster, t.Home.Database}
			schemas[at] = append(schemas[at], t.Home.Schema)
		}
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows = make(map[string]int64)
	var mu sync.Mutex // guards rows and missed
	var g errgroup.Group
	g.SetLimit(2 * f.cfg.Workers)
	for at, here := range schemas {
		g.Go(func() error {
			found, err := reach.rows(ctx, at, here)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missed++
				return ctx.Err()
			}
			for table, n := range found {
				rows[table] = max(rows[table], n)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, fmt.Errorf("read the sizes of tables: %w", err)
	}
	return rows, missed, nil
}

// sizes returns how many rows the homes of targets have, as PostgreSQL estimates them, or nil where there are too few of them to tell
// waves apart. It is one query in each database, and waits for nobody. Of what cannot be asked, the size is 0.
func (f *Fleet) sizes(ctx context.Context, targets []target) ([]int64, error) {
	// Where a table was never analysed, and the server has lost count of what was written, the file's size says it: a row takes 28
	// bytes at least. That of a table which somebody has locked would be waited for; and to ask for it loads all that there is of the
	// table, at a tenth of what a migration costs. So it is not asked for where the server still counts from before the first home: it
	// has seen as many relations come as there are.
	const query = `
with locked as materialized (
  select l.relation from pg_locks l
   where l.mode = 'AccessExclusiveLock' and l.database = (select oid from pg_database where datname = current_database())),
counts as materialized (
  select pg_stat_get_tuples_inserted('pg_class'::regclass) < (select count(*) from pg_class where oid >= 16384) as lost)
select n.nspname::text, sum(greatest(c.reltuples::bigint, w.written,
         case when c.reltuples <= 0 and w.written = 0 and (select lost from counts)
                   and c.oid not in (select l.relation from locked l where l.relation is not null)
              then pg_relation_size(c.oid) / 28 end, 0))::bigint
  from pg_class c join pg_namespace n on n.oid = c.relnamespace, lateral (select pg_stat_get_live_tuples(c.oid) as written) w
 where n.nspname = any($1::name[]) and c.relkind = 'r' group by n.nspname`
	if len(targets) < fleetSize {
		return nil, nil
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	byPlace := make(map[place]map[string]int)
	for i, t := range targets {
		if t.Scope == string(migrate.ScopeTenant) {
			at := place{t.Home.Cluster, t.Home.Database}
			if byPlace[at] == nil {
				byPlace[at] = make(map[string]int)
			}
			byPlace[at][t.Home.Schema] = i
		}
	}
	sizes := make([]int64, len(targets))
	var g errgroup.Group
	g.SetLimit(2 * f.cfg.Workers)
	for at, here := range byPlace {
		g.Go(func() error {
			conn, err := reach.connect(ctx, at, migrate.ScopeTenant)
			if err != nil {
				return ctx.Err()
			}
			defer func() { _ = closeConn(ctx, conn) }() // it has only read
			if _, err := conn.Exec(ctx, "set lock_timeout = '500ms'"); err != nil {
				return ctx.Err()
			}
			rows, err := conn.Query(ctx, query, slices.Collect(maps.Keys(here)))
			if err != nil {
				return ctx.Err()
			}
			var schema string
			var size int64
			_, err = pgx.ForEachRow(rows, []any{&schema, &size}, func() error { sizes[here[schema]] = size; return nil })
			if err != nil {
				return ctx.Err()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("read the sizes of homes: %w", err)
	}
	return sizes, nil
}

// rows is Rows in one database.
func (r reach) rows(ctx context.Context, at place, schemas []string) (found map[string]int64, err error) {
	// reltuples is -1 until a table is analysed for the first time; until then what was written counts, and where the server has
	// lost its statistics, the file's size: a row takes 28 bytes at least. The rows of a partitioned table are its partitions'.
	const query = `
with recursive tables as (
  select c.oid, c.relname::text as name, c.relkind,
         greatest(c.reltuples::bigint, w.written, case when c.reltuples < 0 and w.written = 0 then pg_relation_size(c.oid) / 28 end, 0) as rows
    from pg_class c join pg_namespace n on n.oid = c.relnamespace, lateral (select pg_stat_get_live_tuples(c.oid) as written) w
   where n.nspname = any($1::name[]) and c.relkind in ('r', 'p')),
parts as (
  select t.oid as root, t.oid from tables t where t.relkind = 'p'
   union all
  select p.root, i.inhrelid from parts p join pg_inherits i on i.inhparent = p.oid)
select t.name, max(greatest(t.rows, (select sum(l.rows)::bigint from parts p join tables l on l.oid = p.oid where p.root = t.oid and l.oid <> t.oid)))
  from tables t group by t.name`
	conn, err := r.connect(ctx, at, migrate.ScopeTenant)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeConn(ctx, conn)) }()
	if _, err := conn.Exec(ctx, "set lock_timeout = '500ms'"); err != nil {
		return nil, err
	}
	answer, err := conn.Query(ctx, query, schemas)
	if err != nil {
		return nil, err
	}
	found = make(map[string]int64)
	var table string
	var n int64
	_, err = pgx.ForEachRow(answer, []any{&table, &n}, func() error { found[table] = n; return nil })
	return found, err
}
