package leaktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/router"
)

// relation is a table, view, materialised view, foreign table or sequence that the application's login can reach.
type relation struct {
	OID          uint32
	Schema, Name string
	Kind         string // as pg_class.relkind
	Partition    bool
	Class        string // reference, global, or empty
	Secured      bool   // row-level security holds for whoever reads it
	Home         bool   // it lies in the schema of the tenant that looked
	Shared       bool   // others have that schema too
	TenantOwned  bool   // it has tenant_id
	Readable     bool
	Columns      []string // that can be inserted
	Key          []string // the primary key's
	Powers       []string // privileges that no policy guards
	LooseKeys    []string // unique indexes of a tenant-owned table that leave tenant_id out
	LooseLinks   []string // foreign keys between tenant-owned tables that leave it out

	rows []string // some of the victim's, as JSON
}

func (r relation) String() string { return r.Schema + "." + r.Name }
func (r relation) quoted() string { return pgx.Identifier{r.Schema, r.Name}.Sanitize() }

// table tells whether it holds rows of its own.
func (r relation) table() bool { return r.Kind == "r" || r.Kind == "p" }

// reachable lists what the login of db can reach. What PostgreSQL and landlord bring themselves is landlord's to prove.
func reachable(ctx context.Context, db *router.DB) ([]relation, error) {
	const q = `
select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relispartition,
       coalesce(substring(obj_description(c.oid, 'pg_class') from '^landlord: (reference|global)'), ''),
       c.relrowsecurity and c.relforcerowsecurity, n.nspname = current_schema(), current_schema() = 'public',
       exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped),
       case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'select') else has_any_column_privilege(c.oid, 'select') end,
       coalesce((select array_agg(a.attname::text order by a.attnum) from pg_attribute a
                  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''), '{}'),
       coalesce((select array_agg(a.attname::text order by k.n) from pg_index i
                  cross join unnest(i.indkey::int2[]) with ordinality k (attnum, n)
                   join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                  where i.indrelid = c.oid and i.indisprimary), '{}'),
       case when c.relkind = 'S' then '{}' else array(
           select p from unnest(array['TRUNCATE', 'REFERENCES', 'TRIGGER']) p where has_table_privilege(c.oid, p)
           union all select 'its owner''s' where pg_has_role(c.relowner, 'usage')
           union all select 'CREATE in its schema' where has_schema_privilege(n.oid, 'create')) end,
       coalesce((select array_agg(x.relname::text order by x.relname) from pg_index i join pg_class x on x.oid = i.indexrelid
                  where i.indrelid = c.oid and i.indisunique and not exists (
                        select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and a.attnum = any(i.indkey))), '{}'),
       coalesce((select array_agg(f.conname::text order by f.conname) from pg_constraint f
                   join pg_attribute o on o.attrelid = f.confrelid and o.attname = 'tenant_id' and not o.attisdropped
                  where f.conrelid = c.oid and f.contype = 'f' and not exists (
                        select from unnest(f.conkey, f.confkey) k (mine, theirs)
                          join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.mine and a.attname = 'tenant_id'
                         where k.theirs = o.attnum)), '{}')
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   and n.nspname not in ('pg_catalog', 'information_schema', 'landlord', 'extensions') and n.nspname !~ '^pg_'
   and has_schema_privilege(n.oid, 'usage')
   and case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'usage, select, update')
            else has_any_column_privilege(c.oid, 'select, insert, update, references')
              or has_table_privilege(c.oid, 'delete, truncate, trigger') end
 order by n.nspname, c.relname`
	rows, err := db.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list what the application can reach: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		err = row.Scan(&r.OID, &r.Schema, &r.Name, &r.Kind, &r.Partition, &r.Class, &r.Secured, &r.Home, &r.Shared,
			&r.TenantOwned, &r.Readable, &r.Columns, &r.Key, &r.Powers, &r.LooseKeys, &r.LooseLinks)
		return r, err
	})
}

// owns tells whether the rows of r are its tenant's.
func (r relation) owns() bool {
	return r.Home && r.table() && !r.Partition && (r.TenantOwned || !r.Shared && r.Class == "")
}

