package fleet

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// Builder builds new homes from the files that may run now, for package onboard: a tenant never gets a contracted home while others
// have the old shape.
type Builder struct {
	Catalog *placement.Catalog
	Set     *migrate.Set
}

// Prepare is [migrate.Set.Prepare] with the files that are allowed.
func (b Builder) Prepare(ctx context.Context, conn *pgx.Conn, server bool) error {
	gate, err := b.Catalog.Gate(ctx)
	if err != nil {
		return err
	}
	return b.Set.Allowed(gate.Contracted).Prepare(ctx, conn, server)
}

// Build is [migrate.Set.Build] with the files that are allowed.
func (b Builder) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	gate, err := b.Catalog.Gate(ctx)
	if err != nil {
		return err
	}
	return b.Set.Allowed(gate.Contracted).Build(ctx, conn, schema, tenant)
}
