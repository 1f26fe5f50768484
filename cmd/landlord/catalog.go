package main

import (
	"context"

	"github.com/landlord-go/landlord/placement"
)

// catalog opens the catalog that the configuration names. It does not connect yet; the caller closes it.
func (a *app) catalog(ctx context.Context) (*placement.Catalog, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	dsn, err := c.Catalog.Resolve()
	if err != nil {
		return nil, err
	}
	return placement.Open(ctx, placement.Config{DSN: dsn, Logger: a.log, KeepNone: true, Retry: a.patience})
}
