package fleet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// Builder builds new homes from the files that may run now, for package onboard: a tenant never gets a contracted home while others
// have the old shape. Files that end before those which may run are refused: the application alive may need the newer ones.
type Builder struct {
	Catalog *placement.Catalog
	Set     *migrate.Set
}

// Prepare is [migrate.Set.Prepare] with the files that are allowed.
func (b Builder) Prepare(ctx context.Context, conn *pgx.Conn, server bool) error {
	set, err := b.allowed(ctx)
	if err != nil {
		return err
	}
	return set.Prepare(ctx, conn, server)
}

// Build is [migrate.Set.Build] with the files that are allowed.
func (b Builder) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	set, err := b.allowed(ctx)
	if err != nil {
		return err
	}
	return set.Build(ctx, conn, schema, tenant)
}

func (b Builder) allowed(ctx context.Context) (*migrate.Set, error) {
	gate, err := b.Catalog.Gate(ctx)
	if err != nil {
		return nil, err
	}
	if newest := newest(b.Set); newest < gate.Contracted {
		return nil, fmt.Errorf("build a home: these files end at version %d, and version %d has been let run elsewhere: use the newer files",
			newest, gate.Contracted)
	}
	return b.Set.Allowed(gate.Contracted), nil
}
