package isolation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// Standing is what stands at one home.
type Standing struct {
	Fence    *Fence // the tenant's; nil: there is none
	Migrated bool   // migrations are on record there
	Gone     bool   // no fence, no schema of the tenant's own, and no row of it: nothing is left to lose
}

// Look tells what stands at a tenant's home, whose schema is given. Of a database without landlord's objects it tells
// nothing. conn's login must have BYPASSRLS.
func Look(ctx context.Context, conn *pgx.Conn, tenant, home, schema string) (s Standing, err error) {
	const q = `
select f.tenant, f.slug, f.model, f.home, f.epoch, f.state, coalesce(f.owner::text, '')
  from landlord.fence f where f.tenant = $1 and f.home = $2`
	var f Fence
	err = conn.QueryRow(ctx, q, tenant, home).Scan(&f.Tenant, &f.Slug, &f.Model, &f.Home, &f.Epoch, &f.State, &f.Owner)
	switch {
	case pgerr.Is(err, pgerr.UndefinedTable, pgerr.UndefinedSchema):
		return Standing{}, nil
	case err == nil:
		s.Fence = &f
	case !errors.Is(err, pgx.ErrNoRows):
		return Standing{}, fmt.Errorf("read the fence at %s: %w", home, err)
	}
	var exists bool
	const made = `
select exists (select from landlord.schema_version where schema = $1), exists (select from pg_namespace where nspname = $1)`
	if err := conn.QueryRow(ctx, made, schema).Scan(&s.Migrated, &exists); err != nil {
		return Standing{}, fmt.Errorf("look at schema %s: %w", schema, err)
	}
	switch {
	case s.Fence != nil:
	case !exists:
		s.Gone = true
	case schema == SharedSchema:
		any, err := hasRows(ctx, conn, schema, tenant)
		if err != nil {
			return Standing{}, err
		}
		s.Gone = !any
	}
	return s, nil
}

// hasRows tells whether any table of a shared schema holds a row of the tenant.
func hasRows(ctx context.Context, conn *pgx.Conn, schema, tenant string) (any bool, err error) {
	tables, err := tenantTables(ctx, conn, schema)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		q := fmt.Sprintf("select exists (select from %s where tenant_id = $1::text::%s)", t.name, t.idType)
		if err := conn.QueryRow(ctx, q, tenant).Scan(&any); err != nil {
			return false, fmt.Errorf("look for the tenant's rows in %s: %w", t.name, err)
		}
		if any {
			return true, nil
		}
	}
	return false, nil
}
