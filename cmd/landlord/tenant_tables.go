package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

// The classes of tables that belong to a home.
const (
	classTenant    = "tenant"
	classReference = "reference"
)

// homeTable is a table of a tenant's home: one that holds rows of the tenant, or a reference table.
type homeTable struct {
	name   string // without its schema
	quoted string // with its schema
	class  string
	idType string // of tenant_id; "": the whole table is the tenant's, or everybody's
}

// homeTables lists the tables of t's home by name, partitions by their parents. Global tables, those of extensions and, in a
// shared home, those without a class are nobody's.
func homeTables(ctx context.Context, conn *pgx.Conn, t placement.Tenant) ([]homeTable, error) {
	const q = `
select c.relname, format('%I.%I', n.nspname, c.relname),
       case when a.attname is not null then 'tenant'
            when obj_description(c.oid, 'pg_class') ~ '^landlord: reference' then 'reference'
            when obj_description(c.oid, 'pg_class') ~ '^landlord: global' or $2 then ''
            else 'tenant' end as class,
       coalesce(format_type(a.atttypid, a.atttypmod), '')
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
 where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
   and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
 order by class desc, c.relname`
	rows, err := conn.Query(ctx, q, t.Home.Schema, t.Model == placement.ModelShared)
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", t.Home, err)
	}
	var tables []homeTable
	var table homeTable
	_, err = pgx.ForEachRow(rows, []any{&table.name, &table.quoted, &table.class, &table.idType}, func() error {
		if table.class != "" {
			tables = append(tables, table)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the tables of %s: %w", t.Home, err)
	}
	return tables, nil
}

// query selects what belongs to t, by name and not by row-level security, which does not bind an operator.
func (table homeTable) query(t placement.Tenant) string {
	q := "select * from " + table.quoted
	if table.idType != "" {
		q += " where tenant_id = " + sqlText(t.ID.String()) + "::" + table.idType
	}
	return q
}

// sqlText writes s as an SQL expression of type text in letters and digits, which no setting of any client or server reads
// otherwise. The planner folds it into a constant.
func sqlText(s string) string {
	return "convert_from(decode('" + hex.EncodeToString([]byte(s)) + "', 'hex'), 'UTF8')"
}

// readHome runs fn in one snapshot, in which a login that row-level security binds gets an error instead of a part.
func readHome(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local row_security = off`); err != nil {
			return err
		}
		return fn(tx)
	})
	if pgerr.Is(err, pgerr.InsufficientPrivilege) {
		return fmt.Errorf("%w: the operator's login must be a superuser, or have BYPASSRLS and be a member of landlord_owner", err)
	}
	return err
}
