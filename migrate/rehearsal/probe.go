package rehearsal

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrate/lint"
)

// probe tells what the statements of one file do to what was there before, from within their transaction.
type probe struct {
	conn     *pgx.Conn
	schema   string // the home's
	backfill bool   // the file is meant to write to all rows

	verb      string              // of the statement that runs next
	relations map[uint32]relation // that were there before the file, as the last look found them
	objects   map[object]bool     // that were there at the last look
	locked    map[string]bool     // tables that an earlier statement locked against everybody
}

// relation is a table, view or the like, as a look finds it.
type relation struct {
	name  string // of the table that it is a part of, if it is a partition
	home  bool   // it is in the home's schema
	table bool   // it has rows
	file  uint32 // where its rows are; another one after a rewrite
	scans int64  // how often this transaction read it from end to end
	modes []string
}

// object is what is outside of the home's schema: by catalog and oid.
type object struct{ catalog, oid uint32 }

// Which locks keep writers out, and which everybody.
var (
	againstWriters = []string{"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}
	toWrite        = append([]string{"RowExclusiveLock", "ShareUpdateExclusiveLock"}, againstWriters...)
)

const everybody = "AccessExclusiveLock"

// writers are the statements that may write rows, whatever they call.
var writers = []string{"insert", "update", "delete", "merge", "with", "select", "do"}

// begin looks at what is there before the file.
func (p *probe) begin(ctx context.Context) (err error) {
	p.locked = make(map[string]bool)
	if p.relations, err = p.readRelations(ctx); err != nil {
		return err
	}
	p.objects, err = p.readObjects(ctx)
	return err
}

// before prepares for a statement. A query reads a table from end to end only if nothing else helps, as it would a large one; here
// tables are empty, and that would be as good as an index.
func (p *probe) before(ctx context.Context, text string) error {
	p.verb = ""
	if fields := strings.FieldsFunc(text, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }); len(fields) > 0 {
		p.verb = strings.ToLower(fields[0])
	}
	set := "set local enable_seqscan = on"
	if slices.Contains(writers, p.verb) && p.verb != "do" {
		set = "set local enable_seqscan = off"
	}
	_, err := p.conn.PgConn().Exec(ctx, set).ReadAll()
	return err
}

// look tells what the last statement did.
func (p *probe) look(ctx context.Context) (saw lint.Traced, err error) {
	now, err := p.readRelations(ctx)
	if err != nil {
		return saw, err
	}
	rewritten, scanned, locked, elsewhere := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for oid, was := range p.relations {
		is, there := now[oid]
		if !there { // dropped, which nobody shows the locks of
			is = was
			is.modes = append(slices.Clone(was.modes), everybody)
		}
		fresh := slices.DeleteFunc(slices.Clone(is.modes), func(m string) bool { return slices.Contains(was.modes, m) })
		holds := func(modes []string) bool {
			return slices.ContainsFunc(is.modes, func(m string) bool { return slices.Contains(modes, m) })
		}
		switch {
		case !was.home:
			if was.table && slices.ContainsFunc(fresh, func(m string) bool { return slices.Contains(toWrite, m) }) {
				elsewhere["table "+was.name] = true
			}
		case is.file != was.file:
			rewritten[was.name] = true
		case is.scans > was.scans && holds(againstWriters):
			scanned[was.name] = true
		case is.scans > was.scans && holds([]string{"RowExclusiveLock"}) && slices.Contains(writers, p.verb) && !p.backfill:
			scanned[was.name] = true
		}
		if was.home && was.table && slices.Contains(is.modes, everybody) && !p.locked[was.name] {
			locked[was.name], p.locked[was.name] = true, true
		}
		is.name = was.name
		p.relations[oid] = is
	}
	if err := p.made(ctx, elsewhere); err != nil {
		return saw, err
	}
	for name := range rewritten {
		delete(scanned, name)
	}
	return lint.Traced{Rewritten: names(rewritten), Scanned: names(scanned), Locked: names(locked), Elsewhere: names(elsewhere)}, nil
}

