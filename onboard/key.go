package onboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// AddKeys makes the keys of ring known to every database of the catalog. Do it before any service seals with them. It goes
// on past a database that fails, and returns in how many a key was new.
func (s *Service) AddKeys(ctx context.Context, ring isolation.Keyring) (added int, err error) {
	err = s.eachDatabase(ctx, func(conn *pgx.Conn, db placement.Database) error {
		changed, err := isolation.AddKeys(ctx, conn, ring, db.Stamp)
		if changed {
			added++
		}
		return err
	})
	return added, err
}

// RetireKey ends a key in every database of the catalog, after grace. Do it after every service has stopped sealing with
// it. It goes on past a database that fails, and returns in how many the key was alive.
func (s *Service) RetireKey(ctx context.Context, id int, grace time.Duration) (retired int, err error) {
	err = s.eachDatabase(ctx, func(conn *pgx.Conn, _ placement.Database) error {
		changed, err := isolation.RetireKey(ctx, conn, id, grace)
		if changed {
			retired++
		}
		return err
	})
	return retired, err
}

// DatabaseKeys is what one database knows of the seal keys.
type DatabaseKeys struct {
	Database placement.Database
	Keys     []isolation.KeyState
}

// Keys lists the keys that every database of the catalog knows.
func (s *Service) Keys(ctx context.Context) (all []DatabaseKeys, err error) {
	err = s.eachDatabase(ctx, func(conn *pgx.Conn, db placement.Database) error {
		keys, err := isolation.Keys(ctx, conn)
		all = append(all, DatabaseKeys{Database: db, Keys: keys})
		return err
	})
	return all, err
}

// eachDatabase runs fn as the operator in every database of the catalog, after a look that it is the one recorded.
func (s *Service) eachDatabase(ctx context.Context, fn func(*pgx.Conn, placement.Database) error) error {
	databases, err := s.cfg.Catalog.Databases(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, db := range databases {
		c, err := s.cfg.Catalog.Cluster(ctx, db.Cluster)
		if err == nil {
			err = withOperator(ctx, c, db.Name, func(conn *pgx.Conn) error {
				got, err := isolation.ReadIdentity(ctx, conn)
				if err != nil {
					return err
				}
				if err := (isolation.Identity{Cluster: db.Cluster, Stamp: db.Stamp}).Check(got); err != nil {
					return err
				}
				return fn(conn, db)
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("database %s of cluster %s: %w", db.Name, db.Cluster, err))
		}
	}
	return errors.Join(errs...)
}
