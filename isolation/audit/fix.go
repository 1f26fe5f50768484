package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Fix runs the SQL of the safe findings among those given, each finding's in a transaction of its own, and returns how many it
// mended. One that fails keeps no other from being mended; the error names all that did. It waits for no lock longer than five
// seconds. Nothing to do is no error, and neither is to do it again.
func Fix(ctx context.Context, conn *pgx.Conn, findings []Finding) (mended int, err error) {
	var errs []error
	for _, f := range findings {
		if !f.Safe || len(f.SQL) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return mended, errors.Join(append(errs, err)...)
		}
		if err := run(ctx, conn, f.SQL); err != nil {
			errs = append(errs, fmt.Errorf("mend %s of %s: %w", f.Rule, f.Object, err))
			continue
		}
		mended++
	}
	return mended, errors.Join(errs...)
}

func run(ctx context.Context, conn *pgx.Conn, statements []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '5s'`); err != nil {
			return err
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}
