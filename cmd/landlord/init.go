package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// initResult is what init prints.
type initResult struct {
	Changed int               `json:"changed"`
	Steps   []string          `json:"steps"`
	Mode    map[string]string `json:"mode"`        // by cluster
	Why     map[string]string `json:"mode_reason"` // likewise
	DryRun  bool              `json:"dry_run,omitempty"`
}

func (r *initResult) did(steps ...string) { r.Steps = append(r.Steps, steps...) }

func (r *initResult) chose(cluster string, mode isolation.Mode, why string) {
	r.Mode[cluster], r.Why[cluster] = string(mode), why
}

func newInitCmd(a *app) *cobra.Command {
	var mode string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make or upgrade the catalog, the roles, the keys and what lies beside the data",
		Long: `Make what an installation needs, or upgrade it: the catalog and its database, the file of seal keys, and
on every cluster the roles, the shared database, landlord's objects and the application's tables. Once tenants
live there, tables are changed by 'landlord migrate up' only.

Clusters of the configuration that the catalog does not know are added. Of those it knows, endpoint and
credential references follow the configuration; capacity, tier, region and state are the catalog's
('landlord cluster set').

It can be run at any time and again: what is there already stays, and a cluster that cannot be reached
does not keep the others from being done (exit status 3).`,
		Example: `  landlord init
  landlord init --json | jq -e '.changed == 0'
  landlord init --mode sealed-mac   # where the operator's login is no superuser`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.init(cmd.Context(), mode, dryRun)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "`mode` of isolation: sealed, sealed-mac, locked or plain (default the configuration's, or the strongest possible)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be made, as far as it can be known")
	return cmd
}

func (a *app) init(ctx context.Context, mode string, dryRun bool) error {
	if _, err := a.config(); err != nil {
		return err
	}
	if mode != "" {
		m, err := isolation.ParseMode(mode)
		if err != nil {
			return usageError("%w", err)
		}
		a.loaded.Mode = m
	}
	r := initResult{Steps: []string{}, Mode: map[string]string{}, Why: map[string]string{}, DryRun: dryRun}
	run := a.runInit
	if dryRun {
		run = a.planInit
	}
	err := run(ctx, &r)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("init: the same command goes on where it stopped: %w", err)
	}
	if _, part := errors.AsType[*statusError](err); err != nil && !part {
		return err
	}
	if !dryRun {
		r.Changed = len(r.Steps)
	}
	return errors.Join(a.show(r, r.write), err)
}

func (r initResult) write(w io.Writer) {
	for _, step := range r.Steps {
		fmt.Fprintln(w, step)
	}
	if len(r.Steps) == 0 {
		fmt.Fprintln(w, "nothing to change")
	}
	for _, cluster := range slices.Sorted(maps.Keys(r.Mode)) {
		fmt.Fprintf(w, "cluster %s: mode %s, because %s\n", cluster, r.Mode[cluster], r.Why[cluster])
	}
}

func (a *app) runInit(ctx context.Context, r *initResult) error {
	if err := a.initCatalog(ctx, r); err != nil {
		return err
	}
	ring, created, err := a.makeKeys(ctx)
	if err != nil {
		return err
	}
	if created {
		r.did("keys: made key 1 in " + keyFile(a.loaded.Keys))
	}
	h, err := a.house(ctx, ring)
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.tables.load(); err != nil {
		return err
	}
	if err := h.syncClusters(ctx, r); err != nil {
		return err
	}
	return a.setUpContracted(ctx, h, r)
}

// initCatalog makes the catalog, and its database if the server has none of that name.
func (a *app) initCatalog(ctx context.Context, r *initResult) error {
	catalog, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	defer catalog.Close()
	steps, err := catalog.Init(ctx, a.loaded.IDType)
	if pgerr.Is(err, pgerr.UndefinedDatabase) {
		name, created, createErr := a.createCatalogDatabase(ctx)
		if createErr != nil {
			return createErr
		}
		if created {
			r.did("catalog: created database " + name)
		}
		steps, err = catalog.Init(ctx, a.loaded.IDType)
	}
	r.did(steps...)
	return err
}

// createCatalogDatabase makes the database that the catalog's connection string names, by way of the database postgres.
func (a *app) createCatalogDatabase(ctx context.Context) (name string, created bool, err error) {
	dsn, err := a.loaded.Catalog.Resolve()
	if err != nil {
		return "", false, err
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil { // its text would quote the connection string
		return "", false, errors.New("create the catalog's database: its connection string cannot be read")
	}
	name, cfg.Database = cfg.Database, "postgres"
	err = with(ctx, cfg, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize())
		created = err == nil
		if pgerr.Is(err, pgerr.DuplicateDatabase, pgerr.UniqueViolation) { // another process was faster
			return nil
		}
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("create the catalog's database %s: %w: create it yourself, owned by the login of 'catalog'", name, err)
	}
	return name, created, nil
}

