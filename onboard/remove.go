package onboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Remove closes a tenant's home and, when grace is over, lets Purge destroy it; Resume brings it back until then. A tenant
// that is still being provisioned is undone at once, unless its home is open already. A home that is gone needs no closing.
func (s *Service) Remove(ctx context.Context, t placement.Tenant, grace time.Duration) error {
	if t.State == placement.StateProvisioning {
		attempt, err := s.attempt(ctx, t)
		if err != nil {
			return fmt.Errorf("remove tenant %s: %w", t.Slug, err)
		}
		finished, err := s.undo(ctx, onboarding{Placement: t.Placement(), attempt: attempt})
		switch {
		case err != nil:
			return fmt.Errorf("remove tenant %s: %w", t.Slug, err)
		case !finished:
			return nil
		}
		t.State = placement.StateActive
	}
	if err := settled(t); err != nil {
		return fmt.Errorf("remove tenant %s: %w", t.Slug, err)
	}
	if err := s.close(ctx, t); err != nil {
		return fmt.Errorf("remove tenant %s: %w", t.Slug, err)
	}
	return s.settle(ctx, t, s.cfg.Catalog.ScheduleRemoval(ctx, t.ID, grace))
}

// close closes the home of a tenant that is to be removed, unless it is gone.
func (s *Service) close(ctx context.Context, t placement.Tenant) error {
	err := s.setFence(ctx, t, isolation.Suspended)
	if !pgerr.Is(err, pgerr.UndefinedDatabase, pgerr.UndefinedTable) && !errors.Is(err, isolation.ErrFence) {
		return err
	}
	home, lookErr := s.look(ctx, t.Placement())
	if lookErr != nil || !home.Gone {
		return errors.Join(err, lookErr)
	}
	s.log.WarnContext(ctx, "removing a tenant whose home is gone", "tenant", t.ID, "home", t.Home.String())
	return nil
}

// Purge destroys the home of a tenant whose grace period is over, and forgets the tenant. It can be called again. A home that
// is not closed is left alone, whatever the catalog says: it is [placement.ErrState].
func (s *Service) Purge(ctx context.Context, t placement.Tenant) error {
	if !t.RemovalDue {
		return &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: "its removal is not due"}
	}
	home, err := s.look(ctx, t.Placement())
	if err != nil {
		return err
	}
	if f := home.Fence; f != nil && (f.State != isolation.Suspended || f.Epoch != t.Epoch) {
		return &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: fmt.Sprintf(
			"but its fence at %s is %s at epoch %d, and nothing was destroyed: landlord doctor --rebuild-catalog makes the catalog agree",
			f.Home, f.State, f.Epoch)}
	}
	if home.Gone {
		s.log.WarnContext(ctx, "forgetting a tenant whose home is gone", "tenant", t.ID, "home", t.Home.String())
	}
	return s.forget(ctx, t.Placement(), false)
}

// look tells what stands at p's home. One whose database is there is never called gone when that was made for p alone.
func (s *Service) look(ctx context.Context, p placement.Placement) (home isolation.Standing, err error) {
	c, err := s.cfg.Catalog.Cluster(ctx, p.Home.Cluster)
	if err != nil {
		return home, err
	}
	err = withOperator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error {
		home, err = isolation.Look(ctx, conn, p.Tenant.String(), p.Home.String(), p.Home.Schema)
		home.Gone = home.Gone && p.Model != placement.ModelDatabase
		return err
	})
	switch {
	case pgerr.Is(err, pgerr.UndefinedDatabase):
		return isolation.Standing{Gone: true}, nil
	case err != nil:
		return isolation.Standing{}, fmt.Errorf("look at %s: %w", p.Home, err)
	}
	return home, nil
}

// forget takes away what belongs to p, children first and the catalog's row last, so that a failure can be repeated. What
// has p's name but was not made for p stays; unless the home is incomplete, that is an error.
func (s *Service) forget(ctx context.Context, p placement.Placement, incomplete bool) error {
	c, err := s.cfg.Catalog.Cluster(ctx, p.Home.Cluster)
	if err != nil {
		return err
	}
	ours := func(err error) error {
		if incomplete && errors.Is(err, isolation.ErrForeign) {
			return nil
		}
		return err
	}
	if p.Model == placement.ModelDatabase {
		err = s.dropDatabase(ctx, c, p, ours)
	} else {
		err = withOperator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error { return ours(clear(ctx, conn, p)) })
		if pgerr.Is(err, pgerr.UndefinedDatabase) { // with all that was in it
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return s.cfg.Catalog.DeleteTenant(ctx, p.Tenant)
}

// dropDatabase drops a dedicated database and its login, and then forgets it. Each error goes through ours.
func (s *Service) dropDatabase(ctx context.Context, c placement.Cluster, p placement.Placement, ours func(error) error) error {
	err := withOperator(ctx, c, "", func(conn *pgx.Conn) error {
		if err := ours(isolation.DropDatabase(ctx, conn, p.Home.Database, isolation.TenantMark(p.Tenant.String()))); err != nil {
			return err
		}
		return ours(isolation.DropLogin(ctx, conn, placement.DedicatedLogin(p.Home.Database)))
	})
	if err != nil {
		return err
	}
	return s.cfg.Catalog.DeleteDatabase(ctx, c.Name, p.Home.Database)
}

// clear takes a tenant out of a database that others share.
func clear(ctx context.Context, conn *pgx.Conn, p placement.Placement) error {
	id := p.Tenant.String()
	// Nobody enters any more; and what an open transaction would still write, nobody would find.
	err := isolation.SetFence(ctx, conn, id, p.Home.String(), p.Epoch, isolation.Suspended)
	if err != nil && !errors.Is(err, isolation.ErrFence) { // there may be none
		return err
	}
	if err := isolation.Drain(ctx, conn, id, p.Home.String()); err != nil {
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
	return isolation.DropFence(ctx, conn, id, p.Home.String())
}
