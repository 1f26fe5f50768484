package router_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// littering is what a tenant's SQL may try to leave behind on its connection. Some of it is refused, in some modes.
var littering = []string{
	"set local app.note = 'litter'",
	"select set_config('app.note', 'litter', false)",
	"select set_config('landlord.tenant', 'litter', false)",
	"select set_config('search_path', 'pg_catalog', false)",
	"select set_config('timezone', 'Asia/Tokyo', false), set_config('datestyle', 'German', false)",
	"select set_config('statement_timeout', '1', false)",
	"select set_config('lock_timeout', '1', false), set_config('work_mem', '64kB', false)",
	"select set_config('role', 'landlord_app', false), set_config('session_authorization', 'landlord_app', false)",
	"select set_config('default_transaction_read_only', 'on', false)",
	"select set_config('default_transaction_isolation', 'serializable', false)",
	"select set_config('default_transaction_isolation', 'repeatable read', false), set_config('default_transaction_read_only', 'on', false)",
	"select set_config('default_transaction_deferrable', 'on', false)",
	"select set_config('row_security', 'off', false)",
	"select set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)",
	"select set_config('idle_session_timeout', '600000', false)",
	"update pg_settings set setting = 'off' where name = 'row_security'",
	"declare litter cursor with hold for select 1",
	"notify litter, 'x'", "select pg_notify('litter', 'x')",
	"select pg_advisory_lock(1), pg_advisory_lock_shared(2), pg_try_advisory_lock(3, 4)",
	"select pg_advisory_xact_lock(5)",
	"select 1 into temp litter", "select * into litter from customers",
	"select setval('customers_id_seq', 100)", "select nextval('customers_id_seq')",
	"select setseed(0.5)", "select pg_stat_clear_snapshot()", "select pg_export_snapshot()",
	"explain analyze select * from customers",
	"with a as (insert into customers (email, name) values (gen_random_uuid()::text, '') returning 1) select set_config('app.note', 'x', false) from a",
}

func TestTheNextTransactionFindsAFreshSession(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			n := newNeighbours(t, testhouse.Options{Mode: mode})
			n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
				next := n.next(p.Model)
				if p.Model == placement.ModelDatabase { // whose connections are not shared
					next = p
				}
				fresh := map[router.TxOptions][]string{}
				for _, opts := range []router.TxOptions{{}, {Isolation: pgx.RepeatableRead, ReadOnly: true}} {
					fresh[opts] = txSession(t, n.Router(t).Tenant(next.Tenant), opts)
				}
				db := r.Tenant(p.Tenant)
				for _, litter := range littering {
					_, single := db.Exec(t.Context(), litter)
					requireNeighbourClean(t, r, next, fresh, litter)
					if single != nil {
						continue
					}
					require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
						_, err := tx.Exec(ctx, litter)
						return err
					}), litter)
					requireNeighbourClean(t, r, next, fresh, litter)
				}
			})
		})
	}
}

// requireNeighbourClean proves that what next finds on r's only connection does not depend on the litter.
func requireNeighbourClean(t *testing.T, r *router.Router, next placement.Placement, fresh map[router.TxOptions][]string, litter string) {
	t.Helper()
	db := r.Tenant(next.Tenant)
	// A statement that fails undoes the reset that came with it, and must not matter.
	_, err := db.Exec(t.Context(), "select 1 / 0")
	require.Error(t, err, litter)
	requireSame(t, fresh[router.TxOptions{}], sessionOf(t, db), litter)
	for opts, want := range fresh {
		requireSame(t, want, txSession(t, db, opts), litter)
	}
	require.True(t, pgerr.Is(db.QueryRow(t.Context(), "select lastval()").Scan(new(int)), pgerr.ObjectNotInPrerequisite), litter)
	_, err = db.Exec(t.Context(), insertCustomer, "litter@example.com")
	require.NoError(t, err, litter)
	_, err = db.Exec(t.Context(), "delete from customers where email = 'litter@example.com'")
	require.NoError(t, err, litter)
}

func txSession(t *testing.T, db *router.DB, opts router.TxOptions) (seen []string) {
	t.Helper()
	require.NoError(t, db.TxWith(t.Context(), opts, func(_ context.Context, tx *router.Tx) error {
		seen = sessionOf(t, tx)
		return nil
	}))
	return seen
}
