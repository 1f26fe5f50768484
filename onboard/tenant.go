package onboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// undoTimeout bounds the undoing of a failed onboarding, which goes on when the caller's context has ended.
const undoTimeout = time.Minute

// Add brings a tenant in: it decides where the tenant lives, makes the home and opens it. The same call again finishes one
// that was interrupted, and of two at once both return the same placement. One that fails is undone; if that fails too, the
// error says what is left, and Purge takes it away. When ctx ends, what is done so far stays for the next call.
//
// Only the call that placed the tenant undoes, and only what was not there before. A home in which the tenant lives already,
// because the catalog was restored from a backup that does not know it, is [placement.ErrExists] and stays as it is.
func (s *Service) Add(ctx context.Context, req placement.Request) (placement.Placement, error) {
	p, resumed, err := s.cfg.Catalog.Place(ctx, req)
	if err != nil {
		return placement.Placement{}, err
	}
	if resumed {
		s.log.InfoContext(ctx, "resuming the onboarding of a tenant", "tenant", p.Tenant, "home", p.Home.String())
	}
	o := onboarding{Placement: p, resumed: resumed}
	if err = s.inspect(ctx, &o); err == nil {
		err = s.finish(ctx, &o)
	}
	switch {
	case err == nil:
		p.State = placement.StateActive
		return p, nil
	case ctx.Err() != nil:
		return p, fmt.Errorf("add tenant %s: interrupted (%w); the same command goes on where it stopped: %w", p.Slug, ctx.Err(), err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	finished, undoErr := s.abandon(ctx, o)
	if finished {
		p.State = placement.StateActive
		return p, nil
	}
	return placement.Placement{}, fmt.Errorf("add tenant %s: %w", p.Slug, errors.Join(err, undoErr))
}

// onboarding is one call of Add.
type onboarding struct {
	placement.Placement
	resumed   bool   // another call placed the tenant
	attempt   string // uuid, one for all calls that work on the same row of the catalog
	inspected bool   // the home was looked at and may be worked on
	gate      int64  // where the contract gate stood when it was built
	found     bool   // it was partly made before the tenant was placed
}

// attempt tells one onboarding of a tenant from another one, after which the catalog's row was made anew.
func (s *Service) attempt(ctx context.Context, t placement.Tenant) (string, error) {
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return "", err
	}
	name := settings.Installation + "\x00" + t.ID.String() + "\x00" + t.CreatedAt.UTC().Format(time.RFC3339Nano)
	return uuid.NewSHA1(uuid.Nil, []byte(name)).String(), nil
}

// inspect looks at the home before anything is made there.
func (s *Service) inspect(ctx context.Context, o *onboarding) error {
	t, err := s.cfg.Catalog.Tenant(ctx, o.Tenant)
	if err != nil {
		return err
	}
	if o.attempt, err = s.attempt(ctx, t); err != nil {
		return err
	}
	home, err := s.look(ctx, o.Placement)
	if err != nil {
		return err
	}
	if f := home.Fence; f != nil {
		if f.State != isolation.Open || f.Epoch != o.Epoch || !o.resumed && f.Owner != o.attempt {
			return inhabited(*f)
		}
	} else {
		o.found = home.Migrated && !o.resumed
	}
	o.inspected = true
	return nil
}

// inhabited reports a home in which a tenant lives of whom the catalog knows less.
func inhabited(f isolation.Fence) error {
	return fmt.Errorf("%w: its fence at %s is %s at epoch %d, so it seems to live there already, and nothing was touched: "+
		"landlord doctor --rebuild-catalog makes the catalog agree", placement.ErrExists, f.Home, f.State, f.Epoch)
}

// abandon ends an onboarding that failed. It reports whether another call has finished it.
func (s *Service) abandon(ctx context.Context, o onboarding) (finished bool, err error) {
	switch {
	case !o.inspected && !o.resumed: // nothing was made
		return false, s.cfg.Catalog.DeleteTenant(ctx, o.Tenant)
	case !o.inspected:
		return false, nil
	case !o.resumed && !o.found:
		finished, err = s.undo(ctx, o)
	default: // what is there may be another call's, unless that one has undone it
		t, lookErr := s.cfg.Catalog.Tenant(ctx, o.Tenant)
		switch {
		case lookErr == nil && t.State == placement.StateActive:
			return true, nil
		case lookErr == nil && t.State == placement.StateProvisioning || o.found:
			return false, errors.Join(lookErr, fmt.Errorf("what is made of it stays: the same command goes on there, and "+
				"'landlord tenant remove %s' takes it away", o.Slug))
		case lookErr != nil && !errors.Is(lookErr, placement.ErrUnknownTenant):
			return false, lookErr
		}
		finished, err = s.undo(ctx, o)
	}
	if err != nil {
		err = fmt.Errorf("undo it: %w; landlord tenant remove --due tries again", err)
	}
	return finished, err
}

// undo takes back what an onboarding has made. It claims the tenant in the catalog first, so that the same Add elsewhere
// either has finished before, which it reports, or cannot finish any more. A home that is open is complete: it is finished
// instead.
func (s *Service) undo(ctx context.Context, o onboarding) (finished bool, err error) {
	home, lookErr := s.look(ctx, o.Placement) // where nobody answers, Purge looks before it destroys
	f := home.Fence
	switch {
	case f == nil:
		err = s.cfg.Catalog.SetState(ctx, o.Tenant, placement.StateRemoving, placement.StateProvisioning)
	case f.State == isolation.Open && f.Epoch == o.Epoch:
		if o.inspected {
			err = s.cfg.Catalog.Activate(ctx, o.Tenant, o.gate)
		} else { // it is to be removed at once
			err = s.cfg.Catalog.SetState(ctx, o.Tenant, placement.StateActive, placement.StateProvisioning)
		}
		finished = err == nil
	default:
		err = inhabited(*f)
	}
	if finished {
		return true, nil
	}
	if err != nil {
		t, readErr := s.cfg.Catalog.Tenant(ctx, o.Tenant)
		undone := readErr == nil && t.RemovalDue || errors.Is(readErr, placement.ErrUnknownTenant) // elsewhere, perhaps before our last step
		switch {
		case readErr == nil && t.State == placement.StateActive:
			return true, nil
		case !undone:
			return false, err
		case f != nil && f.Owner != o.attempt:
			return false, inhabited(*f)
		}
	}
	if lookErr != nil {
		return false, lookErr
	}
	return false, s.forget(ctx, o.Placement, true)
}

// finish makes the home and then the tenant active. When contract files were let run meanwhile, the home gets what it lacks first.
func (s *Service) finish(ctx context.Context, o *onboarding) error {
	for {
		gate, err := s.cfg.Catalog.Gate(ctx)
		if err != nil {
			return err
		}
		if err := s.build(ctx, o.Placement, func(conn *pgx.Conn) error {
			return isolation.PutFence(ctx, conn, isolation.Fence{
				Tenant: o.Tenant.String(), Slug: string(o.Slug), Model: string(o.Model), Home: o.Home.String(), Epoch: o.Epoch,
				State: isolation.Open, Owner: o.attempt,
			})
		}); err != nil {
			return err
		}
		o.gate = gate.Contracted
		if err := s.cfg.Catalog.Activate(ctx, o.Tenant, o.gate); !errors.Is(err, placement.ErrGate) {
			return err
		}
	}
}

// build makes the home of p; fence, as the last step, writes its fence row. Every step may have been done before.
func (s *Service) build(ctx context.Context, p placement.Placement, fence func(*pgx.Conn) error) error {
	c, err := s.cfg.Catalog.Cluster(ctx, p.Home.Cluster)
	if err != nil {
		return err
	}
	switch p.Model {
	case placement.ModelSchema:
		if err := withOperator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error {
			return isolation.CreateSchema(ctx, conn, p.Home.Schema, p.Tenant.String())
		}); err != nil {
			return err
		}
	case placement.ModelDatabase:
		if err := s.createDatabase(ctx, c, p); err != nil {
			return err
		}
	}
	if p.Model != placement.ModelShared {
		if err := withMigrator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error {
			return s.cfg.Builder.Build(ctx, conn, p.Home.Schema, p.Tenant.String())
		}); err != nil {
			return err
		}
	}
	return withOperator(ctx, c, p.Home.Database, fence)
}

