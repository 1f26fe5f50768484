package router_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// sender is a DB or a Tx.
type sender interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

func TestBatch(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, "create table sums (tenant_id uuid, id int, primary key (tenant_id, id))")
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		for name, test := range map[string]func(*testing.T, sender, placement.Placement){
			"is read in order, callbacks included":          batchInOrder,
			"that is not read runs all the same":            batchUnread,
			"ends at the first error":                       batchError,
			"with a bad argument runs nothing":              batchBadArgument,
			"tells a callback's error":                      batchCallback,
			"of nothing is nothing":                         batchEmpty,
			"repeats a statement":                           batchRepeats,
			"is larger than what the network holds":         batchLarge,
			"that is read too far, or after Close, says so": batchTooFar,
		} {
			t.Run(name, func(t *testing.T) {
				for range 2 { // with a cold and with a warm cache of statements
					test(t, db, p)
					for _, first := range []bool{true, false} {
						require.ErrorIs(t, db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
							if !first {
								addCustomer(t, tx, "before@example.com")
							}
							test(t, tx, p)
							return errBoom
						}), errBoom)
					}
					_, err := db.Exec(t.Context(), "delete from sums")
					require.NoError(t, err)
				}
				n.requireClean(t, r, p)
			})
		}
	})
}

const insertSum = "insert into sums (id) values ($1) returning id"

func batchInOrder(t *testing.T, s sender, p placement.Placement) {
	b := &pgx.Batch{}
	b.Queue("select email from customers where email = $1", email(p))
	b.Queue("insert into sums (id) values (100)")
	b.Queue("select generate_series(1, 3)")
	b.Queue("select generate_series(1, 100000)")
	b.Queue("select @a::text || 'b'", pgx.NamedArgs{"a": "a"})
	b.Queue("select id from sums where id = 100")
	results := s.SendBatch(t.Context(), b)
	var seen string
	require.NoError(t, results.QueryRow().Scan(&seen))
	require.Equal(t, email(p), seen)
	tag, err := results.Exec()
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
	rows, err := results.Query()
	require.NoError(t, err)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, numbers)
	rows, err = results.Query() // left open
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.Nil(t, rows.Conn())
	require.NoError(t, results.QueryRow().Scan(&seen))
	require.Equal(t, "ab", seen)
	require.False(t, rows.Next(), "the next result closes the one before")
	require.Nil(t, rows.RawValues())
	require.NoError(t, results.Close())
	require.NoError(t, results.Close(), "twice")

	var read []string
	b = &pgx.Batch{}
	b.Queue("select 1::text union all select '2'").Query(func(rows pgx.Rows) error {
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		read = append(read, texts...)
		return err
	})
	b.Queue("select '3'").QueryRow(func(row pgx.Row) error {
		var text string
		err := row.Scan(&text)
		read = append(read, text)
		return err
	})
	b.Queue("delete from sums").Exec(func(tag pgconn.CommandTag) error {
		read = append(read, tag.String())
		return nil
	})
	require.NoError(t, s.SendBatch(t.Context(), b).Close())
	require.Equal(t, []string{"1", "2", "3", "DELETE 1"}, read)
}

func batchUnread(t *testing.T, s sender, _ placement.Placement) {
	b := oneQuery(insertSum, 200)
	b.Queue("select generate_series(1, 100000)")
	b.Queue(insertSum, 201)
	require.NoError(t, s.SendBatch(t.Context(), b).Close())
	var count int
	b = oneQuery("select count(*) from sums where id >= 200")
	b.Queue("delete from sums")
	results := s.SendBatch(t.Context(), b)
	require.NoError(t, results.QueryRow().Scan(&count))
	require.Equal(t, 2, count)
	require.NoError(t, results.Close())
}

