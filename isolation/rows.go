package isolation

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// deleteBatch is how many rows one transaction of DeleteRows removes: short enough to hold up nobody.
const deleteBatch = 5000

// DeleteRows removes a tenant's rows from every tenant-owned table of a shared schema, in short transactions, children
// before parents; only tables that reference each other or themselves go in one, if they must. It can be called again after
// a failure. conn's login must have BYPASSRLS. It returns how many rows went. Transactions of the tenant must be over
// (Drain).
func DeleteRows(ctx context.Context, conn *pgx.Conn, schema, tenant string) (deleted int64, err error) {
	tables, err := tenantTables(ctx, conn, schema)
	if err != nil {
		return 0, err
	}
	for len(tables) > 0 {
		var blocked []ownedTable
		for _, table := range tables {
			n, err := deleteFrom(ctx, conn, table, tenant)
			deleted += n
			if referenced(err) { // its children come later in this round
				blocked = append(blocked, table)
				continue
			}
			if err != nil {
				return deleted, fmt.Errorf("delete the tenant's rows from %s: %w", table.name, err)
			}
		}
		if len(blocked) == len(tables) {
			n, err := deleteTogether(ctx, conn, blocked, tenant)
			if err != nil {
				return deleted, fmt.Errorf("delete the tenant's rows from %s and %d more: %w", blocked[0].name, len(blocked)-1, err)
			}
			return deleted + n, nil
		}
		tables = blocked
	}
	return deleted, nil
}

// referenced tells whether err comes of a row that others still refer to. One of those may have to be set to null, with its
// tenant_id.
func referenced(err error) bool {
	return pgerr.Is(err, pgerr.ForeignKeyViolation, pgerr.RestrictViolation, pgerr.NotNullViolation)
}

// ownedTable is one tenant-owned table.
type ownedTable struct {
	name   string // quoted, with its schema
	idType string // of tenant_id
}

// tenantTables lists the tables of a schema that have tenant_id; partitions are reached through their parents.
func tenantTables(ctx context.Context, conn *pgx.Conn, schema string) ([]ownedTable, error) {
	const q = `
select format('%I.%I', n.nspname, c.relname), format_type(a.atttypid, a.atttypmod)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
 where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition
 order by (select count(*) from pg_constraint f where f.contype = 'f' and f.confrelid = c.oid), c.oid desc`
	rows, err := conn.Query(ctx, q, schema)
	if err != nil {
		return nil, fmt.Errorf("list tenant-owned tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ownedTable, error) {
		var t ownedTable
		err := row.Scan(&t.name, &t.idType)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tenant-owned tables: %w", err)
	}
	return tables, nil
}

// deleteFrom works in batches.
func deleteFrom(ctx context.Context, conn *pgx.Conn, t ownedTable, tenant string) (deleted int64, err error) {
	q := fmt.Sprintf(`
with doomed as (select tableoid as part, ctid as row from %[1]s where tenant_id = $1::text::%[2]s limit %[3]d)
delete from %[1]s t using doomed where t.ctid = doomed.row and t.tableoid = doomed.part and t.tenant_id = $1::text::%[2]s`,
		t.name, t.idType, deleteBatch)
	for {
		n, err := deleteInTx(ctx, conn, q, tenant)
		deleted += n
		if err != nil || n < deleteBatch {
			return deleted, err
		}
	}
}

// deleteTogether empties tables in one statement, whose foreign keys are checked when all is gone.
func deleteTogether(ctx context.Context, conn *pgx.Conn, tables []ownedTable, tenant string) (deleted int64, err error) {
	var with, sum []string
	for i, t := range tables {
		with = append(with, fmt.Sprintf("d%d as (delete from %s where tenant_id = $1::text::%s returning 1)", i, t.name, t.idType))
		sum = append(sum, fmt.Sprintf("select from d%d", i))
	}
	return deleteInTx(ctx, conn, "with "+strings.Join(with, ", ")+" "+strings.Join(sum, " union all "), tenant)
}

// deleteInTx runs one statement, and shares the key that a cutover takes alone, as all work beside enter does. It returns
// how many rows the statement deleted or returned.
func deleteInTx(ctx context.Context, conn *pgx.Conn, q, tenant string) (n int64, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock_shared(landlord.bypass_key())`); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, q, tenant)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
