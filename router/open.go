package router

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/pools"
)

// acquire returns a connection to rt's database.
func (r *Router) acquire(ctx context.Context, rt *route) (*pools.Conn, error) {
	conn, err := r.pools.Acquire(ctx, rt.request)
	if err != nil {
		return nil, &refusal{err: unreachable(ctx, err), acquiring: true}
	}
	return conn, nil
}

// openTries is how often a connection is opened while a pooler, which has let the router in, hands it backends that are gone.
const openTries = 5

// opener makes a connection ready.
type opener func(context.Context, *pgx.Conn, isolation.Identity) (*session, error)

// connect opens a connection to t for login and makes it ready, once it is known to be to the database that is meant.
func (r *Router) connect(ctx context.Context, t *target, login string, open opener) (*pgconn.PgConn, error) {
	cfg, err := t.cluster.LoginConfig(login, t.db.Name)
	if err != nil {
		return nil, err
	}
	if r.cfg.Dial != nil {
		cfg.DialFunc = r.cfg.Dial
	}
	cfg.RuntimeParams["application_name"] = r.cfg.AppName
	cfg.RuntimeParams["timezone"] = "UTC"
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing that a pooler would lose
	for try := 1; ; try++ {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return nil, err
		}
		err = r.ready(ctx, t, conn, open)
		if err == nil {
			return conn.PgConn(), nil
		}
		closeNow(conn.PgConn())
		if try == openTries || !pgerr.FromPooler(err) {
			return nil, err
		}
	}
}

func (r *Router) ready(ctx context.Context, t *target, conn *pgx.Conn, open opener) error {
	got, err := isolation.ReadIdentity(ctx, conn)
	answered := time.Now() // the question may have waited for the server, the answer has not
	if err != nil {
		return err
	}
	want := isolation.Identity{Cluster: t.cluster.Name, Stamp: t.db.Stamp}
	if err := want.Check(got); err != nil {
		return err
	}
	s, err := open(ctx, conn, got)
	if err != nil {
		return err
	}
	s.clock = got.Clock.Sub(answered)
	return nil
}

// openTenantSession makes a connection ready to enter tenants, in whatever mode the database is.
func (r *Router) openTenantSession(ctx context.Context, conn *pgx.Conn, id isolation.Identity) (*session, error) {
	var others []string
	var settings, locks bool // what modes and hardening may have taken
	const q = `
select has_function_privilege('pg_catalog.set_config(text, text, boolean)', 'execute'),
       has_function_privilege('pg_catalog.pg_advisory_unlock_all()', 'execute')`
	if err := conn.QueryRow(ctx, q).Scan(&settings, &locks); err != nil {
		return nil, fmt.Errorf("read the login's rights: %w", err)
	}
	if settings {
		others = append(others, pathSQL)
	}
	if r.cfg.SchemaVersion > 0 {
		others = append(others, demandSQL)
	}
	s, err := openSession(ctx, conn, id, enterSQL, others, isolation.ResetSQL(locks), r.cfg.Types)
	if err != nil {
		return nil, err
	}
	s.sealer, err = isolation.NewSealer(id.Mode, r.cfg.Keys, id.Stamp)
	return s, err
}
