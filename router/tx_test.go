package router_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

var errBoom = errors.New("boom")

// rejected is a table whose rows of value 0 are refused, but only at the commit.
const rejected = `
create table parents (tenant_id uuid, id bigint, primary key (tenant_id, id));
create table children (tenant_id uuid, id bigint, parent bigint, primary key (tenant_id, id),
    foreign key (tenant_id, parent) references parents (tenant_id, id) deferrable initially deferred)`

func TestTx(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, rejected)
	run := func(name string, test func(t *testing.T, r *router.Router, p placement.Placement)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
				test(t, r, p)
				n.requireClean(t, r, p)
			})
		})
	}

	run("commits on nil", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		require.NoError(t, db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "nil@example.com")
			require.Contains(t, emails(t, tx), "nil@example.com")
			return nil
		}))
		require.Contains(t, emails(t, db), "nil@example.com")
	})

	run("rolls back on error, panic and exit of the goroutine", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		undone := func(end func() error) func(context.Context, *router.Tx) error {
			return func(_ context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "undone@example.com")
				return end()
			}
		}
		require.ErrorIs(t, db.Tx(t.Context(), undone(func() error { return errBoom })), errBoom)
		require.PanicsWithValue(t, "argh", func() { _ = db.Tx(t.Context(), undone(func() error { panic("argh") })) })
		left := make(chan struct{})
		go func() {
			defer close(left)
			_ = db.Tx(t.Context(), undone(func() error { runtime.Goexit(); return nil }))
		}()
		<-left
		require.NotContains(t, emails(t, db), "undone@example.com")
	})

	run("without a statement sends nothing", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		require.NoError(t, db.Tx(t.Context(), func(context.Context, *router.Tx) error { return nil }))
		require.ErrorIs(t, db.Tx(t.Context(), func(context.Context, *router.Tx) error { return errBoom }), errBoom)
	})

	run("refuses every handle of the router inside", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		sqlDB := r.SQL()
		defer sqlDB.Close()
		admin, err := r.Admin("a test")
		require.NoError(t, err)
		require.NoError(t, db.Tx(withTenant(t, p), func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "outer@example.com")
			_, err := db.Exec(ctx, "select 1")
			require.ErrorIs(t, err, router.ErrInTx)
			require.ErrorIs(t, db.QueryRow(ctx, "select 1").Scan(nil), router.ErrInTx)
			require.ErrorIs(t, db.Tx(ctx, nil), router.ErrInTx)
			require.ErrorIs(t, db.SendBatch(ctx, oneQuery("select 1")).Close(), router.ErrInTx)
			_, err = db.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email"}, nil)
			require.ErrorIs(t, err, router.ErrInTx)
			_, err = sqlDB.ExecContext(ctx, "select 1")
			require.ErrorIs(t, err, router.ErrInTx)
			_, err = sqlDB.BeginTx(ctx, nil)
			require.ErrorIs(t, err, router.ErrInTx)
			require.ErrorIs(t, admin.Tx(ctx, "a", p.Home.Database, router.TxOptions{}, nil), router.ErrInTx)
			return tx.Savepoint(ctx, func(ctx context.Context, _ *router.Tx) error {
				_, err := db.Exec(ctx, "select 1")
				require.ErrorIs(t, err, router.ErrInTx)
				return nil
			})
		}))
	})

	run("is over when the callback has returned", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		var kept *router.Tx
		var keptCtx context.Context
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			kept, keptCtx = tx, ctx
			addCustomer(t, tx, "kept@example.com")
			return nil
		}))
		_, err := kept.Exec(t.Context(), insertCustomer, "late@example.com")
		require.ErrorIs(t, err, router.ErrTxDone)
		_, err = kept.Query(t.Context(), "select 1")
		require.ErrorIs(t, err, router.ErrTxDone)
		require.ErrorIs(t, kept.QueryRow(t.Context(), "select 1").Scan(nil), router.ErrTxDone)
		require.ErrorIs(t, kept.SendBatch(t.Context(), oneQuery("select 1")).Close(), router.ErrTxDone)
		require.ErrorIs(t, kept.Savepoint(t.Context(), nil), router.ErrTxDone)
		_, err = kept.CopyFrom(t.Context(), pgx.Identifier{"customers"}, []string{"email"}, pgx.CopyFromRows(nil))
		require.ErrorIs(t, err, router.ErrTxDone)
		_, err = db.Exec(keptCtx, "select 1")
		require.NoError(t, err, "the context is free again")
		require.NotContains(t, emails(t, db), "late@example.com")
	})

	run("does not commit while rows are open", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		var open pgx.Rows
		err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "open@example.com")
			var err error
			open, err = tx.Query(ctx, "select generate_series(1, 100000)")
			require.True(t, open.Next())
			_, busy := tx.Exec(ctx, "select 1")
			require.Error(t, busy, "a second statement beside open rows")
			return err
		})
		require.ErrorIs(t, err, router.ErrDirty)
		open.Close()
		require.Error(t, open.Err())
		require.False(t, open.Next())
		var results pgx.BatchResults
		err = db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			results = tx.SendBatch(ctx, oneQuery("select generate_series(1, 100000)"))
			return nil
		})
		require.ErrorIs(t, err, router.ErrDirty)
		require.Error(t, results.Close())
		require.NotContains(t, emails(t, db), "open@example.com")
	})

	run("tells when an earlier statement has failed it", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		for _, failing := range []string{"select 1 / 0", "select * from nowhere", insertCustomer} {
			var args []any
			if failing == insertCustomer {
				args = []any{email(p)}
			}
			for _, first := range []bool{true, false} {
				err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
					if !first {
						addCustomer(t, tx, "lost@example.com")
					}
					_, err := tx.Exec(ctx, failing, args...)
					require.Error(t, err)
					_, err = tx.Exec(ctx, "select 1")
					require.True(t, pgerr.Is(err, pgerr.InFailedTransaction), "%v", err)
					return nil
				})
				require.ErrorIs(t, err, router.ErrRolledBack)
			}
		}
		require.NotContains(t, emails(t, db), "lost@example.com")
	})

	run("tells when the commit itself fails", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		orphan := "insert into children (id, parent) values (1, 1) returning id"
		err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Exec(ctx, orphan)
			return err
		})
		require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown)

		// A single statement's success is known only at the implicit commit.
		for range 2 { // cold and warm
			tag, err := db.Exec(t.Context(), orphan)
			require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v %v", tag, err)
			var id int
			err = db.QueryRow(t.Context(), orphan).Scan(&id)
			require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
			rows, err := db.Query(t.Context(), orphan)
			require.NoError(t, err)
			require.True(t, rows.Next())
			require.NoError(t, rows.Err(), "nothing is known yet")
			require.False(t, rows.Next())
			require.True(t, pgerr.Is(rows.Err(), pgerr.ForeignKeyViolation), "%v", rows.Err())
			results := db.SendBatch(t.Context(), oneQuery(orphan))
			_, err = results.Exec()
			require.NoError(t, err)
			err = results.Close()
			require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
		}
		var count int
		require.NoError(t, db.QueryRow(t.Context(), "select count(*) from children").Scan(&count))
		require.Zero(t, count)
	})

	run("refuses an isolation level that PostgreSQL does not have", func(t *testing.T, r *router.Router, p placement.Placement) {
		err := r.Tenant(p.Tenant).TxWith(t.Context(), router.TxOptions{Isolation: "chaos; drop table customers"}, nil)
		require.ErrorIs(t, err, router.ErrRefused)
	})

	run("passes its options on", func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		for _, opts := range []router.TxOptions{
			{},
			{ReadOnly: true},
			{Isolation: pgx.RepeatableRead},
			{Isolation: pgx.RepeatableRead, ReadOnly: true},
			{Isolation: pgx.Serializable},
			{Isolation: pgx.Serializable, ReadOnly: true},
		} {
			err := db.TxWith(t.Context(), opts, func(ctx context.Context, tx *router.Tx) error {
				var level, access, deferrable string
				const q = `select current_setting('transaction_isolation'), current_setting('transaction_read_only'),
					current_setting('transaction_deferrable')`
				require.NoError(t, tx.QueryRow(ctx, q).Scan(&level, &access, &deferrable))
				want := opts.Isolation
				if want == "" {
					want = pgx.ReadCommitted
				}
				require.Equal(t, string(want), level)
				require.Equal(t, map[bool]string{true: "on", false: "off"}[opts.ReadOnly], access)
				require.Equal(t, "off", deferrable)
				require.Contains(t, emails(t, tx), email(p))
				if opts.ReadOnly {
					_, err := tx.Exec(ctx, insertCustomer, "read@example.com")
					require.True(t, pgerr.Is(err, pgerr.ReadOnlyTransaction), "%v", err)
				}
				return errBoom
			})
			require.ErrorIs(t, err, errBoom, "%+v", opts)
		}
	})
}

func oneQuery(sql string, args ...any) *pgx.Batch {
	b := &pgx.Batch{}
	b.Queue(sql, args...)
	return b
}

var _ interface { // sqlc's DBTX
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
} = (*router.Tx)(nil)
