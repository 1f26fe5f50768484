package onboard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// Census is what the homes themselves say of who lives where.
type Census struct {
	Databases []placement.Database
	Fences    []placement.FenceRow
	Errors    []*UnreadError
}

// UnreadError reports a database that could not be read, or a cluster whose databases could not even be listed.
type UnreadError struct {
	Cluster, Database string // Database is empty for a whole cluster
	Err               error
}

func (e *UnreadError) Error() string {
	if e.Database == "" {
		return fmt.Sprintf("list the databases of cluster %s: %v", e.Cluster, e.Err)
	}
	return fmt.Sprintf("read database %s of cluster %s: %v", e.Database, e.Cluster, e.Err)
}

func (e *UnreadError) Unwrap() error { return e.Err }

// Census reads the identity and the fence rows of every database of this installation on every cluster, whether or not the
// catalog knows the database. One that cannot be read is reported and does not stop the rest.
func (s *Service) Census(ctx context.Context) (Census, error) {
	settings, err := s.cfg.Catalog.Settings(ctx)
	if err != nil {
		return Census{}, err
	}
	clusters, err := s.cfg.Catalog.Clusters(ctx)
	if err != nil {
		return Census{}, err
	}
	var all Census
	for _, c := range clusters {
		var names []string
		err := withOperator(ctx, c, "", func(conn *pgx.Conn) error {
			// Homes are the databases that landlord_owner owns, but those in which migrations are rehearsed.
			const q = `
select datname from pg_database
 where datallowconn and pg_get_userbyid(datdba) = $1 and datname !~ '^landlord_rehearsal_' order by datname`
			rows, err := conn.Query(ctx, q, isolation.OwnerRole)
			if err != nil {
				return err
			}
			names, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		if err != nil {
			all.Errors = append(all.Errors, &UnreadError{Cluster: c.Name, Err: err})
			continue
		}
		for _, name := range names {
			if err := all.read(ctx, c, name, settings); err != nil {
				all.Errors = append(all.Errors, &UnreadError{Cluster: c.Name, Database: name, Err: err})
			}
		}
	}
	return all, nil
}

func (all *Census) read(ctx context.Context, c placement.Cluster, name string, settings placement.Settings) error {
	return withOperator(ctx, c, name, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		if err != nil {
			return err
		}
		if id.Installation != settings.Installation || id.Cluster != c.Name {
			return nil // another installation's, or another cluster of this one on the same server
		}
		fences, err := isolation.Fences(ctx, conn)
		if err != nil {
			return err
		}
		model := placement.ModelDatabase
		if name == c.SharedDatabase {
			model = placement.ModelShared
		}
		all.Databases = append(all.Databases, placement.Database{
			Cluster: c.Name, Name: name, Model: model, Stamp: id.Stamp, Mode: string(id.Mode), HomeVersion: id.Version, Login: id.AppLogin,
		})
		for _, f := range fences {
			row, err := fenceRow(f, settings.IDType)
			if err != nil {
				return err
			}
			all.Fences = append(all.Fences, row)
		}
		return nil
	})
}

func fenceRow(f isolation.Fence, ids tenant.IDType) (row placement.FenceRow, err error) {
	row = placement.FenceRow{Epoch: f.Epoch, State: string(f.State)}
	if row.Tenant, err = ids.Parse(f.Tenant); err != nil {
		return row, err
	}
	if row.Slug, err = tenant.ParseSlug(f.Slug); err != nil {
		return row, err
	}
	if row.Model, err = placement.ParseModel(f.Model); err != nil {
		return row, err
	}
	row.Home, err = placement.ParseHome(f.Home)
	return row, err
}