// syncClusters brings the clusters of the configuration into the catalog.
func (h *house) syncClusters(ctx context.Context, r *initResult) error {
	for _, c := range h.config.Clusters {
		want := c.cluster()
		err := h.catalog.AddCluster(ctx, want)
		if err == nil {
			r.did(fmt.Sprintf("cluster %s: added to the catalog", want.Name))
			continue
		}
		if !errors.Is(err, placement.ErrExists) {
			return err
		}
		var before placement.Cluster
		after, err := h.catalog.UpdateCluster(ctx, want.Name, func(c *placement.Cluster) error {
			before = *c
			follow(c, want)
			return nil
		})
		if err != nil {
			return err
		}
		if changed := changes(before, after); len(changed) > 0 {
			r.did(fmt.Sprintf("cluster %s: changed %s", want.Name, strings.Join(changed, ", ")))
		}
	}
	return nil
}

// follow gives c what a cluster always takes from the configuration.
func follow(c *placement.Cluster, want placement.Cluster) {
	c.Endpoint, c.SharedDatabase = want.Endpoint, want.SharedDatabase
	c.Operator, c.App, c.Admin = want.Operator, want.App, want.Admin
}

// setUpAll sets up every cluster that can be reached.
func (a *app) setUpAll(ctx context.Context, h *house, r *initResult) error {
	clusters, err := h.catalog.Clusters(ctx)
	if err != nil {
		return err
	}
	before, err := h.catalog.Databases(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range clusters {
		a.progress("setting up cluster %s", c.Name)
		err := h.setUp(ctx, c, r)
		if err == nil {
			err = h.tellPending(ctx, a, c)
		}
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	upgraded, err := h.service.Upgrade(ctx)
	r.did(upgraded...)
	after, readErr := h.catalog.Databases(ctx)
	r.did(modeChanges(before, after)...)
	return partly(errors.Join(append(errs, err, readErr)...))
}

// modeChanges says which databases have changed their mode.
func modeChanges(before, after []placement.Database) (steps []string) {
	was := map[string]string{}
	for _, db := range before {
		was[db.Cluster+"/"+db.Name] = db.Mode
	}
	for _, db := range after {
		if mode, known := was[db.Cluster+"/"+db.Name]; known && mode != db.Mode {
			steps = append(steps, fmt.Sprintf("cluster %s: changed mode of %s: %s -> %s", db.Cluster, db.Name, mode, db.Mode))
		}
	}
	return steps
}

func (h *house) setUp(ctx context.Context, c placement.Cluster, r *initResult) error {
	mode, why, err := h.mode(ctx, c)
	if err != nil {
		return err
	}
	r.chose(c.Name, mode, why)
	steps, err := h.service.SetUp(ctx, c)
	r.did(steps...)
	if err != nil {
		return err
	}
	return h.checkIDTypes(ctx, c)
}

// tellPending says what is left to `migrate up`: where tenants live, tables are not changed by whoever sets a cluster up.
func (h *house) tellPending(ctx context.Context, a *app, c placement.Cluster) error {
	set, err := h.tables.load()
	if err != nil {
		return err
	}
	return asOperator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
		pending, err := set.PendingHere(ctx, conn, isolation.SharedSchema)
		if err == nil && pending > 0 {
			a.progress("cluster %s: %d migrations are pending: landlord migrate up applies them, here and in all other homes", c.Name, pending)
		}
		return err
	})
}

// checkIDTypes refuses tables whose tenant_id holds other ids than the installation has: no row could ever be written there.
func (h *house) checkIDTypes(ctx context.Context, c placement.Cluster) error {
	return asOperator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
		table, has, err := otherIDType(ctx, conn, h.config.IDType)
		if err == nil && table != "" {
			err = fmt.Errorf("table %s of the shared database %s of cluster %s has a tenant_id of type %s, and tenant ids of this installation are %s: "+
				"add a migration that changes the column", table, c.SharedDatabase, c.Name, has, h.config.IDType)
		}
		return err
	})
}

// mode is the service's, and fails soon where nobody answers.
func (h *house) mode(ctx context.Context, c placement.Cluster) (isolation.Mode, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*connectTimeout)
	defer cancel()
	return h.service.Mode(ctx, c)
}
