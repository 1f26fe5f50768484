package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// house is what most commands work on. Close it.
type house struct {
	config  config
	catalog *placement.Catalog
	service *onboard.Service
	tables  *tables
}

// house opens the catalog and the service that makes homes, with the seal keys that it gives to databases; a command that
// makes no database needs none. Nothing is connected to yet.
func (a *app) house(ctx context.Context, keys isolation.Keyring) (*house, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	catalog, err := a.catalog(ctx)
	if err != nil {
		return nil, err
	}
	h := &house{config: c, catalog: catalog, tables: newTables(c.Migrations)}
	h.tables.catalog = catalog
	h.service, err = onboard.New(onboard.Config{Catalog: catalog, Keys: keys, Builder: h.tables, Mode: c.Mode, Logger: a.log})
	if err != nil {
		catalog.Close()
		return nil, err
	}
	return h, nil
}

// houseWithKeys is house with the keys of the configuration.
func (a *app) houseWithKeys(ctx context.Context) (*house, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	ring, err := readKeys(c.Keys)
	if err != nil {
		return nil, err
	}
	return a.house(ctx, ring)
}

func (h *house) Close() { h.catalog.Close() }

// tables builds the application's tables, as far as contract files may run. Files are read at the first use: most commands make no
// home.
type tables struct {
	load    func() (*migrate.Set, error)
	catalog *placement.Catalog
}

func newTables(folder string) *tables {
	return &tables{load: sync.OnceValues(func() (*migrate.Set, error) {
		if folder == "" {
			return &migrate.Set{}, nil
		}
		if _, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("load migrations: %w: make the folder, or change 'migrations' in the configuration", err)
		}
		return migrate.Load(os.DirFS(folder))
	})}
}

func (t *tables) Prepare(ctx context.Context, conn *pgx.Conn, server bool) error {
	set, err := t.load()
	if err != nil {
		return err
	}
	return fleet.Builder{Catalog: t.catalog, Set: set}.Prepare(ctx, conn, server)
}

func (t *tables) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	set, err := t.load()
	if err != nil {
		return err
	}
	return fleet.Builder{Catalog: t.catalog, Set: set}.Build(ctx, conn, schema, tenant)
}

// whose tells which tenant a command is about: a slug as its argument, or an id by --id.
type whose struct {
	slug tenant.Slug
	id   string
}

func parseWhose(args []string, id string) (w whose, err error) {
	switch {
	case id != "" && len(args) > 0:
		return w, usageError("name the tenant by its slug or by --id, not by both")
	case id == "" && len(args) == 0:
		return w, usageError("name a tenant: its slug, or its id with --id")
	case id != "":
		return whose{id: id}, nil
	}
	w.slug, err = tenant.ParseSlug(args[0])
	if err != nil {
		return w, usageError("%w", err)
	}
	return w, nil
}

// tenant looks the tenant up in the catalog.
func (h *house) tenant(ctx context.Context, w whose) (t placement.Tenant, err error) {
	if w.id == "" {
		t, err = h.catalog.TenantBySlug(ctx, w.slug)
	} else {
		var id tenant.ID
		if id, err = h.parseID(ctx, w.id); err != nil {
			return t, err
		}
		t, err = h.catalog.Tenant(ctx, id)
	}
	if errors.Is(err, placement.ErrUnknownTenant) {
		return t, fmt.Errorf("%w: 'landlord tenant list' shows those there are", err)
	}
	return t, err
}

func (h *house) parseID(ctx context.Context, s string) (tenant.ID, error) {
	settings, err := h.catalog.Settings(ctx)
	if err != nil {
		return tenant.ID{}, err
	}
	id, err := settings.IDType.Parse(s)
	if err != nil {
		return id, usageError("%w", err)
	}
	return id, nil
}

// connectTimeout is how long a server may take to answer a command that only looks at it.
const connectTimeout = 10 * time.Second

// with runs fn on a connection of its own.
func with(ctx context.Context, cfg *pgx.ConnConfig, fn func(*pgx.Conn) error) (err error) {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
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

// asOperator runs fn on a connection of the cluster's operator to a database; empty: the one its connection string names.
func asOperator(ctx context.Context, c placement.Cluster, database string, fn func(*pgx.Conn) error) error {
	cfg, err := c.OperatorConfig(database)
	if err != nil {
		return err
	}
	return with(ctx, cfg, fn)
}

// atHome runs fn as the operator in the database of a tenant's home.
func (h *house) atHome(ctx context.Context, t placement.Tenant, fn func(*pgx.Conn) error) error {
	c, err := h.catalog.Cluster(ctx, t.Home.Cluster)
	if err != nil {
		return err
	}
	return asOperator(ctx, c, t.Home.Database, fn)
}

// partly ends a command that did some of what was asked: with status 3, or well when err is nil.
func partly(err error) error {
	if err == nil {
		return nil
	}
	return &statusError{status: exitPartly, err: lines(err)}
}
