package migrate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// applied is a row of landlord.schema_version.
type applied struct {
	Version  int64
	Checksum string
}

// Pending counts the migrations that the home in schema lacks. What keeps them from being applied there is an error, as it is
// of Build's. conn is in no transaction.
func (s *Set) Pending(ctx context.Context, conn *pgx.Conn, schema string) (n int, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		have, err := readApplied(ctx, tx, schema)
		if err != nil {
			return err
		}
		pending, err := s.pending(have)
		n = len(pending)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look for pending migrations of home %s: %w", schema, err)
	}
	return n, nil
}

func readApplied(ctx context.Context, tx pgx.Tx, schema string) ([]applied, error) {
	// The primary key (schema, version) gives both the rows and their order.
	const q = `select version, checksum from landlord.schema_version where schema = $1 order by version`
	rows, err := tx.Query(ctx, q, schema)
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowToStructByPos[applied])
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	return have, nil
}

// pending returns the migrations that a home lacks, or why the set cannot be applied there at all.
func (s *Set) pending(have []applied) ([]Migration, error) {
	for i, a := range have {
		if i >= len(s.migrations) || a.Version > s.migrations[len(s.migrations)-1].Version {
			return nil, fmt.Errorf("version %d is applied here and the files know no such version: use the newer files", a.Version)
		}
		switch m := s.migrations[i]; {
		case a.Version < m.Version:
			return nil, fmt.Errorf("version %d is applied here and its file is gone: put it back", a.Version)
		case a.Version > m.Version:
			return nil, fmt.Errorf("%s is not applied here though the later version %d is: give it a version above all others", m.File, a.Version)
		case a.Checksum != m.Checksum:
			return nil, fmt.Errorf("%s was changed after it was applied here: restore it, and put the change into a file of its own", m.File)
		}
	}
	return s.migrations[len(have):], nil
}
