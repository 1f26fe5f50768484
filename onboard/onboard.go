// Package onboard makes and unmakes homes: it sets clusters up, brings tenants in, suspends them, and removes them.
//
// It guarantees that what it does can be repeated: a tenant whose onboarding was interrupted is finished by the same call,
// one whose onboarding failed leaves nothing behind, and no schema, database or login is ever reused or dropped that
// landlord did not make for that very tenant. What a home holds is the Builder's business.
package onboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Builder builds the application's tables in a new home. conn is the migrator's login in the home's database; tenant is the
// tenant of a schema or database home, empty in a shared one. It must secure what it makes in the transaction that makes it
// (landlord.secure), and do nothing when all is there already. It must build no further than the catalog's contract gate
// ([placement.Catalog.Gate]) allows, as fleet.Builder does: the instances of the application that are alive may need the old shape.
//
// Prepare runs in a database before its first Build, as the operator, and does what is needed there once for all homes;
// server tells that it is the server's shared database, in which what concerns the whole server is done too.
type Builder interface {
	Prepare(ctx context.Context, conn *pgx.Conn, server bool) error
	Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error
}

// Config of a Service. All but Logger and Mode are required.
type Config struct {
	Catalog *placement.Catalog
	Keys    isolation.Keyring
	Builder Builder
	Mode    isolation.Mode // of databases to come; empty: as the cluster's, for a new cluster the strongest its server allows
	Logger  *slog.Logger   // nil: none
}

// Service makes and unmakes homes. It keeps no connection between calls and is safe for concurrent use.
type Service struct {
	cfg Config
	log *slog.Logger
}

// New returns a service. It connects to nothing.
func New(cfg Config) (*Service, error) {
	var errs []error
	if cfg.Catalog == nil {
		errs = append(errs, errors.New("Catalog is missing"))
	}
	if cfg.Builder == nil {
		errs = append(errs, errors.New("Builder is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure onboarding: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, log: cfg.Logger}, nil
}

// withOperator runs fn on a connection of the cluster's operator login to a database; empty: the one its DSN names.
func withOperator(ctx context.Context, c placement.Cluster, database string, fn func(*pgx.Conn) error) error {
	cfg, err := c.OperatorConfig(database)
	if err != nil {
		return err
	}
	return with(ctx, cfg, fn)
}

// withMigrator runs fn on a connection of the migrator's login.
func withMigrator(ctx context.Context, c placement.Cluster, database string, fn func(*pgx.Conn) error) error {
	cfg, err := c.LoginConfig(isolation.MigratorRole, database)
	if err != nil {
		return err
	}
	return with(ctx, cfg, fn)
}

// connectPatience is how long a server without a free connection is asked again.
const connectPatience = 30 * time.Second

func with(ctx context.Context, cfg *pgx.ConnConfig, fn func(*pgx.Conn) error) (err error) {
	conn, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	return fn(conn)
}

// connect waits, with jitter, while the server is short of connections or starting.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	deadline := time.Now().Add(connectPatience)
	pause := 20 * time.Millisecond
	for {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn, nil
		}
		if !pgerr.Is(err, pgerr.TooManyConnections, pgerr.CannotConnectNow) || time.Now().After(deadline) {
			return nil, fmt.Errorf("connect to %s:%d as %s: %w", cfg.Host, cfg.Port, cfg.User, err)
		}
		select {
		case <-time.After(rand.N(2 * pause)):
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s:%d as %s: %w", cfg.Host, cfg.Port, cfg.User, errors.Join(ctx.Err(), err))
		}
		pause = min(2*pause, time.Second)
	}
}

// identity adds to want the stamp that a database carries already, or makes one up. Where want names one, the database must
// carry it: one without was dropped and made anew.
func identity(ctx context.Context, conn *pgx.Conn, want isolation.Identity) (isolation.Identity, error) {
	have, err := isolation.ReadIdentity(ctx, conn)
	switch {
	case errors.Is(err, isolation.ErrIdentity) && want.Stamp == "": // no objects yet
		want.Stamp = uuid.NewString()
		return want, nil
	case err != nil:
		return want, err
	case want.Stamp == "":
		want.Stamp = have.Stamp
	}
	return want, nil // Install compares
}