// made adds what is new outside of the home's schema.
func (p *probe) made(ctx context.Context, elsewhere map[string]bool) error {
	objects, err := p.readObjects(ctx)
	if err != nil {
		return err
	}
	for o := range objects {
		if p.objects[o] {
			continue
		}
		p.objects[o] = true
		var text string
		const identify = `select i.type || ' ' || i.identity from pg_identify_object($1::oid, $2::oid, 0) i`
		if err := p.conn.QueryRow(ctx, identify, pgx.QueryExecModeExec, o.catalog, o.oid).Scan(&text); err != nil {
			return err
		}
		elsewhere[text] = true
	}
	return nil
}

// readRelations reads the tables of the home and of everywhere else, but those of PostgreSQL, with what this transaction did to
// each.
func (p *probe) readRelations(ctx context.Context) (map[uint32]relation, error) {
	const q = `
select c.oid, case when n.nspname = $1 then r.relname::text else format('%I.%I', n.nspname, r.relname) end, n.nspname = $1, c.relkind in ('r', 'p', 'm'), coalesce(pg_relation_filenode(c.oid), 0),
       coalesce(pg_stat_get_xact_numscans(c.oid), 0),
       array(select l.mode from pg_locks l where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.relation = c.oid
                and l.database = (select d.oid from pg_database d where d.datname = current_database()) and l.granted)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_class r on r.oid = case when c.relispartition then pg_partition_root(c.oid) else c.oid end
 where c.relkind in ('r', 'p', 'm', 'v', 'f') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`
	rows, err := p.conn.Query(ctx, q, pgx.QueryExecModeExec, p.schema)
	if err != nil {
		return nil, err
	}
	all := make(map[uint32]relation)
	var oid uint32
	var r relation
	_, err = pgx.ForEachRow(rows, []any{&oid, &r.name, &r.home, &r.table, &r.file, &r.scans, &r.modes}, func() error {
		all[oid] = r
		r.modes = nil
		return nil
	})
	return all, err
}

// readObjects lists what is outside of the home's schema. What an extension owns goes with the extension.
func (p *probe) readObjects(ctx context.Context) (map[object]bool, error) {
	const q = `
select o.catalog::oid, o.oid
  from (select 'pg_class'::regclass as catalog, oid, relnamespace as space from pg_class where relkind in ('r', 'p', 'm', 'v', 'f', 'S', 'c')
         union all select 'pg_proc'::regclass, oid, pronamespace from pg_proc where oid >= 16384
         union all select 'pg_type'::regclass, oid, typnamespace from pg_type where typtype in ('e', 'd', 'r')
         union all select 'pg_operator'::regclass, oid, oprnamespace from pg_operator where oid >= 16384
         union all select 'pg_collation'::regclass, oid, collnamespace from pg_collation where oid >= 16384
         union all select 'pg_ts_config'::regclass, oid, cfgnamespace from pg_ts_config where oid >= 16384
         union all select 'pg_namespace'::regclass, oid, 0 from pg_namespace where nspname !~ '^pg_'
         union all select 'pg_extension'::regclass, oid, 0 from pg_extension
         union all select 'pg_publication'::regclass, oid, 0 from pg_publication
         union all select 'pg_event_trigger'::regclass, oid, 0 from pg_event_trigger
         union all select 'pg_language'::regclass, oid, 0 from pg_language
         union all select 'pg_cast'::regclass, oid, 0 from pg_cast where oid >= 16384
         union all select 'pg_foreign_data_wrapper'::regclass, oid, 0 from pg_foreign_data_wrapper
         union all select 'pg_foreign_server'::regclass, oid, 0 from pg_foreign_server) o
  left join pg_namespace n on n.oid = o.space
 where (n.oid is null or n.nspname <> $1 and n.nspname !~ '^pg_' and n.nspname <> 'information_schema')
   and not exists (select from pg_depend d where d.classid = o.catalog and d.objid = o.oid and d.deptype = 'e')`
	rows, err := p.conn.Query(ctx, q, pgx.QueryExecModeExec, p.schema)
	if err != nil {
		return nil, err
	}
	all := make(map[object]bool)
	var o object
	_, err = pgx.ForEachRow(rows, []any{&o.catalog, &o.oid}, func() error { all[o] = true; return nil })
	return all, err
}
