package placement

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// Placement says where a tenant lives, and since which epoch.
type Placement struct {
	Tenant tenant.ID
	Slug   tenant.Slug
	State  State
	Model  Model
	Home   Home
	Epoch  int64
}

// Route is all that is needed to reach a tenant, in any of its states. Database is zero, but for its cluster and name, while
// the database of the home is not recorded: the tenant is still provisioning.
type Route struct {
	Placement
	Database Database
	Cluster  Cluster
}

// Route returns how to reach a tenant: one query, one round trip, bounded by ctx and Config.Timeout. It does not retry,
// because somebody waits for it: [ErrUnavailable] says that the catalog gave no answer, [ErrUnknownTenant] that it answered
// and has no such tenant.
func (c *Catalog) Route(ctx context.Context, id tenant.ID) (Route, error) {
	const query = `
select t.slug, t.state, p.model, p.cluster, p.database, p.schema, p.epoch,
       coalesce(d.model, ''), coalesce(d.stamp::text, ''), coalesce(d.mode, ''), coalesce(d.home_version, 0), coalesce(d.login, ''),
       c.name, c.endpoint, c.region, c.tier, c.state, c.capacity, c.connections, c.shared_database, c.operator, c.app, c.admin
from landlord.tenants t
join landlord.placements p on p.tenant = t.id
join landlord.clusters c on c.name = p.cluster
left join landlord.databases d on d.cluster = p.cluster and d.name = p.database
where t.id = $1`
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	r := Route{Placement: Placement{Tenant: id}}
	p, d := &r.Placement, &r.Database
	err := c.pool.QueryRow(ctx, query, id.String()).Scan(append([]any{
		&p.Slug, &p.State, &p.Model, &p.Home.Cluster, &p.Home.Database, &p.Home.Schema, &p.Epoch,
		&d.Model, &d.Stamp, &d.Mode, &d.HomeVersion, &d.Login,
	}, r.Cluster.columns()...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrUnknownTenant
	}
	if err != nil {
		return Route{}, fmt.Errorf("route tenant id %s: %w", id, judge(err))
	}
	d.Cluster, d.Name = p.Home.Cluster, p.Home.Database
	return r, nil
}
