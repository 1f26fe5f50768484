package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// zoo has a column of many a kind.
const zoo = `
create type mood as enum ('glad', 'sad');
create type pair as (a int, b text);
create domain short as varchar(5) check (value <> 'never');
create domain shorter as short;
create domain numbers as int[];
create table "Zoo" (
    tenant_id uuid,
    id        bigint generated always as identity,
    "a text"  text, small smallint, ok boolean, price numeric(10, 2), body bytea, doc jsonb, raw json,
    at timestamptz, day date, took interval, who uuid, net inet, m mood, ms mood[], ns int[], grid int[][], ts text[],
    five varchar(5), fixed char(3), bits bit(3), dom shorter, doms numbers, p pair, span int4range, f float8,
    primary key (tenant_id, id))`

func TestCopyFrom(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, zoo)
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		for _, c := range []struct {
			name string
			test func(*testing.T, *router.DB, placement.Placement)
		}{
			{"takes values of every kind", copyKinds},
			{"takes many rows", copyMany},
			{"refuses what the column cannot hold", copyTooLong},
			{"inserts all or nothing", copyAllOrNothing},
			{"cannot write another tenant's rows", copyForeign},
			{"refuses a table or column that is not", copyNowhere},
		} {
			t.Run(c.name, func(t *testing.T) { c.test(t, db, n.next(p.Model)) })
		}
		n.requireClean(t, r, p)
	})
}

func copyKinds(t *testing.T, db *router.DB, _ placement.Placement) {
	at := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	who := uuid.New()
	type status string
	columns := []string{
		"a text", "small", "ok", "price", "body", "doc", "raw", "at", "day", "took", "who", "net", "m", "ms", "ns", "grid", "ts",
		"five", "fixed", "bits", "dom", "doms", "p", "span", "f",
	}
	full := []any{
		"it's \"quoted\", \\ and \n é", int16(-7), true,
		pgtype.Numeric{Int: big.NewInt(12345), Exp: -2, Valid: true},
		[]byte{0, 1, 255, '\\'},
		map[string]any{"a": []int{1, 2}},
		json.RawMessage(`{"b": null}`), at, at, 90 * time.Minute, who, "10.0.0.1", status("glad"),
		[]string{"sad", "glad"},
		[]int32{1, -2},
		[][]int32{{1, 2}, {3, 4}},
		[]string{"a,b", `"c"`, "", "NULL"},
		"fünfe", "ab", "101", "xyz",
		[]int32{9},
		"(1,\"x y\")", "[1,5)", 1.5e-300,
	}
	asText := []any{
		"", "-7", "true", "123.45", `\x00ff`, `{"a": [1, 2]}`, "[]", at.Format(time.RFC3339Nano), "2026-02-28", "90 minutes", who.String(), "10.0.0.1",
		"glad", "{sad,glad}", "{1,-2}", "{{1,2},{3,4}}", `{"a,b"}`, "12345", "abc", "101", "xyz", "{9}", "(1,x)", "[1,5)", "NaN",
	}
	nulls := make([]any, len(columns))
	typedNulls := make([]any, len(columns))
	for i := range typedNulls {
		typedNulls[i] = (*string)(nil)
	}
	n, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, columns, pgx.CopyFromRows([][]any{full, asText, nulls, typedNulls}))
	require.NoError(t, err)
	require.EqualValues(t, 4, n)

	var (
		text, price, doc, raw, took, mood, moods, fixed, bits, dom, doms, pair, span string
		small                                                                        int16
		ok                                                                           bool
		body                                                                         []byte
		seen                                                                         time.Time
		id                                                                           uuid.UUID
		grid                                                                         [][]int32
		texts                                                                        []string
		f                                                                            float64
	)
	require.NoError(t, db.QueryRow(t.Context(), `select "a text", small, ok, price::text, body, doc::text, raw::text, at, took::text, who, m::text, ms::text,
		grid, ts, fixed::text, bits::text, dom, doms::text, p::text, span::text, f from "Zoo" where small is not null order by id limit 1`).Scan(
		&text, &small, &ok, &price, &body, &doc, &raw, &seen, &took, &id, &mood, &moods, &grid, &texts, &fixed, &bits, &dom, &doms, &pair, &span, &f))
	require.Equal(t, full[0], text)
	require.Equal(t, full[4], body)
	require.True(t, at.Equal(seen))
	require.Equal(t, who, id)
	require.Equal(t, full[15], grid)
	require.Equal(t, full[16], texts)
	require.Equal(t, 1.5e-300, f) //nolint:testifylint // exactly
	require.Equal(t, []string{"123.45", `{"a": [1, 2]}`, `{"b": null}`, "01:30:00", "glad", "{sad,glad}", "ab", "101", "xyz", "{9}", `(1,"x y")`, "[1,5)"},
		[]string{price, doc, raw, took, mood, moods, fixed, bits, dom, doms, pair, span})
	var count int
	require.NoError(t, db.QueryRow(t.Context(), `select count(*) from "Zoo" where num_nulls("a text", small, doc, m, ms, grid, dom, p, f) = 9`).Scan(&count))
	require.Equal(t, 2, count)
}

