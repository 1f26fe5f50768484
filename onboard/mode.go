package onboard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Mode returns the isolation mode that SetUp gives a cluster, and why. It changes nothing.
func (s *Service) Mode(ctx context.Context, c placement.Cluster) (mode isolation.Mode, why string, err error) {
	choose, err := s.mode(ctx, c)
	if err == nil {
		err = withOperator(ctx, c, "", func(conn *pgx.Conn) error {
			mode, why, err = choose(ctx, conn)
			return err
		})
	}
	if err != nil {
		return "", "", fmt.Errorf("choose the mode of cluster %s: %w", c.Name, err)
	}
	return mode, why, nil
}

// chooser returns the mode for databases of a cluster, and why.
type chooser func(context.Context, *pgx.Conn) (isolation.Mode, string, error)

// mode asks the catalog what is decided already, and leaves it to the chooser to ask the server for the rest. They are asked
// one after the other: of many processes that each hold a connection and wait for a second one, none may ever get it.
func (s *Service) mode(ctx context.Context, c placement.Cluster) (chooser, error) {
	settled := func(mode isolation.Mode, why string) chooser {
		return func(context.Context, *pgx.Conn) (isolation.Mode, string, error) { return mode, why, nil }
	}
	if s.cfg.Mode != "" {
		return settled(s.cfg.Mode, "it was asked for"), nil
	}
	databases, err := s.cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	for _, db := range databases {
		if db.Cluster == c.Name && db.Name == c.SharedDatabase {
			return settled(isolation.Mode(db.Mode), "the cluster has it already"), nil
		}
	}
	return isolation.ChooseMode, nil
}
