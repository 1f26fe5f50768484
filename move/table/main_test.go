package table_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/move/table"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const tenant = "7f0c5d5e-90b1-4ab6-a8a0-000000000001"

// home makes a database with one home in it and reads its tables. The SQL runs with the home's schema in front.
func home(t *testing.T, h table.Home, sql string) []table.Table {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	name := pgx.Identifier{h.Schema}.Sanitize()
	_, err = conn.Exec(t.Context(), "create schema if not exists "+name+"; set search_path = "+name+"; "+sql)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "set search_path = pg_catalog")
	require.NoError(t, err)
	tables, err := table.Inspect(t.Context(), conn, h)
	require.NoError(t, err)
	return tables
}

var (
	shared    = table.Home{Schema: "public"}
	dedicated = table.Home{Schema: `t_"x`, Dedicated: true}
)

// problems lists what Match finds, as "code object".
func problems(found []table.Problem) (list []string) {
	for _, p := range found {
		list = append(list, string(p.Code)+" "+p.Object)
	}
	return list
}
