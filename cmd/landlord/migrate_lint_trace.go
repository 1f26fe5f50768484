package main

import (
	"context"
	"os"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/migrate/lint"
	"github.com/landlord-go/landlord/migrate/rehearsal"
	"github.com/landlord-go/landlord/placement"
)

// trace fills in what the files were seen to do in a scratch database, and how large tables are. With an error, what was seen before
// it is filled in; nothing, if nothing could be seen.
func (a *app) trace(ctx context.Context, dir string, o *lint.Options) error {
	if _, err := a.config(); err != nil {
		return usageError("trace the migrations: --trace runs them on a server, and there is no configuration to say which: %w", err)
	}
	set, err := migrate.Load(os.DirFS(dir))
	if err != nil {
		a.progress("nothing is traced: %v", err)
		return nil // what is wrong is a finding
	}
	return a.withFleet(ctx, dir, true, func(f *fleet.Fleet, catalog *placement.Catalog) (err error) {
		if err := a.sizes(ctx, f, o); err != nil {
			return err
		}
		o.Traced, err = rehearsal.Trace(ctx, rehearsal.Config{Catalog: catalog, Set: set, Progress: a.progress})
		return err
	})
}

// sizes lets the linter know how large tables are in the largest home.
func (a *app) sizes(ctx context.Context, f *fleet.Fleet, o *lint.Options) error {
	rows, missed, err := f.Rows(ctx)
	if err != nil {
		return err
	}
	if missed > 0 {
		a.progress("%d databases could not be asked how large their tables are", missed)
	}
	o.Rows = func(table string) (int64, bool) {
		n, known := rows[table]
		return n, known
	}
	return nil
}