func copyMany(t *testing.T, db *router.DB, _ placement.Placement) {
	const many = 10_000
	long := strings.Repeat("é", 1000) // so that parts are ended by size as well
	n, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"a text", "ns"}, pgx.CopyFromSlice(many, func(i int) ([]any, error) {
		return []any{fmt.Sprint("many ", i, long[:2*(i%7)*100]), []int32{int32(i)}}, nil
	}))
	require.NoError(t, err)
	require.EqualValues(t, many, n)
	var count, sum int
	require.NoError(t, db.QueryRow(t.Context(), `select count(*), sum(ns[1]) from "Zoo" where "a text" like 'many %'`).Scan(&count, &sum))
	require.Equal(t, many, count)
	require.Equal(t, many*(many-1)/2, sum)

	// Identity columns are written as COPY writes them.
	n, err = db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"id"}, pgx.CopyFromRows([][]any{{int64(-1)}, {"-2"}}))
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

func copyTooLong(t *testing.T, db *router.DB, _ placement.Placement) {
	for column, value := range map[string]any{
		"five": "sixsix", "fixed": "four", "bits": "1111", "dom": "sixsix", "m": "angry", "small": 70_000, "price": "1e10", "ns": []string{"x"},
		"doc": "{", "who": "nobody", "at": "yesterday-ish", "a text": "nul \x00 byte",
	} {
		for _, v := range []any{value, fmt.Sprint(value)} {
			_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{column}, pgx.CopyFromRows([][]any{{v}}))
			require.Error(t, err, "%s = %v", column, v)
		}
	}
	for _, dom := range []string{"sixsix", "never"} {
		_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"dom"}, pgx.CopyFromRows([][]any{{dom}}))
		require.True(t, pgerr.Is(err, pgerr.StringTooLong, pgerr.CheckViolation), "%v", err)
	}
	_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"a text"}, pgx.CopyFromRows([][]any{{struct{ X chan int }{}}}))
	require.ErrorContains(t, err, "row 1")
	_, err = db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"a text"}, pgx.CopyFromRows([][]any{{"a", "b"}}))
	require.ErrorContains(t, err, "2 values for 1 columns")
}

func copyAllOrNothing(t *testing.T, db *router.DB, _ placement.Placement) {
	count := func(on querier) (count int) {
		require.NoError(t, on.QueryRow(t.Context(), `select count(*) from "Zoo" where "a text" like 'part %'`).Scan(&count))
		return count
	}
	// Rows 0 to 4,999, the last of which is wrong in the source, in its encoding, or to the server; parts before it are in.
	for name, last := range map[string]func() ([]any, error){
		"source":   func() ([]any, error) { return nil, errBoom },
		"encoding": func() ([]any, error) { return []any{struct{ X chan int }{}, 1}, nil },
		"server":   func() ([]any, error) { return []any{"part", 70_000}, nil },
	} {
		source := func() pgx.CopyFromSource {
			return pgx.CopyFromSlice(5000, func(i int) ([]any, error) {
				if i == 4999 {
					return last()
				}
				return []any{fmt.Sprint("part ", i), i}, nil
			})
		}
		columns := []string{"a text", "small"}
		n, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, columns, source())
		require.Error(t, err, name)
		require.Zero(t, n, name)
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, name+"@example.com")
			n, err := tx.CopyFrom(ctx, pgx.Identifier{"Zoo"}, columns, source())
			require.Error(t, err, name)
			require.Zero(t, n, name)
			require.Zero(t, count(tx), name)
			return nil
		}), "the transaction is as it was before")
		require.Contains(t, emails(t, db), name+"@example.com")
		require.Zero(t, count(db), name)
	}
	require.PanicsWithValue(t, "argh", func() {
		_, _ = db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"small"}, pgx.CopyFromSlice(5000, func(i int) ([]any, error) {
			if i == 4999 {
				panic("argh")
			}
			return []any{1}, nil
		}))
	})
}

func copyForeign(t *testing.T, db *router.DB, next placement.Placement) {
	columns := []string{"tenant_id", "small"}
	_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, columns, pgx.CopyFromRows([][]any{{db.Tenant().String(), 1}, {next.Tenant.String(), 1}}))
	require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%v", err)
	n, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, columns, pgx.CopyFromRows([][]any{{db.Tenant().String(), 1}}))
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func copyNowhere(t *testing.T, db *router.DB, _ placement.Placement) {
	for _, table := range []pgx.Identifier{{"zoo"}, {"nowhere", "Zoo"}, {`Zoo"; drop table "Zoo`}, {strings.Repeat("x", 100)}} {
		_, err := db.CopyFrom(t.Context(), table, []string{"small"}, pgx.CopyFromRows([][]any{{1}}))
		require.Error(t, err, "%v", table)
	}
	for _, column := range []string{"nothing", "SMALL", "", "ctid", "tableoid", `small") values (1); --`} {
		_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{column}, pgx.CopyFromRows([][]any{{1}}))
		require.ErrorContains(t, err, "there is no column")
	}
	_, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, nil, pgx.CopyFromRows(nil))
	require.ErrorIs(t, err, router.ErrRefused)
	n, err := db.CopyFrom(t.Context(), pgx.Identifier{"Zoo"}, []string{"small"}, pgx.CopyFromRows(nil))
	require.NoError(t, err)
	require.Zero(t, n)
}
