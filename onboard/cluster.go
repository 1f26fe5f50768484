package onboard

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// SetUp makes a cluster of the catalog ready for tenants, or upgrades it: its roles, its shared database, landlord's objects
// and the application's tables in there. It returns what it changed, nothing when all was so already.
//
// Once tenants live in the shared database, its tables stay as they are: from then on they are migrated with all other homes, under
// time limits and in waves, and not by whoever sets a cluster up.
func (s *Service) SetUp(ctx context.Context, c placement.Cluster) (changed []string, err error) {
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return nil, err
	}
	want := isolation.Identity{Installation: settings.Installation, Cluster: c.Name, AppLogin: isolation.AppRole}
	if want.Stamp, err = s.stamp(ctx, c.Name, c.SharedDatabase); err != nil {
		return nil, err
	}
	choose, err := s.mode(ctx, c)
	if err != nil {
		return nil, err
	}
	did := func(steps ...string) {
		for _, step := range steps {
			changed = append(changed, fmt.Sprintf("cluster %s: %s", c.Name, step))
		}
	}
	err = withOperator(ctx, c, "", func(conn *pgx.Conn) error {
		var why string
		if want.Mode, why, err = choose(ctx, conn); err != nil {
			return err
		}
		passwords, err := rolePasswords(c)
		if err != nil {
			return err
		}
		passwords.Installation, passwords.Cluster = settings.Installation, c.Name
		err = isolation.CheckDatabase(ctx, conn, c.SharedDatabase, isolation.SharedMark(settings.Installation))
		if errors.Is(err, isolation.ErrForeign) {
			return fmt.Errorf("%w. If it is the application's own, and no other installation's, hand it over as a superuser and do this again: "+
				"create role %s nologin; alter database %s owner to %[2]s; comment on database %[3]s is null", err, isolation.OwnerRole,
				pgx.Identifier{c.SharedDatabase}.Sanitize())
		}
		if err != nil {
			return err
		}
		steps, err := isolation.EnsureRoles(ctx, conn, want.Mode, passwords)
		if err != nil {
			return err
		}
		did(steps...)
		created, err := isolation.CreateDatabase(ctx, conn, c.SharedDatabase, isolation.SharedMark(settings.Installation))
		if created {
			did(fmt.Sprintf("created shared database %s in mode %s: %s", c.SharedDatabase, want.Mode, why))
		}
		return err
	})
	if err != nil {
		return changed, fmt.Errorf("set up cluster %s: %w", c.Name, err)
	}
	upgraded, err := s.install(ctx, c, c.SharedDatabase, placement.ModelShared, want)
	if upgraded {
		did(fmt.Sprintf("installed home objects version %d in %s", isolation.Version, c.SharedDatabase))
	}
	if err == nil {
		var applied int
		applied, err = s.buildShared(ctx, c)
		if applied > 0 {
			did(fmt.Sprintf("applied %d migrations in %s", applied, c.SharedDatabase))
		}
	}
	if err != nil {
		return changed, fmt.Errorf("set up cluster %s: %w", c.Name, err)
	}
	return changed, nil
}

// buildShared brings the application's tables in a shared database up to date, unless tenants live there, and returns how
// many migrations that took.
func (s *Service) buildShared(ctx context.Context, c placement.Cluster) (applied int, err error) {
	residents, err := s.cfg.Catalog.Tenants(ctx, placement.Filter{Cluster: c.Name, Database: c.SharedDatabase, Limit: 1})
	if err != nil || len(residents) > 0 {
		return 0, err
	}
	if err := withOperator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
		return s.cfg.Builder.Prepare(ctx, conn, true)
	}); err != nil {
		return 0, err
	}
	err = withMigrator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
		before, err := versions(ctx, conn)
		if err != nil {
			return err
		}
		buildErr := s.cfg.Builder.Build(ctx, conn, isolation.SharedSchema, "")
		after, err := versions(ctx, conn)
		applied = max(after-before, 0)
		return errors.Join(buildErr, err)
	})
	return applied, err
}

// versions counts the migrations that the shared schema of conn's database has.
func versions(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	const q = `select count(*) from landlord.schema_version where schema = $1`
	if err := conn.QueryRow(ctx, q, isolation.SharedSchema).Scan(&n); err != nil {
		return 0, fmt.Errorf("count applied migrations: %w", err)
	}
	return n, nil
}