// createDatabase makes a dedicated database with a login and an identity of its own.
func (s *Service) createDatabase(ctx context.Context, c placement.Cluster, p placement.Placement) error {
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return err
	}
	choose, err := s.mode(ctx, c)
	if err != nil {
		return err
	}
	login := placement.DedicatedLogin(p.Home.Database)
	access, err := c.LoginConfig(login, p.Home.Database)
	if err != nil {
		return err
	}
	want := isolation.Identity{Installation: settings.Installation, Cluster: c.Name, AppLogin: login}
	if err := withOperator(ctx, c, "", func(conn *pgx.Conn) error {
		if want.Mode, _, err = choose(ctx, conn); err != nil {
			return err
		}
		if _, err := isolation.EnsureLogin(ctx, conn, login, access.Password); err != nil {
			return err
		}
		_, err := isolation.CreateDatabase(ctx, conn, p.Home.Database, isolation.TenantMark(p.Tenant.String()))
		return err
	}); err != nil {
		return err
	}
	if _, err = s.install(ctx, c, p.Home.Database, placement.ModelDatabase, want); err != nil {
		return err
	}
	return withOperator(ctx, c, p.Home.Database, func(conn *pgx.Conn) error {
		if err := s.hardenLike(ctx, c, conn); err != nil {
			return err
		}
		return s.cfg.Builder.Prepare(ctx, conn, false)
	})
}

