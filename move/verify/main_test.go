package verify_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/move/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// home is a database of one of the two homes.
type home struct {
	*pgx.Conn
	dsn       string
	dedicated bool
}

func newHome(t testing.TB, dedicated bool, sql string) home {
	t.Helper()
	h := home{dsn: pgtest.NewDatabase(t), dedicated: dedicated}
	var err error
	h.Conn, err = h.connect(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	h.exec(t, sql)
	return h
}

func (h home) connect(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, h.dsn) }

func (h home) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := h.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

func (h home) tables(t testing.TB) []table.Table {
	t.Helper()
	tables, err := table.Inspect(t.Context(), h.Conn, table.Home{Schema: "public", Dedicated: h.dedicated})
	require.NoError(t, err)
	return tables
}

func (h home) snapshot(t testing.TB) *verify.Snapshot {
	t.Helper()
	conn, err := h.connect(t.Context())
	require.NoError(t, err)
	s, err := verify.Take(t.Context(), conn, h.connect)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// compare compares tenant 1 of source with target.
func compare(t testing.TB, source, target home, opts verify.Options) verify.Report {
	t.Helper()
	a, b := source.tables(t), target.tables(t)
	pairs, problems := table.Match(a, b, "1")
	require.Empty(t, problems)
	r, err := verify.Compare(t.Context(), source.snapshot(t), target.snapshot(t), append(pairs, verify.References(a, b)...), opts)
	require.NoError(t, err)
	return r
}
