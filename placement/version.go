package placement

import (
	"context"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/landlord-go/landlord/migrations"
)

// Version returns the version of the catalog's objects, and the one that this program makes. [Catalog.Init] closes the gap.
func (c *Catalog) Version(ctx context.Context) (have, want int64, err error) {
	files, err := fs.Glob(migrations.Control(), "*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, f := range files {
		v, err := goose.NumericComponent(f)
		if err != nil {
			return 0, 0, err
		}
		want = max(want, v)
	}
	err = c.read(ctx, "read the catalog's version", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, `select coalesce(max(version_id), 0) from landlord.catalog_version where is_applied`)
		if err != nil {
			return err
		}
		have, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	})
	return have, want, err
}