func batchError(t *testing.T, s sender, _ placement.Placement) {
	b := oneQuery(insertSum, 300)
	b.Queue("select 1 / $1::int", 0)
	b.Queue(insertSum, 301)
	results := s.SendBatch(t.Context(), b)
	var id int
	require.NoError(t, results.QueryRow().Scan(&id))
	_, err := results.Exec()
	require.Error(t, err)
	_, again := results.Exec()
	require.Error(t, again)
	_, again = results.Query()
	require.Error(t, again)
	require.Error(t, results.QueryRow().Scan(&id))
	require.True(t, pgerr.Is(results.Close(), "22012"))
	if db, ok := s.(*router.DB); ok {
		var count int
		require.NoError(t, db.QueryRow(t.Context(), "select count(*) from sums").Scan(&count))
		require.Zero(t, count, "all or nothing")
	}
}

func batchBadArgument(t *testing.T, s sender, _ placement.Placement) {
	for _, bad := range []*pgx.Batch{oneQuery(insertSum, 400), oneQuery(insertSum, 400), oneQuery(insertSum, 400)} {
		bad.Queue(insertSum, struct{}{})
		require.ErrorContains(t, s.SendBatch(t.Context(), bad).Close(), "encode")
	}
	few := oneQuery(insertSum, 400)
	few.Queue(insertSum)
	require.ErrorContains(t, s.SendBatch(t.Context(), few).Close(), "encode")
	var count int
	results := s.SendBatch(t.Context(), oneQuery("select count(*) from sums"))
	require.NoError(t, results.QueryRow().Scan(&count))
	require.NoError(t, results.Close())
	require.Zero(t, count)
}

func batchCallback(t *testing.T, s sender, _ placement.Placement) {
	b := &pgx.Batch{}
	b.Queue("select 1").QueryRow(func(pgx.Row) error { return errBoom })
	b.Queue("select 2").QueryRow(func(pgx.Row) error {
		require.Fail(t, "called after an error")
		return nil
	})
	require.ErrorIs(t, s.SendBatch(t.Context(), b).Close(), errBoom)
}

func batchEmpty(t *testing.T, s sender, _ placement.Placement) {
	results := s.SendBatch(t.Context(), &pgx.Batch{})
	_, err := results.Exec()
	require.Error(t, err)
	require.NoError(t, results.Close())
}

func batchRepeats(t *testing.T, s sender, _ placement.Placement) {
	b := &pgx.Batch{}
	for i := range 20 {
		b.Queue(fmt.Sprintf("select $1::int + %d", i%3), i)
	}
	results := s.SendBatch(t.Context(), b)
	for i := range 20 {
		var sum int
		require.NoError(t, results.QueryRow().Scan(&sum))
		require.Equal(t, i+i%3, sum)
	}
	require.NoError(t, results.Close())
}

func batchLarge(t *testing.T, s sender, _ placement.Placement) {
	b := &pgx.Batch{}
	long := strings.Repeat("x", 100_000)
	for range 40 {
		b.Queue("select $1::text, repeat('y', 100000)", long)
	}
	results := s.SendBatch(t.Context(), b)
	for range 40 {
		var x, y string
		require.NoError(t, results.QueryRow().Scan(&x, &y))
		require.Len(t, x+y, 200_000)
	}
	require.NoError(t, results.Close())
}

func batchTooFar(t *testing.T, s sender, _ placement.Placement) {
	results := s.SendBatch(t.Context(), oneQuery("select 1"))
	_, err := results.Exec()
	require.NoError(t, err)
	_, err = results.Exec()
	require.ErrorContains(t, err, "no more results")
	require.Error(t, results.Close())
	_, err = results.Exec()
	require.Error(t, err)
}

func TestABatchIsOneTransaction(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		b := &pgx.Batch{}
		b.Queue("select pg_current_xact_id()::text")
		b.Queue("select pg_current_xact_id()::text")
		results := r.Tenant(p.Tenant).SendBatch(t.Context(), b)
		var first, second string
		require.NoError(t, results.QueryRow().Scan(&first))
		require.NoError(t, results.QueryRow().Scan(&second))
		require.NoError(t, results.Close())
		require.Equal(t, first, second)
		require.ErrorIs(t, r.Tenant(p.Tenant).SendBatch(t.Context(), oneQuery("call something()")).Close(), router.ErrRefused)
	})
}