// mostRows is how many of the victim's rows of a table are tried one by one.
const mostRows = 5

// takeStock finds the tables in which the victim has rows, and some of these.
func (tr *trial) takeStock(ctx context.Context) (loot []relation, err error) {
	all, err := reachable(ctx, tr.victim)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if !r.owns() || !r.Readable {
			continue
		}
		rows, err := tr.victim.Query(ctx, fmt.Sprintf("select to_jsonb(r)::text from %s r limit %d", r.quoted(), mostRows))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r, err)
		}
		if r.rows, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, fmt.Errorf("read %s: %w", r, err)
		}
		loot = append(loot, r)
	}
	return loot, nil
}

// fingerprint is over all rows of the victim.
func (tr *trial) fingerprint(ctx context.Context) (string, error) {
	var all []string
	for _, r := range tr.loot {
		var n int
		var sum string
		q := "select count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0)::text from " + r.quoted() + " r"
		if err := tr.victim.QueryRow(ctx, q).Scan(&n, &sum); err != nil {
			return "", fmt.Errorf("read %s: %w", r, err)
		}
		all = append(all, fmt.Sprintf("%s %d rows %s", r, n, sum))
	}
	return strings.Join(all, ", "), nil
}

// relations looks at everything that the thief can reach, whatever it is and wherever it lies.
func (tr *trial) relations(t *testing.T) {
	ctx := t.Context()
	if len(tr.loot) == 0 {
		t.Fatal("the victim has no table: nothing is proved")
	}
	for _, r := range tr.loot {
		if len(r.rows) == 0 && !slices.Contains(tr.cfg.Empty, r.Name) {
			t.Errorf("%s has no rows of tenant %s: give it some, or name it in Config.Empty", r, tr.victim.Tenant())
		}
	}
	all, err := reachable(ctx, tr.thief)
	if err != nil {
		t.Fatal(err)
	}
	victim := tr.victim.Tenant().String()
	for _, r := range all {
		switch {
		case r.table() && r.Home && r.Shared && !r.TenantOwned && r.Class == "" && !slices.Contains(tr.cfg.Unclassified, r.Name):
			t.Errorf("%s is not classified: it has no tenant_id, and its comment says neither 'landlord: reference' nor 'landlord: global'", r)
		case r.owns() && !r.Secured:
			t.Errorf("%s holds rows of tenants, and row-level security is not enabled and forced", r)
		case r.Partition:
			t.Errorf("%s is a partition that the application reaches by itself, past its parent's policies", r)
		case r.Kind == "m":
			t.Errorf("%s is a materialised view, which no policy guards: take the application's rights from it", r)
		case r.Kind == "f":
			t.Errorf("%s is a foreign table, which no policy guards: take the application's rights from it", r)
		case r.Kind == "S" && r.Readable:
			t.Errorf("%s is a sequence whose value the application can read: it tells how much others have made", r)
		}
		for _, power := range r.Powers {
			t.Errorf("the application has a right to %s that no policy guards: %s", r, power)
		}
		if r.Home && r.Shared && r.TenantOwned {
			for _, key := range r.LooseKeys {
				if !slices.Contains(tr.cfg.SharedKeys, key) {
					t.Errorf("%s is unique over all tenants by %s: a conflict tells one what another has", r, key)
				}
			}
			for _, link := range r.LooseLinks {
				t.Errorf("%s may refer to another tenant's rows: %s leaves tenant_id out", r, link)
			}
		}
		if !r.Readable || r.Kind == "S" {
			continue
		}
		var found int
		q := "select count(*) from " + r.quoted() + " r where r::text like '%' || $1 || '%'"
		if err := tr.thief.QueryRow(ctx, q, victim).Scan(&found); err != nil {
			t.Logf("%s cannot be read: %v", r, err)
			continue
		}
		if found > 0 && r.Class == "" {
			t.Errorf("%s shows tenant %s %d rows that name tenant %s", r, tr.thief.Tenant(), found, victim)
		}
	}
}
