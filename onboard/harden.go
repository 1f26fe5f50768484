package onboard

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// HardenedDatabase is what became of one database.
type HardenedDatabase struct {
	Cluster, Database string
	Measures          []isolation.Hardening
}

// Harden takes from the public, in every database of the installation, what the application has no use for
// ([isolation.Measures]); undo gives it back, look changes nothing. Dedicated databases that are made later on a cluster whose shared
// database is hardened are hardened too. A database that fails does not keep the others from being done.
func (s *Service) Harden(ctx context.Context, undo, look bool) ([]HardenedDatabase, error) {
	databases, err := s.cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	var all []HardenedDatabase
	var errs []error
	for _, db := range databases {
		if ctx.Err() != nil {
			return all, errors.Join(append(errs, ctx.Err())...)
		}
		done := HardenedDatabase{Cluster: db.Cluster, Database: db.Name}
		c, err := s.cfg.Catalog.Cluster(ctx, db.Cluster)
		if err == nil {
			err = withOperator(ctx, c, db.Name, func(conn *pgx.Conn) error {
				done.Measures, err = isolation.Harden(ctx, conn, undo, look)
				return err
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("database %s of cluster %s: %w", db.Name, db.Cluster, err))
		}
		all = append(all, done)
	}
	return all, errors.Join(errs...)
}

// hardenLike hardens a new database where the cluster's shared one is hardened.
func (s *Service) hardenLike(ctx context.Context, c placement.Cluster, conn *pgx.Conn) error {
	var hardened bool
	err := withOperator(ctx, c, c.SharedDatabase, func(shared *pgx.Conn) (err error) {
		hardened, err = isolation.Hardened(ctx, shared)
		return err
	})
	if err != nil || !hardened {
		return err
	}
	_, err = isolation.Harden(ctx, conn, false, false)
	return err
}
