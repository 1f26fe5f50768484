package onboard

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Make makes a home to which a tenant is to be moved: as for a new tenant, but nobody enters it. Its fence is importing, and only
// owner may fill it. The same call again goes on where it stopped; with another owner it takes over from the one before.
func (s *Service) Make(ctx context.Context, p placement.Placement, owner string) error {
	err := s.notLivedIn(ctx, p)
	if err == nil {
		err = s.build(ctx, p, func(conn *pgx.Conn) error {
			return isolation.Import(ctx, conn, isolation.Fence{
				Tenant: p.Tenant.String(), Slug: string(p.Slug), Model: string(p.Model), Home: p.Home.String(), Epoch: p.Epoch, Owner: owner,
			})
		})
	}
	if err != nil {
		return fmt.Errorf("make home %s: %w", p.Home, err)
	}
	return nil
}

// Unmake takes away a home to which a tenant was to be moved, or from which it was moved away: its tables, or the tenant's rows in
// tables that others share, and at last the fence. What is gone already is no error. It touches nothing where the catalog says that
// the tenant lives there, or the fence says anything but importing or moved at p's epoch. Transactions that still read there are
// waited for; where they take too long, or hold locks, it is an error, and can be tried again.
func (s *Service) Unmake(ctx context.Context, p placement.Placement) error {
	err := s.notLivedIn(ctx, p)
	if err == nil {
		err = s.unmake(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("take home %s away: %w", p.Home, err)
	}
	return nil
}

// notLivedIn refuses to touch the home that the catalog names.
func (s *Service) notLivedIn(ctx context.Context, p placement.Placement) error {
	t, err := s.cfg.Catalog.Tenant(ctx, p.Tenant)
	if err == nil && t.Home == p.Home {
		err = &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: "it lives there, and nothing was touched"}
	}
	return err
}

func (s *Service) unmake(ctx context.Context, p placement.Placement) error {
	c, err := s.cfg.Catalog.Cluster(ctx, p.Home.Cluster)
	if err != nil {
		return err
	}
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return err
	}
	err = withOperator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error {
		switch id, err := isolation.ReadIdentity(ctx, conn); {
		case errors.Is(err, isolation.ErrIdentity) && p.Model == placement.ModelDatabase:
			return nil // its making was cut short
		case err != nil:
			return err
		case id.Installation != settings.Installation || id.Cluster != c.Name:
			return fmt.Errorf("%w: the database belongs to cluster %s of installation %s", isolation.ErrForeign, id.Cluster, id.Installation)
		}
		return empty(ctx, conn, p)
	})
	if pgerr.Is(err, pgerr.UndefinedDatabase) { // with all that was in it
		err = nil
	}
	if err != nil || p.Model != placement.ModelDatabase {
		return err
	}
	return s.dropDatabase(ctx, c, p, func(err error) error { return err })
}

// empty closes a home for good and takes the tenant out of it. Of a dedicated database, which goes as a whole, it leaves the rest.
func empty(ctx context.Context, conn *pgx.Conn, p placement.Placement) error {
	id, home := p.Tenant.String(), p.Home.String()
	key := isolation.FenceKey{Tenant: id, Home: home}
	// Triggers, and foreign keys that set or delete what refers to a row, are for changes that the application makes.
	const q = `
select set_config('session_replication_role', 'replica', false), set_config('row_security', 'off', false),
       set_config('lock_timeout', '2s', false), set_config('statement_timeout', '0', false)`
	if _, err := conn.Exec(ctx, q); err != nil {
		return err
	}
	f, err := isolation.Look(ctx, conn, id, home, p.Home.Schema)
	if err != nil {
		return err
	}
	switch {
	case f.Fence == nil && p.Model != placement.ModelSchema:
		return nil // no row was ever copied here, or all is gone
	case f.Fence == nil:
		return isolation.DropSchema(ctx, conn, p.Home.Schema, id)
	case f.Fence.Epoch != p.Epoch || f.Fence.State != isolation.Importing && f.Fence.State != isolation.Moved:
		return fmt.Errorf("%w: it is %s at epoch %d, and nothing was touched", isolation.ErrFence, f.Fence.State, f.Fence.Epoch)
	}
	// Whoever has filled it, and was stopped in the middle, writes no more when it is woken.
	if err := isolation.TakeOver(ctx, conn, key, f.Fence.State, p.Epoch, uuid.NewString()); err != nil {
		return err
	}
	if err := isolation.Drain(ctx, conn, id, home); err != nil || p.Model == placement.ModelDatabase {
		return err
	}
	if p.Model == placement.ModelSchema {
		err = isolation.DropSchema(ctx, conn, p.Home.Schema, id)
	} else {
		_, err = isolation.DeleteRows(ctx, conn, p.Home.Schema, id)
	}
	if err != nil {
		return err
	}
	return isolation.DropFence(ctx, conn, id, home)
}
