package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// otherIDType finds a table of a shared database whose tenant_id cannot hold the installation's ids, and the type that it has.
func otherIDType(ctx context.Context, conn *pgx.Conn, want tenant.IDType) (table, has string, err error) {
	types := map[tenant.IDType][]string{
		tenant.UUID: {"uuid"}, tenant.BigInt: {"int8"}, tenant.Text: {"text", "varchar"},
	}[want]
	const q = `
select c.relname, format_type(a.atttypid, a.atttypmod)
  from pg_attribute a
  join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
  join pg_namespace n on n.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid
 where n.nspname = $1 and a.attname = 'tenant_id' and not a.attisdropped
   and coalesce((select b.typname from pg_type b where b.oid = t.typbasetype), t.typname) <> all ($2::text[])
 order by c.relname limit 1`
	err = conn.QueryRow(ctx, q, isolation.SharedSchema, types).Scan(&table, &has)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", nil
	}
	return table, has, err
}

// idTypes compares the tables of the shared databases with the installation's type of tenant ids.
func (d *doctor) idTypes(ctx context.Context, clusters []placement.Cluster, reached map[string]bool) {
	for _, c := range clusters {
		if !reached[c.Name] {
			continue
		}
		where := "database " + c.Name + "/" + c.SharedDatabase
		err := asOperator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
			table, has, err := otherIDType(ctx, conn, d.settings.IDType)
			if err == nil && table != "" {
				d.find(where, "add a migration that changes the column, then: landlord init",
					"tenant_id of table %s is %s, and tenant ids are %s", table, has, d.settings.IDType)
			}
			return err
		})
		if err != nil && !pgerr.Is(err, pgerr.UndefinedDatabase) { // not set up: said already
			d.find(where, "see why the operator cannot read it", "%v", err)
		}
	}
}
