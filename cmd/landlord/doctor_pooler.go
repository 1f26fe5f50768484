package main

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

// How a pooler gives out its server connections.
const (
	poolerStatement   = "statement" // another one for every statement: no transaction holds together
	poolerTransaction = "transaction"
	poolerSession     = "session" // each connection keeps its own
)

const (
	// poolerRounds is how often two connections take turns to find out whether they share a backend.
	poolerRounds = 10
	// poolerPatience is how long a pooler may take to find a backend for the probe.
	poolerPatience = 15 * time.Second
)

// errNotPinned reports a pooler that leads statements of one transaction to several backends.
var errNotPinned = errors.New("statements of one transaction ran on several backends")

// pooler finds out how the pooler before the database works, by letting two tenants take turns on two connections: on one backend, each
// must be found to be itself, and whoever has not entered to be nobody. ok is false where nothing else can be asked this way.
func (x *databaseCheck) pooler(ctx context.Context, cfg *pgx.ConnConfig, conn *pgx.Conn, id isolation.Identity) (mode string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, poolerPatience)
	defer cancel()
	sealer, err := isolation.NewSealer(id.Mode, x.ring, id.Stamp)
	if err != nil {
		sealer = nil // the keys cannot be read, and it has been said
	}
	// A first transaction without tenants: in the wrong mode nobody could enter.
	if _, err = inTransaction(ctx, conn, nil); err != nil {
		if errors.Is(err, errNotPinned) || pgerr.FromPooler(err) {
			x.find("set pool_mode = transaction in the pooler's configuration",
				"the pooler before it works in statement mode, in which no transaction holds together: %v", err)
			return poolerStatement, false, nil
		}
		return "", false, err
	}
	mode = poolerSession
	err = with(ctx, cfg, func(other *pgx.Conn) error {
		turns := []*turn{{x: x, conn: conn, sealer: sealer, asked: time.Now(), id: id}, {x: x, conn: other, sealer: sealer, asked: time.Now(), id: id}}
		for i, t := range turns {
			if n := len(x.tenants); n > 0 {
				t.tenant = x.tenants[i%n]
			}
		}
		for range poolerRounds {
			var pids [2]uint32
			for i, t := range turns {
				pid, err := t.take(ctx)
				if err != nil {
					return err
				}
				pids[i] = pid
			}
			if pids[0] == pids[1] {
				mode = poolerTransaction // and the two have shared the backend
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errMixed):
		x.find("stop the services that come through this pooler, and report it as a vulnerability", "%v", err)
		return mode, false, nil
	case errors.Is(err, errNotPinned):
		x.find("set pool_mode = transaction in the pooler's configuration", "the pooler before it works in statement mode: %v", err)
		return poolerStatement, false, nil
	case err != nil && ctx.Err() != nil:
		x.find("set pool_mode = transaction, or raise default_pool_size, in the pooler's configuration",
			"the pooler before it has found no server connection for a second client within %s", poolerPatience)
		return mode, false, nil
	}
	return mode, err == nil, err
}

// errMixed reports a transaction that was taken for another tenant's.
var errMixed = errors.New("on one backend of the pooler two tenants were taken for one another")

// turn is one of the connections that take turns, with the tenant that it enters.
type turn struct {
	x      *databaseCheck
	conn   *pgx.Conn
	sealer *isolation.Sealer // nil: nobody is entered
	tenant placement.Tenant  // zero: likewise
	id     isolation.Identity
	asked  time.Time // when id.Clock was
}

// take looks, without a tenant and then within one, who one is taken for, and returns the backend.
func (t *turn) take(ctx context.Context) (pid uint32, err error) {
	const who = `select landlord.tenant()`
	_, err = inTransaction(ctx, t.conn, func(tx pgx.Tx) error {
		var got string
		err := tx.QueryRow(ctx, who).Scan(&got)
		if err == nil {
			return fmt.Errorf("%w: who has not entered is %q", errMixed, got)
		}
		if !pgerr.Is(err, pgerr.NoTenant) {
			return err
		}
		return errUndone
	})
	if err != nil && !errors.Is(err, errUndone) {
		return 0, err
	}
	return inTransaction(ctx, t.conn, func(tx pgx.Tx) error {
		if t.sealer == nil || t.tenant.Slug == "" {
			return nil
		}
		entry := isolation.Entry{Tenant: t.tenant.ID.String(), Home: t.tenant.Home.String(), Epoch: t.tenant.Epoch}
		err := enterHome(ctx, t.conn, t.sealer, entry, t.id.Clock.Add(time.Since(t.asked)))
		if pgerr.Is(err, pgerr.NotHere, pgerr.Fenced, pgerr.Suspended, pgerr.BadSeal) { // which other examinations look into
			t.tenant = placement.Tenant{}
			return errUndone
		}
		if err != nil {
			return err
		}
		var got string
		if err := tx.QueryRow(ctx, who).Scan(&got); err != nil {
			if pgerr.Is(err, pgerr.NoTenant) {
				return errNotPinned
			}
			return err
		}
		if got != entry.Tenant {
			return fmt.Errorf("%w: tenant %s is %q", errMixed, t.tenant.Slug, got)
		}
		return nil
	})
}

// inTransaction runs fn in a read-only transaction and returns the backend on which it ran from beginning to end. errUndone of fn ends
// it, and is nothing to the caller.
func inTransaction(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) (pid uint32, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		const backend = `select pg_backend_pid()`
		if err := tx.QueryRow(ctx, backend).Scan(&pid); err != nil {
			return err
		}
		if fn != nil {
			if err := fn(tx); err != nil {
				return err
			}
		}
		var last uint32
		if err := tx.QueryRow(ctx, backend).Scan(&last); err != nil {
			return err
		}
		if last != pid {
			return errNotPinned
		}
		return nil
	})
	if errors.Is(err, errUndone) {
		err = nil
	}
	return pid, err
}

// migratorsPooler checks that whoever migrates keeps one backend: migrations hold locks and settings of a session.
func (x *databaseCheck) migratorsPooler(ctx context.Context, c placement.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, poolerPatience)
	defer cancel()
	cfg, err := c.LoginConfig(placement.MigratorLogin, x.db.Name)
	if err != nil {
		return // its secret is the operator's to have
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	const fix = "give landlord_migrator pool_mode=session in the section [users] of the pooler's configuration"
	err = with(ctx, cfg, func(one *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, one)
		if err != nil || !isolation.Pooled(one, id) {
			return err
		}
		return with(ctx, cfg, func(other *pgx.Conn) error {
			for range poolerRounds {
				first, err := inTransaction(ctx, one, nil)
				if err != nil {
					return err
				}
				second, err := inTransaction(ctx, other, nil)
				if err != nil {
					return err
				}
				if first == second {
					return errNotPinned
				}
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, errNotPinned), pgerr.FromPooler(err):
		x.find(fix, "landlord_migrator has no backend of its own behind the pooler, and migrations need one")
	case err != nil:
		x.find(fix+", with room for two connections", "landlord_migrator cannot be used through the pooler: %v", err)
	}
}
