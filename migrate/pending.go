package migrate

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Applied is a row of landlord.schema_version: a migration that a place has.
type Applied struct {
	Version  int64
	Checksum string
}

// The places in landlord.schema_version of what is applied once for a whole database, and once for a whole server, in its
// shared database. No home is called so.
const (
	DatabasePlace = "landlord.database"
	ServerPlace   = "landlord.server"
)

// Scoped returns the migrations of a scope, in ascending order of version.
func (s *Set) Scoped(scope Scope) []Migration {
	return slices.DeleteFunc(slices.Clone(s.migrations), func(m Migration) bool { return m.Scope != scope })
}

// Pending returns the migrations of a scope that a place lacks which has those of have, given in ascending order of version;
// or why the files do not fit what is applied there: a version that the files do not know, a file that was changed since, or
// one that is numbered below what is applied.
func (s *Set) Pending(scope Scope, have []Applied) ([]Migration, error) {
	files := s.Scoped(scope)
	for i, a := range have {
		if i >= len(files) || a.Version > files[len(files)-1].Version {
			return nil, fmt.Errorf("version %d is applied here and the files know no such version: use the newer files", a.Version)
		}
		switch m := files[i]; {
		case a.Version < m.Version:
			return nil, fmt.Errorf("version %d is applied here and its file is gone: put it back", a.Version)
		case a.Version > m.Version:
			return nil, fmt.Errorf("%s is not applied here though the later version %d is: give it a version above all others", m.File, a.Version)
		case a.Checksum != m.Checksum:
			return nil, fmt.Errorf("%s was changed after it was applied here: restore it, and put the change into a file of its own", m.File)
		}
	}
	return files[len(have):], nil
}

// PendingHere counts the migrations that the home in schema lacks, in conn's database. What keeps them from being applied
// there is an error, as it is of Build's. conn is in no transaction.
func (s *Set) PendingHere(ctx context.Context, conn *pgx.Conn, schema string) (n int, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		have, err := readApplied(ctx, tx, schema)
		if err != nil {
			return err
		}
		if err := refuseGoose(ctx, tx, schema, have); err != nil {
			return err
		}
		pending, err := s.Pending(ScopeTenant, have)
		n = len(pending)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look for pending migrations of home %s: %w", schema, err)
	}
	return n, nil
}

func readApplied(ctx context.Context, tx pgx.Tx, schema string) ([]Applied, error) {
	// The primary key (schema, version) gives both the rows and their order.
	const q = `select version, checksum from landlord.schema_version where schema = $1 order by version`
	rows, err := tx.Query(ctx, q, schema)
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Applied])
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	return have, nil
}
