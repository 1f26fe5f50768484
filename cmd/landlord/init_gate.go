package main

import (
	"context"
	"errors"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// setUpContracted sets up every cluster, and lets contract files run as long as there is no tenant for whom they would have to
// wait: a new installation is built from all files.
func (a *app) setUpContracted(ctx context.Context, h *house, r *initResult) error {
	if _, err := h.openGates(ctx); err != nil {
		return err
	}
	for {
		if err := a.setUpAll(ctx, h, r); err != nil {
			return err
		}
		if opened, err := h.openGates(ctx); err != nil || !opened {
			return err
		}
	}
}

// openGates opens the gate as far as it opens where no tenant lives; from the first one on that is left to `migrate up`.
func (h *house) openGates(ctx context.Context) (opened bool, err error) {
	set, err := h.tables.load()
	if err != nil {
		return false, err
	}
	tenants, err := h.catalog.Tenants(ctx, placement.Filter{Limit: 1})
	if err != nil || len(tenants) > 0 {
		return false, err
	}
	f, err := fleet.New(fleet.Config{Catalog: h.catalog, Set: set})
	if err != nil {
		return false, err
	}
	for {
		gate, err := f.OpenGate(ctx)
		if err != nil || gate == nil || len(gate.Waits) > 0 {
			return opened, err
		}
		opened = true
	}
}

// allowed is the part of set that init would build: all of it where no tenant lives, and otherwise what the gate lets run.
func (h *house) allowed(ctx context.Context, set *migrate.Set) (*migrate.Set, error) {
	tenants, err := h.catalog.Tenants(ctx, placement.Filter{Limit: 1})
	if err != nil || len(tenants) == 0 {
		return set, err
	}
	gate, err := h.catalog.Gate(ctx)
	if errors.Is(err, placement.ErrNoCatalog) { // an older one, without a gate
		return set.Allowed(0), nil
	}
	return set.Allowed(gate.Contracted), err
}
