package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// Usage is a cluster and how many tenants are placed on it, in whatever state. One that is being moved to another cluster counts
// on both: it may go back.
type Usage struct {
	Cluster
	Tenants int
}

// usages counts placements in one grouped query: a counter would drift from what it counts.
func usages(ctx context.Context, q querier) ([]Usage, error) {
	const query = `
select c.name, c.endpoint, c.region, c.tier, c.state, c.capacity, c.connections, c.shared_database, c.operator, c.app, c.admin, coalesce(n.tenants, 0)
from landlord.clusters c
left join (
  select cluster, count(*) as tenants from (
    select tenant, cluster from landlord.placements
    union select tenant, unnest(array[source_cluster, target_cluster]) from landlord.moves where ended_at is null) p
   group by cluster) n on n.cluster = c.name
order by c.name`
	rows, err := q.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (u Usage, err error) {
		return u, row.Scan(append(u.columns(), &u.Tenants)...)
	})
}

// columns are where a row's name, endpoint, region, tier, state, capacity, connections, shared_database, operator, app and admin go.
func (c *Cluster) columns() []any {
	return []any{
		&c.Name, &c.Endpoint, &c.Region, &c.Tier, &c.State, &c.Capacity, &c.Connections, &c.SharedDatabase, &c.Operator, &c.App, &c.Admin,
	}
}

func cluster(ctx context.Context, q querier, name string) (c Cluster, err error) {
	const query = `
select name, endpoint, region, tier, state, capacity, connections, shared_database, operator, app, admin
from landlord.clusters where name = $1`
	rows, err := q.Query(ctx, query, name)
	if err != nil {
		return c, err
	}
	c, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (c Cluster, err error) {
		return c, row.Scan(c.columns()...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, ErrUnknownCluster
	}
	return c, err
}

// Clusters returns all clusters by name.
func (c *Catalog) Clusters(ctx context.Context) ([]Cluster, error) {
	all, err := c.Usage(ctx)
	clusters := make([]Cluster, len(all))
	for i, u := range all {
		clusters[i] = u.Cluster
	}
	return clusters, err
}

// Usage returns all clusters by name, with their number of tenants.
func (c *Catalog) Usage(ctx context.Context) (all []Usage, err error) {
	err = c.read(ctx, "list clusters", func(ctx context.Context, q querier) error {
		all, err = usages(ctx, q)
		return err
	})
	return all, err
}

// Cluster returns one cluster, or [ErrUnknownCluster].
func (c *Catalog) Cluster(ctx context.Context, name string) (found Cluster, err error) {
	err = c.read(ctx, fmt.Sprintf("read cluster %.70q", name), func(ctx context.Context, q querier) error {
		found, err = cluster(ctx, q, name)
		return err
	})
	return found, err
}

// AddCluster records a cluster; a name that is taken is [ErrExists]. Nothing connects to it.
func (c *Catalog) AddCluster(ctx context.Context, add Cluster) error {
	if add.State == "" {
		add.State = ClusterActive
	}
	add.Connections = cmp.Or(add.Connections, DefaultConnections)
	act := fmt.Sprintf("add cluster %.70q", add.Name)
	if err := add.Validate(); err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	const insert = `
insert into landlord.clusters (name, endpoint, region, tier, state, capacity, connections, shared_database, operator, app, admin)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing`
	return c.change(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insert, add.Name, add.Endpoint, add.Region, add.Tier, add.State, add.Capacity,
			add.Connections, add.SharedDatabase, add.Operator, add.App, add.Admin)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrExists
		}
		return c.log(ctx, tx, LogEntry{Kind: KindCluster, Cluster: add.Name, After: add.terms()})
	})
}

// UpdateCluster changes a cluster by what alter makes of it, and returns the result. Name and shared database stay. alter
// runs in the catalog's transaction, so nothing is lost to somebody else's change at the same time; it should do nothing
// but set fields. A capacity below the present number of tenants is allowed: it keeps new ones out.
func (c *Catalog) UpdateCluster(ctx context.Context, name string, alter func(*Cluster) error) (after Cluster, err error) {
	const update = `
update landlord.clusters
set endpoint = $2, region = $3, tier = $4, state = $5, capacity = $6, connections = $7, operator = $8, app = $9, admin = $10
where name = $1`
	err = c.change(ctx, fmt.Sprintf("change cluster %.70q", name), func(ctx context.Context, tx pgx.Tx) error {
		before, err := cluster(ctx, tx, name)
		if err != nil {
			return err
		}
		after = before
		if err := alter(&after); err != nil {
			return err
		}
		if after == before {
			return nil
		}
		if err := before.checkChange(after); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, update, name, after.Endpoint, after.Region, after.Tier, after.State, after.Capacity,
			after.Connections, after.Operator, after.App, after.Admin); err != nil {
			return err
		}
		if !before.reaches(after) {
			entry := LogEntry{Kind: KindEndpoint, Cluster: name, Before: before.Endpoint, After: after.Endpoint}
			if err := c.log(ctx, tx, entry); err != nil {
				return err
			}
		}
		if before.terms() == after.terms() {
			return nil
		}
		return c.log(ctx, tx, LogEntry{Kind: KindCluster, Cluster: name, Before: before.terms(), After: after.terms()})
	})
	return after, err
}

// RemoveCluster forgets a cluster that has neither tenants nor databases ([ErrInUse] otherwise).
func (c *Catalog) RemoveCluster(ctx context.Context, name string) error {
	const count = `
select (select count(*) from landlord.placements where cluster = $1), (select count(*) from landlord.databases where cluster = $1)`
	return c.change(ctx, fmt.Sprintf("remove cluster %.70q", name), func(ctx context.Context, tx pgx.Tx) error {
		before, err := cluster(ctx, tx, name)
		if err != nil {
			return err
		}
		var tenants, databases int
		if err := tx.QueryRow(ctx, count, name).Scan(&tenants, &databases); err != nil {
			return err
		}
		if tenants+databases > 0 {
			return fmt.Errorf("%w: %d tenants and %d databases are there: move or remove them first", ErrInUse, tenants, databases)
		}
		if err := noMoves(ctx, tx, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from landlord.clusters where name = $1`, name); err != nil {
			return err
		}
		return c.log(ctx, tx, LogEntry{Kind: KindCluster, Cluster: name, Before: before.terms()})
	})
}

// unknownCluster names the foreign key that stands for a cluster which is not there.
func unknownCluster(err error) error {
	if pgerr.Is(err, pgerr.ForeignKeyViolation) {
		return ErrUnknownCluster
	}
	return err
}
