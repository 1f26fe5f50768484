package bad

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/router"
)

const setTenant = `select set_config('app.tenant', $1, false)`

func session(ctx context.Context, db *router.DB, b *pgx.Batch) {
	_, _ = db.Exec(ctx, setTenant, "acme")                                       // want `set_config\(..., false\) changes the session`
	_, _ = db.Exec(ctx, "set search_path = acme")                                // want `SET changes the session`
	_, _ = db.Exec(ctx, "/* fast */ set session statement_timeout = 0")          // want `SET changes the session`
	_, _ = db.Exec(ctx, "select 1; reset all")                                   // want `RESET changes the session`
	b.Queue("discard all")                                                       // want `DISCARD changes the session`
	_, _ = db.Query(ctx, "select x from t, set_config('role', 'boss', 'false')") // want `set_config\(..., false\) changes the session`
	_, _ = db.Exec(ctx, "-- who\nSET ROLE boss")                                 // want `SET changes the session`
}

func listen(ctx context.Context, tx *router.Tx) {
	_ = tx.QueryRow(ctx, "listen orders") // want `LISTEN changes the session`
}
