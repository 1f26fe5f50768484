package placement

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/landlord-go/landlord/migrations"
	"github.com/landlord-go/landlord/tenant"
)

// Settings are chosen when the catalog is made, for ever.
type Settings struct {
	Installation string // a uuid; goes into the names of homes and their identity stamps
	IDType       tenant.IDType
}

// Init makes or upgrades the catalog and returns what it did, nothing if it was complete. Any number of processes may call
// it at once. A catalog whose ids are of another type is refused.
func (c *Catalog) Init(ctx context.Context, idType tenant.IDType) (steps []string, err error) {
	if _, err := tenant.ParseIDType(string(idType)); err != nil {
		return nil, fmt.Errorf("make catalog: %w", err)
	}
	err = c.try(ctx, "make catalog", func(ctx context.Context) error {
		applied, err := c.migrate(ctx)
		steps = append(steps, applied...)
		if err != nil {
			return err
		}
		const insert = `insert into landlord.settings (id_type) values ($1) on conflict do nothing`
		tag, err := c.pool.Exec(ctx, insert, string(idType))
		if err != nil {
			return err
		}
		if err := c.loadSettings(ctx, c.pool); err != nil {
			return err
		}
		s := c.settings.Load()
		if s.IDType != idType {
			return fmt.Errorf("tenant ids of this installation are %s, not %s: the type is chosen once; ask for %[1]s", s.IDType, idType)
		}
		if tag.RowsAffected() > 0 {
			steps = append(steps, fmt.Sprintf("catalog: new installation %s, tenant ids are %s", s.Installation, s.IDType))
		}
		return nil
	})
	return steps, err
}

func (c *Catalog) migrate(ctx context.Context) (steps []string, err error) {
	// One connection, which holds the lock from its first moment to its last. goose's own locks come too late: it makes its
	// table before it takes them.
	db := stdlib.OpenDB(*c.pool.Config().ConnConfig, stdlib.OptionAfterConnect(lockForInit))
	defer db.Close()
	db.SetMaxOpenConns(1)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Control(), goose.WithTableName("landlord.catalog_version"))
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		results = partial.Applied
	}
	for _, r := range results {
		steps = append(steps, "catalog: applied "+r.Source.Path)
	}
	return steps, err
}

// lockForInit lets one process at a time work on the catalog's objects, and makes the schema in which goose keeps its table.
func lockForInit(ctx context.Context, conn *pgx.Conn) error {
	if err := makeSchema(ctx, conn); err != nil {
		return errors.Join(err, conn.Close(context.WithoutCancel(ctx))) // stdlib does not
	}
	return nil
}

func makeSchema(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `select pg_advisory_lock(hashtextextended('landlord init', 0))`); err != nil {
		return err
	}
	// Asked before it is created: "create schema if not exists" wants the right to create one even with nothing to do.
	const q = `select to_regnamespace('landlord') is not null, to_regclass('landlord.identity') is not null`
	var exists, isHome bool
	if err := conn.QueryRow(ctx, q).Scan(&exists, &isHome); err != nil {
		return err
	}
	if isHome {
		return errors.New("the control database holds tenants: give the catalog a database of its own")
	}
	if exists {
		return nil
	}
	_, err := conn.Exec(ctx, `create schema landlord`)
	return err
}

// Settings returns what was chosen when the catalog was made.
func (c *Catalog) Settings(ctx context.Context) (Settings, error) {
	err := c.read(ctx, "read settings", func(context.Context, querier) error { return nil })
	if err != nil {
		return Settings{}, err
	}
	return *c.settings.Load(), nil
}

// loadSettings reads the settings over q unless they are known.
func (c *Catalog) loadSettings(ctx context.Context, q querier) error {
	if c.settings.Load() != nil {
		return nil
	}
	rows, err := q.Query(ctx, `select installation::text, id_type from landlord.settings`)
	if err != nil {
		return err
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Settings])
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoCatalog
	}
	if err != nil {
		return err
	}
	c.settings.Store(&s)
	return nil
}
