package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/rehearsal"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// leftovers finds schemas and databases that this installation made for tenants of whom neither catalog nor homes know.
func (d *doctor) leftovers(ctx context.Context, clusters []placement.Cluster, reached map[string]bool, known map[tenant.ID]bool) error {
	for _, c := range clusters {
		if !reached[c.Name] {
			continue
		}
		const databases = `
select datname, shobj_description(oid, 'pg_database') from pg_database where datdba = to_regrole($1) order by datname`
		err := d.marked(ctx, c, "", databases, known, func(name string) {
			quoted := pgx.Identifier{name}.Sanitize()
			d.leave(c, "database "+name, fmt.Sprintf("look into it; then: drop database %s; drop role if exists %s",
				quoted, pgx.Identifier{placement.DedicatedLogin(name)}.Sanitize()))
		})
		if err != nil {
			return err
		}
		if err := d.rehearsals(ctx, c); err != nil {
			return err
		}
		const schemas = `
select nspname, obj_description(oid, 'pg_namespace') from pg_namespace where nspowner = to_regrole($1) order by nspname`
		err = d.marked(ctx, c, c.SharedDatabase, schemas, known, func(name string) {
			d.leave(c, "schema "+name+" of database "+c.SharedDatabase,
				fmt.Sprintf("look into it; then: drop schema %s cascade", pgx.Identifier{name}.Sanitize()))
		})
		if err != nil && !pgerr.Is(err, pgerr.UndefinedDatabase) { // not set up: said already
			return err
		}
	}
	return nil
}

// rehearsals finds scratch databases that killed processes have left.
func (d *doctor) rehearsals(ctx context.Context, c placement.Cluster) error {
	return asOperator(ctx, c, "", func(conn *pgx.Conn) error {
		all, err := rehearsal.Leftovers(ctx, conn, d.settings.Installation)
		for _, l := range all {
			fix := "landlord migrate plan or up drops it where something is pending; or: "
			if l.Unmarked {
				fix = "its making was cut short, so that nothing shows whose it is; look into it; then: "
			}
			d.leave(c, "database "+l.Name, fix+"drop database "+pgx.Identifier{l.Name}.Sanitize())
		}
		return err
	})
}

func (d *doctor) leave(c placement.Cluster, object, fix string) {
	d.out.Residue = append(d.out.Residue, residue{Cluster: c.Name, Object: object, Why: "belongs to no tenant", Fix: fix})
}

// marked calls fn with what landlord's comment says was made for a tenant that is not known. A name that this installation
// would not have given is another installation's.
func (d *doctor) marked(ctx context.Context, c placement.Cluster, database, query string, known map[tenant.ID]bool, fn func(name string)) error {
	err := asOperator(ctx, c, database, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, query, isolation.OwnerRole)
		if err != nil {
			return err
		}
		var name string
		var comment *string
		_, err = pgx.ForEachRow(rows, []any{&name, &comment}, func() error {
			if comment == nil {
				return nil
			}
			text, ok := strings.CutPrefix(*comment, "landlord: "+isolation.TenantMark(""))
			id, err := d.settings.IDType.Parse(text)
			if ok && err == nil && !known[id] && placement.IsHomeName(name, d.settings.Installation, id) {
				fn(name)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("look for what is left on cluster %s: %w", c.Name, err)
	}
	return nil
}
