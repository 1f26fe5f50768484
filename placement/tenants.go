package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// Tenant is a tenant and where it lives.
type Tenant struct {
	ID           tenant.ID
	Slug         tenant.Slug
	State        State
	Tier, Region string // as asked for; "" for no wish
	CreatedAt    time.Time
	// RemoveAfter is set while the tenant is removing: the end of its grace period.
	RemoveAfter *time.Time
	// RemovalDue is whether that time has come, by the catalog's clock. Then nothing brings the tenant back, and its home
	// may be destroyed.
	RemovalDue bool
	Model      Model
	Home       Home
	Epoch      int64
}

// Placement is the part of t that routers use.
func (t Tenant) Placement() Placement {
	return Placement{Tenant: t.ID, Slug: t.Slug, State: t.State, Model: t.Model, Home: t.Home, Epoch: t.Epoch}
}

// Filter chooses tenants. A zero field chooses all.
type Filter struct {
	ID                tenant.ID
	Slug              tenant.Slug
	State             State
	Model             Model
	Cluster, Database string
	Tier, Region      string
	After             tenant.Slug // the last slug of the page before
	Limit             int         // page size; 0: no limit
}

// tenants reads the chosen tenants by slug. Lookups use the primary key or the unique slug; the others scan.
func (c *Catalog) tenants(ctx context.Context, q querier, f Filter) ([]Tenant, error) {
	const query = `
select t.id, t.slug, t.state, t.tier, t.region, t.created_at, t.remove_after, coalesce(t.remove_after <= clock_timestamp(), false),
       p.model, p.cluster, p.database, p.schema, p.epoch
from landlord.tenants t join landlord.placements p on p.tenant = t.id
where ($1 = '' or t.id = $1) and ($2 = '' or t.slug = $2) and ($3 = '' or t.state = $3) and ($4 = '' or p.model = $4)
  and ($5 = '' or p.cluster = $5) and ($6 = '' or p.database = $6) and ($7 = '' or t.tier = $7) and ($8 = '' or t.region = $8)
  and t.slug > $9
order by t.slug limit nullif($10, 0)`
	rows, err := q.Query(ctx, query, f.ID.String(), f.Slug, f.State, f.Model, f.Cluster, f.Database, f.Tier, f.Region, f.After, f.Limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Tenant, err error) {
		var id string
		if err := row.Scan(&id, &t.Slug, &t.State, &t.Tier, &t.Region, &t.CreatedAt, &t.RemoveAfter, &t.RemovalDue,
			&t.Model, &t.Home.Cluster, &t.Home.Database, &t.Home.Schema, &t.Epoch); err != nil {
			return t, err
		}
		t.ID, err = c.parseID(id)
		return t, err
	})
}

// oneTenant reads the tenant with f's id or slug. It refuses to ask for nobody: an empty filter would choose somebody.
func (c *Catalog) oneTenant(ctx context.Context, q querier, f Filter) (Tenant, error) {
	if f.ID.IsZero() && f.Slug == "" {
		return Tenant{}, tenant.ErrNone
	}
	found, err := c.tenants(ctx, q, f)
	if err == nil && len(found) == 0 {
		err = ErrUnknownTenant
	}
	if err != nil {
		return Tenant{}, err
	}
	return found[0], nil
}

// Tenants returns the chosen tenants, by slug.
func (c *Catalog) Tenants(ctx context.Context, f Filter) (found []Tenant, err error) {
	err = c.read(ctx, "list tenants", func(ctx context.Context, q querier) error {
		found, err = c.tenants(ctx, q, f)
		return err
	})
	return found, err
}

// Tenant returns the tenant with this id, or [ErrUnknownTenant].
func (c *Catalog) Tenant(ctx context.Context, id tenant.ID) (Tenant, error) {
	return c.lookUp(ctx, fmt.Sprintf("look up tenant id %s", id), Filter{ID: id})
}

// TenantBySlug returns the tenant with this slug, or [ErrUnknownTenant].
func (c *Catalog) TenantBySlug(ctx context.Context, slug tenant.Slug) (Tenant, error) {
	return c.lookUp(ctx, fmt.Sprintf("look up tenant %.70q", string(slug)), Filter{Slug: slug})
}

func (c *Catalog) lookUp(ctx context.Context, act string, f Filter) (found Tenant, err error) {
	err = c.read(ctx, act, func(ctx context.Context, q querier) error {
		found, err = c.oneTenant(ctx, q, f)
		return err
	})
	return found, err
}

// SetState brings a tenant into a state, from one of the named states or, if none is named, from any that leads there.
// Nothing to do is no error. [ErrState] tells that the state machine, or the caller, does not allow it.
//
// A tenant that goes to removing by this call has no grace period; [Catalog.ScheduleRemoval] gives it one.
func (c *Catalog) SetState(ctx context.Context, id tenant.ID, to State, from ...State) error {
	return c.setState(ctx, id, to, from, nil, nil)
}

