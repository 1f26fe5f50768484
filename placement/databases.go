package placement

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Database is one database that holds homes: a cluster's shared one, or a tenant's own.
type Database struct {
	Cluster, Name string
	Model         Model  // ModelShared (for shared and schema homes) or ModelDatabase
	Stamp         string // uuid, also inside the database: it is the one that was meant only if they agree
	Mode          string // isolation mode: plain, locked, sealed or sealed-mac
	HomeVersion   int    // of landlord's objects inside
	Login         string // the application's login there
}

// Validate reports everything that is wrong with d.
func (d Database) Validate() error {
	errs := []error{checkClusterName(d.Cluster), checkDatabaseName(d.Name), checkIdentifier("login", d.Login)}
	if d.Model != ModelShared && d.Model != ModelDatabase {
		errs = append(errs, fmt.Errorf("bad model %.40q of a database: use shared or database", string(d.Model)))
	}
	if _, err := uuid.Parse(d.Stamp); err != nil {
		errs = append(errs, errors.New("bad stamp: give a uuid"))
	}
	if d.Mode == "" || d.HomeVersion <= 0 {
		errs = append(errs, errors.New("isolation mode or home version is missing"))
	}
	return errors.Join(errs...)
}

// PutDatabase records a database or what has changed of it; nothing when it is recorded so already.
func (c *Catalog) PutDatabase(ctx context.Context, d Database) error {
	act := fmt.Sprintf("record database %.70q of cluster %.70q", d.Name, d.Cluster)
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	const put = `
insert into landlord.databases as d (cluster, name, model, stamp, mode, home_version, login)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (cluster, name) do update
set model = excluded.model, stamp = excluded.stamp, mode = excluded.mode, home_version = excluded.home_version, login = excluded.login
where (d.model, d.stamp, d.mode, d.home_version, d.login)
    is distinct from (excluded.model, excluded.stamp, excluded.mode, excluded.home_version, excluded.login)`
	return c.change(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, put, d.Cluster, d.Name, d.Model, d.Stamp, d.Mode, d.HomeVersion, d.Login)
		if err != nil || tag.RowsAffected() == 0 {
			return unknownCluster(err)
		}
		return c.logDatabase(ctx, tx, d, fmt.Sprintf("%s: stamp %s, mode %s, home version %d", d.Name, d.Stamp, d.Mode, d.HomeVersion))
	})
}

// DeleteDatabase forgets a database in which no tenant lives ([ErrInUse] otherwise); nothing when it is not recorded. A
// tenant that is being removed, or whose provisioning is being undone, does not count.
func (c *Catalog) DeleteDatabase(ctx context.Context, cluster, name string) error {
	const count = `
select count(*) from landlord.placements p join landlord.tenants t on t.id = p.tenant
where p.cluster = $1 and p.database = $2 and t.state not in ('provisioning', 'removing')`
	const remove = `delete from landlord.databases where cluster = $1 and name = $2 returning model`
	return c.change(ctx, fmt.Sprintf("forget database %.70q of cluster %.70q", name, cluster), func(ctx context.Context, tx pgx.Tx) error {
		var tenants int
		if err := tx.QueryRow(ctx, count, cluster, name).Scan(&tenants); err != nil {
			return err
		}
		if tenants > 0 {
			return fmt.Errorf("%w: %d tenants live there: move or remove them first", ErrInUse, tenants)
		}
		gone := Database{Cluster: cluster, Name: name}
		if err := tx.QueryRow(ctx, remove, cluster, name).Scan(&gone.Model); errors.Is(err, pgx.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		return c.logDatabase(ctx, tx, gone, "")
	})
}

// logDatabase logs a shared database as such: routers then forget everybody. A dedicated one is logged under the tenant
// that lives there, so that they forget only that one; without a tenant no router knows it, and nothing is logged.
func (c *Catalog) logDatabase(ctx context.Context, tx pgx.Tx, d Database, after string) error {
	entry := LogEntry{Kind: KindDatabase, Cluster: d.Cluster, Before: d.Name, After: after}
	if d.Model == ModelShared {
		return c.log(ctx, tx, entry)
	}
	residents, err := c.tenants(ctx, tx, Filter{Cluster: d.Cluster, Database: d.Name})
	if err != nil || len(residents) == 0 {
		return err
	}
	entry.Tenant, entry.Slug, entry.Epoch = residents[0].ID, residents[0].Slug, residents[0].Epoch
	return c.log(ctx, tx, entry)
}

// Databases returns all databases, by cluster and name.
func (c *Catalog) Databases(ctx context.Context) (all []Database, err error) {
	const query = `
select cluster, name, model, stamp::text, mode, home_version, login from landlord.databases order by cluster, name`
	err = c.read(ctx, "list databases", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Database])
		return err
	})
	return all, err
}