// Suspend closes a tenant's home at once: no transaction opens there any more, whatever a router believes and whether or not
// the catalog can be reached. Those that are open run to their end.
func (s *Service) Suspend(ctx context.Context, t placement.Tenant) error {
	if err := settled(t); err != nil {
		return fmt.Errorf("suspend tenant %s: %w", t.Slug, err)
	}
	if err := s.setFence(ctx, t, isolation.Suspended); err != nil {
		return fmt.Errorf("suspend tenant %s: %w", t.Slug, err)
	}
	err := s.cfg.Catalog.SetState(ctx, t.ID, placement.StateSuspended)
	return s.settle(ctx, t, err)
}

// Resume opens a suspended tenant again, or one that is to be removed and whose grace period is not over.
func (s *Service) Resume(ctx context.Context, t placement.Tenant) error {
	if err := s.cfg.Catalog.SetState(ctx, t.ID, placement.StateActive, placement.StateSuspended, placement.StateRemoving); err != nil {
		return err
	}
	if err := s.settle(ctx, t, nil); err != nil {
		return fmt.Errorf("resume tenant %s: the catalog says active, but its home may be closed; try again: %w", t.Slug, err)
	}
	// Somebody may have suspended or removed it meanwhile.
	now, err := s.cfg.Catalog.Tenant(ctx, t.ID)
	if err == nil && now.State != placement.StateActive && now.State != placement.StateMoving {
		err = &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: now.State, Why: "somebody else closed it at the same time; its home is closed again"}
	}
	if err != nil {
		return fmt.Errorf("resume tenant %s: %w", t.Slug, err)
	}
	return nil
}

// settle brings the fence of t to what the catalog says, after a change there, or after changeErr, because of which there was none.
// Whoever opens or closes a home does it last, and looks again: of any number at once, each of which may have been overtaken by the
// others or by the beginning of a move, the last one to write a fence has seen that it is what the catalog says.
func (s *Service) settle(ctx context.Context, t placement.Tenant, changeErr error) error {
	if changeErr != nil && !errors.Is(changeErr, placement.ErrState) {
		return changeErr
	}
	for {
		now, err := s.cfg.Catalog.Tenant(ctx, t.ID)
		if errors.Is(err, placement.ErrUnknownTenant) {
			return changeErr
		}
		if err != nil {
			return errors.Join(changeErr, err)
		}
		to, ok := fenceOf[now.State]
		if !ok {
			return changeErr
		}
		var fenceErr error
		if now.State == placement.StateRemoving { // another process may be destroying it
			fenceErr = s.close(ctx, now)
		} else {
			fenceErr = s.setFence(ctx, now, to)
		}
		again, err := s.cfg.Catalog.Tenant(ctx, t.ID)
		switch {
		case err != nil && !errors.Is(err, placement.ErrUnknownTenant):
			return errors.Join(changeErr, fenceErr, err)
		case err == nil && (again.State != now.State || again.Epoch != now.Epoch):
			continue
		case err == nil && now.State == placement.StateMoving && errors.Is(fenceErr, isolation.ErrFence):
			return changeErr // the move has closed it, or passed the tenant on
		}
		return errors.Join(changeErr, fenceErr)
	}
}

// fenceOf is what the fence of a tenant's home says in each state of the catalog, when nobody moves it on.
var fenceOf = map[placement.State]isolation.FenceState{
	placement.StateActive:    isolation.Open,
	placement.StateMoving:    isolation.Open,
	placement.StateSuspended: isolation.Suspended,
	placement.StateRemoving:  isolation.Suspended,
}

// settled refuses to touch the home of a tenant that somebody is making or moving.
func settled(t placement.Tenant) error {
	switch t.State {
	case placement.StateProvisioning:
		return &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: "wait until that is over"}
	case placement.StateMoving:
		return &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: fmt.Sprintf(
			"end its move first: 'landlord move abort %[1]s' before the cutover, 'landlord move complete %[1]s' after it", t.Slug)}
	case placement.StateActive, placement.StateSuspended, placement.StateRemoving:
	}
	return nil
}

func (s *Service) setFence(ctx context.Context, t placement.Tenant, to isolation.FenceState) error {
	c, err := s.cfg.Catalog.Cluster(ctx, t.Home.Cluster)
	if err != nil {
		return err
	}
	return withOperator(ctx, c, t.Home.Database, func(conn *pgx.Conn) error {
		return isolation.SetFence(ctx, conn, t.ID.String(), t.Home.String(), t.Epoch, to)
	})
}