// ScheduleRemoval brings a tenant into the state removing, to be destroyed after a grace period that begins now by the
// catalog's clock. When it is removing already, its period starts anew; once that is over it is [ErrState]. One that is still
// provisioning has no grace period.
func (c *Catalog) ScheduleRemoval(ctx context.Context, id tenant.ID, grace time.Duration) error {
	return c.setState(ctx, id, StateRemoving, nil, &grace, nil)
}

// setState gives grace, if any, to a tenant that goes to removing. What check, if any, finds keeps the state from changing.
func (c *Catalog) setState(ctx context.Context, id tenant.ID, to State, from []State, grace *time.Duration,
	check func(ctx context.Context, tx pgx.Tx) error,
) error {
	const update = `
update landlord.tenants
set state = $2, remove_after = case $2 when 'removing' then clock_timestamp() + $3::interval end
where id = $1`
	return c.change(ctx, fmt.Sprintf("set tenant %s", to), func(ctx context.Context, tx pgx.Tx) error {
		t, err := c.oneTenant(ctx, tx, Filter{ID: id})
		if err != nil {
			return err
		}
		wrong := func(why string) error { return &StateError{Tenant: id, Slug: t.Slug, Have: t.State, Why: why} }
		switch {
		case t.RemovalDue && (to != StateRemoving || grace != nil):
			return wrong("its grace period is over, and its home may be gone; landlord tenant remove --due destroys it")
		case t.State == to && (to != StateRemoving || t.RemovalDue):
			return nil
		case t.State == StateRemoving && to == StateSuspended:
			return wrong("it is closed already; only landlord tenant resume calls the removal off")
		case t.State != to && !t.State.leadsTo(to):
			return wrong(fmt.Sprintf("that does not lead to %s", to))
		case len(from) > 0 && !slices.Contains(from, t.State):
			return wrong(fmt.Sprintf("expected %v", from))
		}
		if check != nil {
			if err := check(ctx, tx); err != nil {
				return err
			}
		}
		period := time.Duration(0)
		if grace != nil && t.State != StateProvisioning {
			period = *grace
		}
		if _, err := tx.Exec(ctx, update, id.String(), to, period); err != nil {
			return err
		}
		return c.log(ctx, tx, LogEntry{
			Kind: KindState, Tenant: id, Slug: t.Slug, Cluster: t.Home.Cluster, Epoch: t.Epoch,
			Before: string(t.State), After: string(to),
		})
	})
}

// DeleteTenant forgets a tenant: one whose provisioning was undone, or one whose grace period is over and whose home is
// gone. Any other is [ErrState]; an unknown one is nothing to do.
func (c *Catalog) DeleteTenant(ctx context.Context, id tenant.ID) error {
	return c.change(ctx, "delete tenant", func(ctx context.Context, tx pgx.Tx) error {
		t, err := c.oneTenant(ctx, tx, Filter{ID: id})
		if errors.Is(err, ErrUnknownTenant) {
			return nil
		}
		if err != nil {
			return err
		}
		if t.State != StateProvisioning && !t.RemovalDue {
			return &StateError{Tenant: id, Slug: t.Slug, Have: t.State, Why: "only a tenant whose provisioning was undone, or whose grace period is over, can be deleted"}
		}
		if _, err := tx.Exec(ctx, `delete from landlord.tenants where id = $1`, id.String()); err != nil {
			return err
		}
		return c.log(ctx, tx, LogEntry{
			Kind: KindRemoved, Tenant: id, Slug: t.Slug, Cluster: t.Home.Cluster, Epoch: t.Epoch,
			Before: t.Home.String(),
		})
	})
}

// SetPlacement records that p.Tenant lives at p.Home in p.Model from epoch p.Epoch on, if its placement still has the epoch
// was; otherwise it is [ErrStale]. State and slug stay. Capacity is not asked: this is what has already happened.
func (c *Catalog) SetPlacement(ctx context.Context, was int64, p Placement) error {
	act := fmt.Sprintf("set placement of tenant id %s", p.Tenant)
	if err := p.Home.Validate(); err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	if p.Epoch <= was {
		return fmt.Errorf("%s: epoch %d does not follow %d: epochs only rise", act, p.Epoch, was)
	}
	const update = `
update landlord.placements set model = $3, cluster = $4, database = $5, schema = $6, epoch = $7
where tenant = $1 and epoch = $2`
	return c.change(ctx, act, func(ctx context.Context, tx pgx.Tx) error {
		before, err := c.oneTenant(ctx, tx, Filter{ID: p.Tenant})
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, update, p.Tenant.String(), was, p.Model, p.Home.Cluster, p.Home.Database, p.Home.Schema, p.Epoch)
		if err != nil {
			return unknownCluster(err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%w: it is %d, not %d", ErrStale, before.Epoch, was)
		}
		return c.log(ctx, tx, LogEntry{
			Kind: KindMoved, Tenant: p.Tenant, Slug: before.Slug, Cluster: p.Home.Cluster, Epoch: p.Epoch,
			Before: before.Home.String(), After: p.Home.String(),
		})
	})
}
