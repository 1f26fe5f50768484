package placement

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Place decides where a new tenant lives and records it, in one transaction under the placement lock: state provisioning,
// epoch 1. It makes nothing on any cluster.
//
// The same slug and model again, while the tenant is still provisioning, is how an interrupted onboarding resumes: the
// placement that was recorded comes back, with existed true. Otherwise a slug or id that is taken is [ErrExists]. When no
// cluster can take the tenant, [ErrNoCapacity] says of each why not.
func (c *Catalog) Place(ctx context.Context, r Request) (p Placement, existed bool, err error) {
	act := fmt.Sprintf("place tenant %.70q", string(r.Slug))
	if err := r.Validate(); err != nil {
		return Placement{}, false, fmt.Errorf("%s: %w", act, err)
	}
	err = c.change(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		taken, err := c.takenBy(ctx, tx, r)
		if err != nil {
			return err
		}
		if taken != nil {
			p, existed = taken.Placement(), true
			return taken.resumes(r)
		}
		p, err = c.decide(ctx, tx, r)
		return err
	})
	if err != nil {
		return Placement{}, false, err
	}
	return p, existed, nil
}

// takenBy returns the tenant that has the slug or the id that r asks for, or nil.
func (c *Catalog) takenBy(ctx context.Context, tx pgx.Tx, r Request) (*Tenant, error) {
	filters := []Filter{{Slug: r.Slug}}
	if !r.ID.IsZero() {
		filters = append(filters, Filter{ID: r.ID})
	}
	for _, f := range filters {
		found, err := c.tenants(ctx, tx, f)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return &found[0], nil
		}
	}
	return nil, nil
}

// resumes tells whether r asks again for what t is being provisioned as.
func (t Tenant) resumes(r Request) error {
	is := fmt.Sprintf("tenant %s, id %s, is %s as %s at %s", t.Slug, t.ID, t.State, t.Model, t.Home)
	switch {
	case t.Slug != r.Slug:
		return fmt.Errorf("%w: the id is taken: %s", ErrExists, is)
	case t.State != StateProvisioning:
		return fmt.Errorf("%w: %s", ErrExists, is)
	case t.Model != r.Model, !r.ID.IsZero() && t.ID != r.ID, r.Cluster != "" && t.Home.Cluster != r.Cluster:
		return fmt.Errorf("%w: %s: resume it as that, or remove it first", ErrExists, is)
	}
	return nil
}

// decide chooses a cluster by counts that nobody can change before the commit.
func (c *Catalog) decide(ctx context.Context, tx pgx.Tx, r Request) (p Placement, err error) {
	settings := c.settings.Load()
	if r.ID.IsZero() {
		if r.ID, err = settings.IDType.New(); err != nil {
			return p, err
		}
	}
	all, err := usages(ctx, tx)
	if err != nil {
		return p, err
	}
	chosen, err := Choose(r, all)
	if err != nil {
		return p, err
	}
	p = Placement{
		Tenant: r.ID, Slug: r.Slug, State: StateProvisioning, Model: r.Model, Epoch: 1,
		Home: NewHome(r.Model, chosen, HomeName(settings.Installation, r.ID)),
	}
	t := Tenant{ID: r.ID, Slug: r.Slug, State: p.State, Tier: r.Tier, Region: r.Region, Model: p.Model, Home: p.Home, Epoch: p.Epoch}
	return p, c.insertTenant(ctx, tx, t, KindPlaced)
}

// insertTenant records a tenant, its placement and why, in one statement.
func (c *Catalog) insertTenant(ctx context.Context, tx pgx.Tx, t Tenant, kind Kind) error {
	const insert = `
with t as (insert into landlord.tenants (id, slug, state, tier, region) values ($1, $2, $3, $4, $5))
insert into landlord.placements (tenant, model, cluster, database, schema, epoch) values ($1, $6, $7, $8, $9, $10)`
	if _, err := tx.Exec(ctx, insert, t.ID.String(), t.Slug, t.State, t.Tier, t.Region,
		t.Model, t.Home.Cluster, t.Home.Database, t.Home.Schema, t.Epoch); err != nil {
		return err
	}
	return c.log(ctx, tx, LogEntry{Kind: kind, Tenant: t.ID, Slug: t.Slug, Cluster: t.Home.Cluster, Epoch: t.Epoch, After: t.Home.String()})
}
