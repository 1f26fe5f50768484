package drift

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/fingerprint"
)

// build is a home as the files make it.
type build struct {
	shared  bool
	version int64
}

// expectation is what such a home consists of.
type expectation struct {
	objects []fingerprint.Object
	sum     fingerprint.Fingerprint
}

// Where homes are built to be looked at. No tenant's home is called so, so that nobody takes it for one, or for what is left of one.
const (
	buildSchema = "landlord_drift"
	buildTenant = "drift"
)

// build makes every home that wanted asks for, one after the other in one schema, and notes what it consists of. Others who do so in
// this database wait. What a killed process has left is dropped by the next.
func (c *checker) build(ctx context.Context, wanted map[build]expectation) error {
	err := c.asOperator(ctx, c.cluster.SharedDatabase, func(operator *pgx.Conn) error {
		// The session's, so that it goes with the process. Lock order: this key, then those of the schema and its files.
		if _, err := operator.Exec(ctx, `select pg_advisory_lock(hashtextextended('landlord drift', 0))`); err != nil {
			return err
		}
		cfg, err := c.cluster.LoginConfig(isolation.MigratorRole, c.cluster.SharedDatabase)
		if err != nil {
			return err
		}
		return with(ctx, cfg, func(migrator *pgx.Conn) error {
			order := slices.SortedFunc(maps.Keys(wanted), func(a, b build) int {
				if a.shared != b.shared {
					return map[bool]int{true: -1, false: 1}[a.shared]
				}
				return cmp.Compare(a.version, b.version)
			})
			for len(order) > 0 {
				n := 1
				for n < len(order) && order[n].shared == order[0].shared {
					n++
				}
				if err := c.buildOne(ctx, operator, migrator, order[:n], wanted); err != nil {
					return err
				}
				order = order[n:]
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("build in %s/%s what homes should be: %w", c.cluster.Name, c.cluster.SharedDatabase, err)
	}
	return nil
}

// buildOne takes one home through versions, in ascending order.
func (c *checker) buildOne(ctx context.Context, operator, migrator *pgx.Conn, versions []build, wanted map[build]expectation) (err error) {
	if err := isolation.DropSchema(ctx, operator, buildSchema, buildTenant); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, isolation.DropSchema(ctx, operator, buildSchema, buildTenant))
	}()
	if err := isolation.CreateSchema(ctx, operator, buildSchema, buildTenant); err != nil {
		return err
	}
	home := fingerprint.Home{Schema: buildSchema, Tenant: buildTenant}
	if versions[0].shared {
		home.Tenant = ""
	}
	for _, b := range versions {
		if err := c.cfg.Set.Until(b.version).Build(ctx, migrator, buildSchema, home.Tenant); err != nil {
			return err
		}
		objects, err := fingerprint.Objects(ctx, operator, home)
		if err != nil {
			return err
		}
		wanted[b] = expectation{objects, fingerprint.Of(objects)}
	}
	return nil
}

// asOperator runs fn on a connection of the cluster's operator.
func (c *checker) asOperator(ctx context.Context, database string, fn func(*pgx.Conn) error) error {
	cfg, err := c.cluster.OperatorConfig(database)
	if err != nil {
		return err
	}
	return with(ctx, cfg, fn)
}

// connectTimeout is how long a server may take to answer.
const connectTimeout = 10 * time.Second

func with(ctx context.Context, cfg *pgx.ConnConfig, fn func(*pgx.Conn) error) (err error) {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to %s:%d as %s: %w", cfg.Host, cfg.Port, cfg.User, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	return fn(conn)
}

// snapshot runs fn in one snapshot, so that versions and objects belong together.
func snapshot(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, fn)
}
