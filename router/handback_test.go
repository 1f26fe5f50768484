package router_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// panics is an argument whose own code panics.
type panics struct{}

func (panics) Value() (driver.Value, error) { panic("value") }

func TestAConnectionComesBackWhateverPanics(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	r := h.Router(t, one)
	db := r.Tenant(h.Add(t, "acme", placement.ModelShared, "a").Tenant)
	const echo = "select $1::text"
	for name, act := range map[string]func(ctx context.Context){
		"an argument": func(ctx context.Context) { _, _ = db.Exec(ctx, echo, panics{}) },
		"an argument of a batch": func(ctx context.Context) {
			b := &pgx.Batch{}
			b.Queue(echo, panics{})
			_ = db.SendBatch(ctx, b).Close()
		},
		"a callback of a batch": func(ctx context.Context) {
			b := &pgx.Batch{}
			b.Queue("select 1").Exec(nil)
			_ = db.SendBatch(ctx, b).Close()
		},
		"an argument in a Tx": func(ctx context.Context) {
			_ = db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { _, err := tx.Exec(ctx, echo, panics{}); return err })
		},
		"a later argument in a Tx": func(ctx context.Context) {
			_ = db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select 1")
				require.NoError(t, err)
				_, err = tx.Exec(ctx, echo+" -- new", panics{})
				return err
			})
		},
		"a callback of a Tx's batch": func(ctx context.Context) {
			_ = db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				b := &pgx.Batch{}
				b.Queue("select 1").Exec(nil)
				return tx.SendBatch(ctx, b).Close()
			})
		},
	} {
		for range 2 { // cold and warm
			require.Panics(t, func() { act(t.Context()) }, name)
			var one int
			require.NoError(t, db.QueryRow(t.Context(), "select 1").Scan(&one), name)
		}
	}
}

func TestASavepointThatCannotBeUndoneUndoesTheTransaction(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	r := h.Router(t, one)
	db := r.Tenant(h.Add(t, "acme", placement.ModelShared, "a").Tenant)
	boom := errors.New("boom")
	err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		var left pgx.Rows
		err := tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Exec(ctx, insertCustomer, "undone@example.com")
			require.NoError(t, err)
			left, err = tx.Query(ctx, "select generate_series(1, 10000)") // open rows are in the way of the roll-back
			require.NoError(t, err)
			return boom
		})
		require.ErrorIs(t, err, boom)
		require.ErrorIs(t, err, router.ErrRolledBack)
		left.Close()
		return nil // the caller passes over it
	})
	require.Error(t, err)
	var n int
	require.NoError(t, db.QueryRow(t.Context(), "select count(*) from customers").Scan(&n))
	require.Zero(t, n)
}

func TestAdminConnectionsArePutBackToo(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	p := h.Add(t, "acme", placement.ModelShared, "a")
	r := h.Router(t, one)
	admin, err := r.Admin("test")
	require.NoError(t, err)
	run := func(sql string) string {
		var got string
		require.NoError(t, admin.Tx(t.Context(), "a", p.Home.Database, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
			return tx.QueryRow(ctx, sql).Scan(&got)
		}))
		return got
	}
	const state = `
select concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'),
                 (select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and pid = pg_backend_pid()))`
	require.Equal(t, "read committed off 0", run(state))
	run("select pg_advisory_lock(4711)::text")
	require.Equal(t, "read committed off 0", run(state))
	run("select set_config('default_transaction_isolation', 'serializable', false) || set_config('default_transaction_read_only', 'on', false)")
	for range 2 {
		err = admin.Tx(t.Context(), "a", p.Home.Database, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
			var got string
			err := tx.QueryRow(ctx, state).Scan(&got)
			if err == nil {
				require.Equal(t, "read committed off 0", got)
			}
			return err
		})
		if err == nil {
			break
		}
	}
	require.NoError(t, err, "the second try is on a new connection at the latest")
}

func TestWhatIsTheLoginsAndNotATenantsIsClosed(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	db := h.Router(t).Tenant(h.Add(t, "acme", placement.ModelShared, "a").Tenant)
	for _, sql := range []string{
		"select lo_from_bytea(0, 'secret')", "select lo_get(1)", "select lo_unlink(1)", "select lo_creat(-1)",
		"select pg_terminate_backend(1)", "select pg_cancel_backend(1)",
	} {
		_, err := db.Exec(t.Context(), sql)
		require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%s: %v", sql, err)
	}
}

func TestSettingsOfLandlordAreRefusedHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Mode: isolation.Plain})
	db := h.Router(t).Tenant(h.Add(t, "acme", placement.ModelShared, "a").Tenant)
	for _, sql := range []string{
		"set local landlord.tenant = 'x'", "SET LOCAL LANDLORD.tenant = 'x'", "set local /* a */ landlord . tenant = 'x'",
		`set local "landlord"."tenant" = 'x'`, `set local U&"landlord".tenant = 'x'`, "set local\n-- a\nlandlord.tenant to 'x'",
	} {
		_, err := db.Exec(t.Context(), sql)
		require.ErrorIs(t, err, router.ErrRefused, sql)
	}
	_, err := db.Exec(t.Context(), "set local lock_timeout = '1s'")
	require.NoError(t, err)
}
