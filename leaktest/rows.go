package leaktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/router"
)

// SQLSTATEs of refusals.
const (
	insufficientPrivilege = "42501" // also what row-level security says
	undefinedTable        = "42P01" // the thief lives in another database
	undefinedSchema       = "3F000"
	generatedAlways       = "428C9" // an identity column is not updated
)

func refused(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}

// rows tries what can be done to the victim's rows by whoever knows their keys: read, lock, change, delete and forge them.
func (tr *trial) rows(t *testing.T) {
	for _, r := range tr.loot {
		t.Run(r.Name, func(t *testing.T) {
			for _, row := range r.rows {
				tr.read(t, r, row)
				tr.change(t, r, row)
				tr.insert(t, r, row)
			}
		})
	}
}

// named tells that the keys of r's rows name their tenant, so that a row of the same key is the same row.
func (r relation) named() bool { return slices.Contains(r.identifying(), "tenant_id") }

// identifying are the columns that tell a row from others: the key's, or without a key all.
func (r relation) identifying() []string {
	if len(r.Key) > 0 {
		return r.Key
	}
	return r.Columns
}

// victims is the victim's row v, given as JSON in $1, and the condition that r is it.
func (r relation) victims() (from, where string) {
	var same []string
	for _, c := range r.identifying() {
		name := pgx.Identifier{c}.Sanitize()
		same = append(same, fmt.Sprintf("r.%s::text is not distinct from v.%[1]s::text", name))
	}
	return fmt.Sprintf("jsonb_populate_record(null::%s, $1::jsonb) v", r.quoted()), strings.Join(same, " and ")
}

// queryer is a handle or a transaction.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// sees counts how often db sees the victim's row. lock is empty, or a locking clause.
func (r relation) sees(ctx context.Context, db queryer, row, lock string) (n int, err error) {
	from, where := r.victims()
	q := fmt.Sprintf("with x as materialized (select 1 from %s r, %s where %s %s) select count(*) from x", r.quoted(), from, where, lock)
	if err = db.QueryRow(ctx, q, row).Scan(&n); refused(err, undefinedTable, undefinedSchema, insufficientPrivilege) {
		return 0, nil
	}
	return n, err
}

func (tr *trial) read(t *testing.T, r relation, row string) {
	t.Helper()
	if !r.named() {
		return
	}
	if n, err := r.sees(t.Context(), tr.victim, row, ""); n == 0 {
		t.Errorf("the victim does not see its own row of %s, so that nothing is proved (%v)", r, err)
	}
	for _, lock := range []string{"", "for update of r", "for key share of r"} {
		switch n, err := r.sees(t.Context(), tr.thief, row, lock); {
		case err != nil:
			t.Errorf("read %s %s: %v", r, lock, err)
		case n > 0:
			t.Errorf("tenant %s reads a row of tenant %s in %s %s", tr.thief.Tenant(), tr.victim.Tenant(), r, lock)
		}
	}
}

func (tr *trial) change(t *testing.T, r relation, row string) {
	t.Helper()
	if !r.named() {
		return
	}
	from, where := r.victims()
	column := pgx.Identifier{r.Columns[len(r.Columns)-1]}.Sanitize()
	for _, sql := range []string{
		fmt.Sprintf("update %s r set %s = r.%[2]s from %s where %s", r.quoted(), column, from, where),
		fmt.Sprintf("delete from %s r using %s where %s", r.quoted(), from, where),
	} {
		err := try(t.Context(), tr.thief, func(ctx context.Context, tx *router.Tx) error {
			tag, err := tx.Exec(ctx, sql, row)
			if err == nil && tag.RowsAffected() > 0 {
				t.Errorf("tenant %s changes a row of tenant %s: %s", tr.thief.Tenant(), tr.victim.Tenant(), sql)
			}
			return err
		})
		if err != nil && !refused(err, undefinedTable, undefinedSchema, insufficientPrivilege, generatedAlways) {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// insert tries to write a row of the victim's.
func (tr *trial) insert(t *testing.T, r relation, row string) {
	t.Helper()
	if !r.TenantOwned {
		return
	}
	var names []string
	for _, c := range r.Columns {
		names = append(names, pgx.Identifier{c}.Sanitize())
	}
	sql := fmt.Sprintf("insert into %s (%s) overriding system value select %[2]s from jsonb_populate_record(null::%[1]s, $1::jsonb)",
		r.quoted(), strings.Join(names, ", "))
	err := try(t.Context(), tr.thief, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, sql, row)
		return err
	})
	switch {
	case err == nil:
		t.Errorf("tenant %s writes a row of tenant %s into %s", tr.thief.Tenant(), tr.victim.Tenant(), r)
	case !refused(err, undefinedTable, undefinedSchema, insufficientPrivilege):
		t.Errorf("tenant %s may write rows of tenant %s into %s: it is not for whose it is that this one was refused: %v",
			tr.thief.Tenant(), tr.victim.Tenant(), r, err)
	}
}
