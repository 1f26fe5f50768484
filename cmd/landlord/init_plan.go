package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// planInit says what init would do. Behind something that does not exist yet it cannot look.
func (a *app) planInit(ctx context.Context, r *initResult) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.tables.load(); err != nil {
		return err
	}
	have, err := h.planCatalog(ctx, r)
	if err != nil {
		return err
	}
	switch _, err := readKeys(h.config.Keys); {
	case keyFile(h.config.Keys) != "" && errors.Is(err, fs.ErrNotExist):
		if len(have) > 0 {
			if err := h.noKeys(ctx); err != nil {
				return err
			}
		}
		r.did("keys: would make key 1 in " + keyFile(h.config.Keys))
	case err != nil:
		return err
	}
	clusters := h.planClusters(have, r)
	var errs []error
	for _, c := range clusters {
		errs = append(errs, h.planSetUp(ctx, c, len(have) > 0, r))
	}
	if len(have) > 0 {
		errs = append(errs, h.planModes(ctx, r))
	}
	return partly(errors.Join(errs...))
}

// planCatalog returns the clusters of the catalog, none when there is no catalog.
func (h *house) planCatalog(ctx context.Context, r *initResult) ([]placement.Cluster, error) {
	settings, err := h.catalog.Settings(ctx)
	switch {
	case pgerr.Is(err, pgerr.UndefinedDatabase):
		r.did("catalog: would create its database and make the catalog in it")
		return nil, nil
	case errors.Is(err, placement.ErrNoCatalog):
		r.did("catalog: would make it")
		return nil, nil
	case err != nil:
		return nil, err
	case settings.IDType != h.config.IDType:
		return nil, fmt.Errorf("id_type: tenant ids of this installation are %s, not %s: the type is chosen once", settings.IDType, h.config.IDType)
	}
	version, newest, err := h.catalog.Version(ctx)
	if err != nil {
		return nil, err
	}
	if version < newest {
		r.did(fmt.Sprintf("catalog: would upgrade it from version %d to %d", version, newest))
	}
	return h.catalog.Clusters(ctx)
}

// planClusters returns the clusters as they would be.
func (h *house) planClusters(have []placement.Cluster, r *initResult) []placement.Cluster {
	all := map[string]int{}
	for i, c := range have {
		all[c.Name] = i
	}
	for _, entry := range h.config.Clusters {
		want := entry.cluster()
		i, known := all[want.Name]
		if !known {
			have = append(have, want)
			r.did(fmt.Sprintf("cluster %s: would be added to the catalog", want.Name))
			continue
		}
		before := have[i]
		follow(&have[i], want)
		if changed := changes(before, have[i]); len(changed) > 0 {
			r.did(fmt.Sprintf("cluster %s: would change %s", want.Name, strings.Join(changed, ", ")))
		}
	}
	return have
}

func (h *house) planSetUp(ctx context.Context, c placement.Cluster, known bool, r *initResult) error {
	var steps []string
	would := func(format string, args ...any) {
		steps = append(steps, fmt.Sprintf("cluster %s: would ", c.Name)+fmt.Sprintf(format, args...))
	}
	err := asOperator(ctx, c, "", func(conn *pgx.Conn) error {
		mode, why, err := h.planMode(ctx, conn, c, known)
		if err != nil {
			return err
		}
		r.chose(c.Name, mode, why)
		var roles int
		var database bool
		const q = `
select (select count(*) from pg_roles where rolname = any($1)), exists (select from pg_database where datname = $2)`
		all := []string{isolation.OwnerRole, isolation.GuardRole, isolation.AppRole, isolation.AdminRole, isolation.MigratorRole}
		if err := conn.QueryRow(ctx, q, all, c.SharedDatabase).Scan(&roles, &database); err != nil {
			return err
		}
		if missing := len(all) - roles; missing > 0 {
			would("create %d roles (landlord_...)", missing)
		}
		if !database {
			would("create the shared database %s, landlord's objects and the application's tables in it", c.SharedDatabase)
			return nil
		}
		return h.planHome(ctx, c, known, would)
	})
	r.did(steps...)
	if err != nil {
		return fmt.Errorf("look at cluster %s: %w", c.Name, err)
	}
	return nil
}

// planMode chooses as the service does, which needs a catalog to look into.
func (h *house) planMode(ctx context.Context, conn *pgx.Conn, c placement.Cluster, known bool) (isolation.Mode, string, error) {
	switch {
	case known:
		return h.mode(ctx, c)
	case h.config.Mode != "":
		return h.config.Mode, "it was asked for", nil
	}
	return isolation.ChooseMode(ctx, conn)
}

// planModes says which databases would change their mode.
func (h *house) planModes(ctx context.Context, r *initResult) error {
	databases, err := h.catalog.Databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range databases {
		if mode := string(h.config.Mode); mode != "" && mode != db.Mode {
			r.did(fmt.Sprintf("cluster %s: would change mode of %s: %s -> %s", db.Cluster, db.Name, db.Mode, mode))
		}
	}
	return nil
}

// planHome compares landlord's objects and the application's tables in the shared database with this program's. known tells
// that there is a catalog; where it has tenants in there, init leaves their tables alone.
func (h *house) planHome(ctx context.Context, c placement.Cluster, known bool, would func(string, ...any)) error {
	set, err := h.tables.load()
	if err != nil {
		return err
	}
	residents := 0
	if known {
		if set, err = h.allowed(ctx, set); err != nil {
			return err
		}
		found, err := h.catalog.Tenants(ctx, placement.Filter{Cluster: c.Name, Database: c.SharedDatabase, Limit: 1})
		if err != nil {
			return err
		}
		residents = len(found)
	}
	return asOperator(ctx, c, c.SharedDatabase, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		switch {
		case errors.Is(err, isolation.ErrIdentity):
			would("install landlord's objects and the application's tables in %s", c.SharedDatabase)
			return nil
		case err != nil:
			return err
		case id.Version < isolation.Version:
			would("upgrade landlord's objects in %s from version %d to %d", c.SharedDatabase, id.Version, isolation.Version)
		}
		altered, err := isolation.Altered(ctx, conn)
		if err != nil {
			return err
		}
		if len(altered) > 0 {
			would("make %s anew in %s, which somebody has changed", strings.Join(altered, ", "), c.SharedDatabase)
		}
		pending, err := set.PendingHere(ctx, conn, isolation.SharedSchema)
		if err == nil && pending > 0 && residents == 0 {
			would("apply %d migrations in %s", pending, c.SharedDatabase)
		}
		return err
	})
}
