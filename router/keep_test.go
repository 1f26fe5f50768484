package router_test

import (
	"context"
	"database/sql/driver"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// slowValue is an argument that takes its time.
type slowValue struct{ begun, goOn chan struct{} }

// Value implements driver.Valuer.
func (v slowValue) Value() (driver.Value, error) {
	close(v.begun)
	<-v.goOn
	return "written late", nil
}

// A goroutine that was not waited for sends its statement when the callback has long returned. It is part of its own
// transaction or of none, whoever has the connection by then.
func TestALateStatementNeverReachesTheNextTenant(t *testing.T) {
	t.Parallel()
	for name, direct := range map[string]bool{"direct": true, "behind one backend of PgBouncer": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var opts testhouse.Options
			if !direct {
				opts.Bouncer(t, pgtest.Server(t), 1)
			}
			n := newNeighbours(t, opts, one)
			here, next := n.r.Tenant(n.here[placement.ModelShared].Tenant), n.r.Tenant(n.next(placement.ModelShared).Tenant)
			const insert = "insert into customers (email, name) values (gen_random_uuid()::text, $1)"
			_, err := here.Exec(t.Context(), insert, "warm") // the connection knows the statement: only its values are missing
			require.NoError(t, err)

			late := slowValue{make(chan struct{}), make(chan struct{})}
			sent := make(chan error, 1)
			first := make(chan error, 1)
			go func() {
				first <- here.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
					if _, err := tx.Exec(ctx, "select 1"); err != nil {
						return err
					}
					go func() {
						_, err := tx.Exec(ctx, insert, late)
						sent <- err
					}()
					<-late.begun
					return nil
				})
			}()
			<-late.begun
			select {
			case err := <-first:
				require.Fail(t, "the transaction ended under its own statement", "%v", err)
			case <-time.After(50 * time.Millisecond):
			}
			close(late.goOn)
			require.NoError(t, <-first)
			require.NoError(t, <-sent)
			require.Contains(t, namesOf(t, here), "written late")
			require.NotContains(t, namesOf(t, next), "written late")
		})
	}
}

func namesOf(t *testing.T, db *router.DB) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), "select name from customers")
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

// A Tx, rows and a batch's results that somebody has kept are of no use once their connection has gone.
func TestWhatIsKeptIsOfNoUseAfterTheTransaction(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{}, one)
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		var tx *router.Tx
		var rows pgx.Rows
		var batch pgx.BatchResults
		err := db.Tx(t.Context(), func(ctx context.Context, open *router.Tx) (err error) {
			tx = open
			rows, err = open.Query(ctx, "select email from customers union all select 'another'")
			return err
		})
		require.ErrorIs(t, err, router.ErrDirty) // rows are open
		err = db.Tx(t.Context(), func(ctx context.Context, open *router.Tx) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("select 2")
			batch = open.SendBatch(ctx, b)
			return nil
		})
		require.ErrorIs(t, err, router.ErrDirty)

		other := r.Tenant(n.next(p.Model).Tenant)
		require.NoError(t, other.Tx(t.Context(), func(ctx context.Context, _ *router.Tx) error { return nil }))
		require.NoError(t, other.Tx(t.Context(), func(ctx context.Context, open *router.Tx) error {
			_, err := open.Exec(ctx, "select 1") // has the connection
			require.NoError(t, err)
			_, err = tx.Exec(ctx, insertCustomer, "stray")
			require.Error(t, err)
			require.False(t, rows.Next())
			require.Error(t, rows.Scan(new(string)))
			rows.Close()
			require.ErrorIs(t, rows.Err(), router.ErrTxDone)
			_, err = batch.Exec()
			require.ErrorIs(t, err, router.ErrTxDone)
			require.ErrorIs(t, batch.Close(), router.ErrTxDone)
			_, err = open.Exec(ctx, "select 1")
			return err
		}))
		require.NotContains(t, emails(t, other), "stray")
	})
}

// Two goroutines in one Tx are a mistake, which costs an error or the transaction, and nobody else anything.
func TestTwoGoroutinesInATxHurtNobodyElse(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{}, one)
	here, next := n.here[placement.ModelShared], n.next(placement.ModelShared)
	const q = "select email from customers"
	for range 60 {
		gone := make(chan struct{}, 2)
		_ = n.r.Tenant(here.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			for range 2 {
				go func() {
					defer func() { gone <- struct{}{} }()
					for range 3 {
						var got string
						if tx.QueryRow(ctx, q).Scan(&got) == nil && got != email(here) {
							t.Errorf("%s reads %s", here.Slug, got)
						}
					}
				}()
			}
			_, _ = tx.Exec(ctx, "select 1")
			return nil
		})
		var got string
		require.NoError(t, n.r.Tenant(next.Tenant).QueryRow(t.Context(), q).Scan(&got))
		require.Equal(t, email(next), got)
		<-gone
		<-gone
	}
	require.Zero(t, n.r.Stats().Pools[0].InUse)
}

// What a caller has read stays what it was, and what it changes of it nobody else meets.
func TestWhatWasReadIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{}, one)
	here, next := n.r.Tenant(n.here[placement.ModelShared].Tenant), n.r.Tenant(n.next(placement.ModelShared).Tenant)
	const q = "select convert_to(email, 'utf8') from customers"
	require.ErrorIs(t, here.QueryRow(t.Context(), q).Scan(new(pgtype.DriverBytes)), router.ErrRefused)

	rows, err := here.Query(t.Context(), q)
	require.NoError(t, err)
	require.True(t, rows.Next())
	raw := rows.RawValues()[0]
	before := string(raw)
	types := rows.(interface{ TypeMap() *pgtype.Map }).TypeMap()
	rows.Close()
	types.RegisterType(&pgtype.Type{Name: "text", OID: pgtype.TextOID, Codec: pgtype.BoolCodec{}})
	for range 3 {
		require.NotContains(t, emails(t, next), before)
	}
	require.Equal(t, before, string(raw))
	require.Nil(t, rows.(interface{ TypeMap() *pgtype.Map }).TypeMap())
}

// counting is a tracer that counts.
type counting struct{ begun, ended atomic.Int64 }

// Start implements router.Tracer.
func (c *counting) Start(ctx context.Context, _ router.Call) (context.Context, func(router.End)) {
	c.begun.Add(1)
	return ctx, func(router.End) { c.ended.Add(1) }
}

func TestACallWhoseArgumentPanicsEndsForItsTracer(t *testing.T) {
	t.Parallel()
	tracer := &counting{}
	n := newNeighbours(t, testhouse.Options{}, one, func(cfg *router.Config) { cfg.Tracer = tracer })
	db := n.r.Tenant(n.here[placement.ModelShared].Tenant)
	batch := func() *pgx.Batch {
		b := &pgx.Batch{}
		b.Queue("select $1::text", panics{})
		return b
	}
	for name, call := range map[string]func(){
		"statement": func() { _, _ = db.Exec(t.Context(), "select $1::text", panics{}) },
		"batch":     func() { _ = db.SendBatch(t.Context(), batch()).Close() },
		"statement in a transaction": func() {
			_ = db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select $1::text", panics{})
				return err
			})
		},
		"batch in a transaction": func() {
			_ = db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error { return tx.SendBatch(ctx, batch()).Close() })
		},
	} {
		require.Panics(t, call, name)
		require.Equal(t, tracer.begun.Load(), tracer.ended.Load(), name)
	}
	require.Contains(t, emails(t, db), email(n.here[placement.ModelShared]))
}