// Upgrade brings landlord's objects in every dedicated database to this program's version, and its login to the password
// that follows from the cluster's secret. It goes on past a database that fails, and can be run again. It returns what it
// changed.
func (s *Service) Upgrade(ctx context.Context) (changed []string, err error) {
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return nil, err
	}
	databases, err := s.cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, db := range databases {
		if db.Model != placement.ModelDatabase {
			continue
		}
		if ctx.Err() != nil {
			return changed, errors.Join(append(errs, ctx.Err())...)
		}
		steps, err := s.upgrade(ctx, db, settings.Installation)
		for _, step := range steps {
			changed = append(changed, fmt.Sprintf("cluster %s: %s", db.Cluster, step))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("upgrade database %s of cluster %s: %w", db.Name, db.Cluster, err))
		}
	}
	return changed, errors.Join(errs...)
}

func (s *Service) upgrade(ctx context.Context, db placement.Database, installation string) (steps []string, err error) {
	c, err := s.cfg.Catalog.Cluster(ctx, db.Cluster)
	if err != nil {
		return nil, err
	}
	access, err := c.LoginConfig(db.Login, db.Name)
	if err != nil {
		return nil, err
	}
	err = withOperator(ctx, c, "", func(conn *pgx.Conn) error {
		steps, err = isolation.EnsureLogin(ctx, conn, db.Login, access.Password)
		return err
	})
	if err != nil {
		return steps, err
	}
	mode := isolation.Mode(db.Mode)
	if s.cfg.Mode != "" {
		mode = s.cfg.Mode
	}
	upgraded, err := s.install(ctx, c, db.Name, placement.ModelDatabase,
		isolation.Identity{Installation: installation, Cluster: c.Name, Stamp: db.Stamp, AppLogin: db.Login, Mode: mode})
	if upgraded {
		steps = append(steps, fmt.Sprintf("installed home objects version %d in %s", isolation.Version, db.Name))
	}
	return steps, err
}

// stamp returns the stamp that the catalog knows a database by, or nothing when it does not know it.
func (s *Service) stamp(ctx context.Context, cluster, name string) (string, error) {
	databases, err := s.cfg.Catalog.Databases(ctx)
	if err != nil {
		return "", err
	}
	for _, db := range databases {
		if db.Cluster == cluster && db.Name == name {
			return db.Stamp, nil
		}
	}
	return "", nil
}

// install puts landlord's objects into a database and records it in the catalog. Where want has a stamp, a database with
// another or none is left alone: it was swapped, or dropped and made anew.
func (s *Service) install(ctx context.Context, c placement.Cluster, name string, model placement.Model, want isolation.Identity) (changed bool, err error) {
	err = withOperator(ctx, c, name, func(conn *pgx.Conn) error {
		asked := want
		if want, err = identity(ctx, conn, asked); err != nil {
			return err
		}
		changed, err = isolation.Install(ctx, conn, want, s.cfg.Keys)
		if errors.Is(err, isolation.ErrIdentity) && asked.Stamp == "" { // another process was faster: its stamp counts
			if want, err = identity(ctx, conn, asked); err == nil {
				changed, err = isolation.Install(ctx, conn, want, s.cfg.Keys)
			}
		}
		return err
	})
	if err != nil {
		return changed, err
	}
	return changed, s.cfg.Catalog.PutDatabase(ctx, placement.Database{
		Cluster: c.Name, Name: name, Model: model, Stamp: want.Stamp, Mode: string(want.Mode), HomeVersion: isolation.Version,
		Login: want.AppLogin,
	})
}

func rolePasswords(c placement.Cluster) (isolation.Passwords, error) {
	var pw isolation.Passwords
	for login, to := range map[string]*string{
		isolation.AppRole: &pw.App, isolation.AdminRole: &pw.Admin, isolation.MigratorRole: &pw.Migrator,
	} {
		cfg, err := c.LoginConfig(login, c.SharedDatabase)
		if err != nil {
			return pw, err
		}
		*to = cfg.Password
	}
	return pw, nil
}
