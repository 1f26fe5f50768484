package router

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/pools"
)

// acquire returns a connection of t's pool for login, opening pool and connection if needed.
func (r *Router) acquire(ctx context.Context, t *target) (*pools.Conn, error) {
	conn, err := r.pools.Acquire(ctx, t.key, func() (*pgxpool.Config, error) {
		return r.poolConfig(t, t.db.Login, r.openTenantSession)
	})
	if err != nil {
		return nil, &refusal{err: unreachable(ctx, err), acquiring: true}
	}
	return conn, nil
}

// poolConfig says how connections to t are made and checked.
func (r *Router) poolConfig(t *target, login string, open func(context.Context, *pgx.Conn, isolation.Identity) (*session, error)) (*pgxpool.Config, error) {
	connConfig, err := t.cluster.LoginConfig(login, t.db.Name)
	if err != nil {
		return nil, err
	}
	connConfig.RuntimeParams["application_name"] = r.cfg.AppName
	connConfig.RuntimeParams["timezone"] = "UTC"
	cfg, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("configure a pool: %w", err)
	}
	cfg.ConnConfig = connConfig
	want := isolation.Identity{Cluster: t.cluster.Name, Stamp: t.db.Stamp}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		asked := time.Now()
		got, err := isolation.ReadIdentity(ctx, conn)
		if err != nil {
			return err
		}
		if err := want.Check(got); err != nil {
			return err
		}
		s, err := open(ctx, conn, got)
		if err != nil {
			return err
		}
		s.clock = got.Clock.Sub(asked)
		return nil
	}
	return cfg, nil
}

// openTenantSession makes a connection ready to enter tenants, in whatever mode the database is.
func (r *Router) openTenantSession(ctx context.Context, conn *pgx.Conn, id isolation.Identity) (*session, error) {
	opening := []string{enterSQL}
	var may bool
	const q = `select has_function_privilege('pg_catalog.set_config(text, text, boolean)', 'execute')`
	if err := conn.QueryRow(ctx, q).Scan(&may); err != nil {
		return nil, fmt.Errorf("read the login's rights: %w", err)
	}
	if may {
		opening = append(opening, pathSQL)
	}
	s, err := openSession(ctx, conn, isolation.ResetSQL(id.Mode, false), opening, r.cfg.Types)
	if err != nil {
		return nil, err
	}
	s.sealer, err = isolation.NewSealer(id.Mode, r.cfg.Keys, id.Stamp)
	return s, err
}
