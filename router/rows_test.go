package router_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// queryer is a DB or a Tx.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	querier
}

func TestRows(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		for _, test := range []func(*testing.T, queryer){rowsRead, rowsClosed, rowsScanned, rowsOfOne} {
			test(t, db)
			require.ErrorIs(t, db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
				test(t, tx)
				return errBoom
			}), errBoom)
		}
		n.requireClean(t, r, p)
	})
}

func rowsRead(t *testing.T, q queryer) {
	rows, err := q.Query(t.Context(), "select i as number, 'row ' || i as text from generate_series(1, $1) i", 3)
	require.NoError(t, err)
	require.Nil(t, rows.Conn())
	require.Equal(t, "number", rows.FieldDescriptions()[0].Name)
	require.NotNil(t, rows.TypeMap())
	var text string
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(nil, &text))
	require.Equal(t, "row 1", text)
	require.True(t, rows.Next())
	values, err := rows.Values()
	require.NoError(t, err)
	require.Equal(t, []any{int32(2), "row 2"}, values)
	require.True(t, rows.Next())
	require.Equal(t, "row 3", string(rows.RawValues()[1]))
	require.NoError(t, rows.Scan(scanner{t}))
	require.False(t, rows.Next())
	require.NoError(t, rows.Err())
	require.Equal(t, "SELECT 3", rows.CommandTag().String())

	type line struct{ Text string }
	rows, err = q.Query(t.Context(), "select 'struct' as text")
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByName[line])
	require.NoError(t, err)
	require.Equal(t, []line{{"struct"}}, lines)
	rows, err = q.Query(t.Context(), "select 1 union all select 2")
	require.NoError(t, err)
	_, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	require.ErrorIs(t, err, pgx.ErrTooManyRows)
}

// scanner is given pgx's own rows.
type scanner struct{ t *testing.T }

func (s scanner) ScanRow(rows pgx.Rows) error {
	require.Nil(s.t, rows.Conn())
	return nil
}

// rowsClosed reads rows that are closed: their memory is the connection's, which somebody else may have by now.
func rowsClosed(t *testing.T, q queryer) {
	rows, err := q.Query(t.Context(), "select 'mine' as mine from generate_series(1, 1000)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	rows.Close()
	rows.Close()
	var others string
	require.NoError(t, q.QueryRow(t.Context(), "select 'others' as others").Scan(&others))
	require.False(t, rows.Next())
	require.Error(t, rows.Scan(&others))
	_, err = rows.Values()
	require.Error(t, err)
	require.Nil(t, rows.RawValues())
	require.Nil(t, rows.FieldDescriptions())
	require.NoError(t, rows.Err())
	require.Equal(t, "SELECT 1000", rows.CommandTag().String())

	failed, err := q.Query(t.Context(), "commit")
	require.ErrorIs(t, err, router.ErrRefused)
	require.False(t, failed.Next())
	require.ErrorIs(t, failed.Err(), router.ErrRefused)
	require.ErrorIs(t, failed.Scan(&others), router.ErrRefused)
	_, err = failed.Values()
	require.ErrorIs(t, err, router.ErrRefused)
	require.Nil(t, failed.RawValues())
	require.Nil(t, failed.FieldDescriptions())
	require.Nil(t, failed.Conn())
	require.Nil(t, failed.TypeMap())
	require.Empty(t, failed.CommandTag().String())
	failed.Close()
}

func rowsScanned(t *testing.T, q queryer) {
	rows, err := q.Query(t.Context(), "select 'no number' from generate_series(1, 1000)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	var number int
	wrong := rows.Scan(&number)
	require.ErrorContains(t, wrong, "scan")
	require.False(t, rows.Next(), "an error closes them")
	require.ErrorContains(t, rows.Err(), "scan")
	require.ErrorContains(t, q.QueryRow(t.Context(), "select 'no number'").Scan(&number), "scan")
	require.ErrorContains(t, q.QueryRow(t.Context(), "select 1, 2").Scan(&number), "destinations")
}

func rowsOfOne(t *testing.T, q queryer) {
	var number int
	require.Equal(t, pgx.ErrNoRows, q.QueryRow(t.Context(), "select 1 where false").Scan(&number))
	require.NoError(t, q.QueryRow(t.Context(), "select generate_series(7, 1000)").Scan(&number))
	require.Equal(t, 7, number)
	require.ErrorContains(t, q.QueryRow(t.Context(), "select 1 / (4 - i) from generate_series(3, 4) i").Scan(&number), "division",
		"of a later row")
}
