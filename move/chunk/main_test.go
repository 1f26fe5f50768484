package chunk_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrations"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/table"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	tenant = "7f0c5d5e-90b1-4ab6-a8a0-000000000001"
	other  = "7f0c5d5e-90b1-4ab6-a8a0-000000000002"
)

var (
	shared    = table.Home{Schema: "public"}
	dedicated = table.Home{Schema: "t_home", Dedicated: true}
)

// rig is a source, a target that is being filled, and a copy from the one to the other.
type rig struct {
	sourceDSN, targetDSN string
	source, target       *pgx.Conn
	chunk.Config
}

// end is one end of a rig: a home and the SQL that makes it, which runs with the home's schema in front.
type end struct {
	table.Home
	sql string
}

func newRig(t testing.TB, source, target end) *rig {
	t.Helper()
	r := &rig{sourceDSN: newDatabase(t), targetDSN: newDatabase(t)}
	return r.build(t, source, target)
}

// newRigInside makes a rig whose two homes lie in one database.
func newRigInside(t testing.TB, source, target end) *rig {
	t.Helper()
	dsn := newDatabase(t)
	r := &rig{sourceDSN: dsn, targetDSN: dsn}
	r.SameDatabase = true
	return r.build(t, source, target)
}

func (r *rig) build(t testing.TB, source, target end) *rig {
	t.Helper()
	r.source, r.target = connect(t, r.sourceDSN), connect(t, r.targetDSN)
	create(t, r.source, source)
	create(t, r.target, target)
	from, err := table.Inspect(t.Context(), r.source, source.Home)
	require.NoError(t, err)
	to, err := table.Inspect(t.Context(), r.target, target.Home)
	require.NoError(t, err)
	pairs, found := table.Match(from, to, tenant)
	require.Empty(t, found)
	r.Move, r.Pairs = uuid.NewString(), pairs
	r.Fence = chunk.Fence{Tenant: tenant, Home: "b/data/home", Owner: uuid.NewString()}
	r.Source = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, r.sourceDSN) }
	r.Target = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, r.targetDSN) }
	exec(t, r.target, `
insert into landlord.fence (tenant, home, slug, model, epoch, state, owner) values ($1, $2, 'acme', 'shared', 2, 'importing', $3)`,
		tenant, r.Fence.Home, r.Fence.Owner)
	return r
}

func create(t testing.TB, conn *pgx.Conn, e end) {
	t.Helper()
	exec(t, conn, "create schema if not exists "+e.Schema)
	exec(t, conn, "set search_path = "+e.Schema)
	_, err := conn.PgConn().Exec(t.Context(), e.sql).ReadAll()
	require.NoError(t, err)
}

// newDatabase makes one with landlord's tables beside the data.
func newDatabase(t testing.TB) string {
	t.Helper()
	home := migrations.Home()
	names, err := fs.Glob(home, "[0-9]*.sql")
	require.NoError(t, err)
	var all strings.Builder
	for _, name := range names {
		text, err := fs.ReadFile(home, name)
		require.NoError(t, err)
		all.Write(text)
	}
	return pgtest.Clone(t, "move/chunk\n"+all.String(), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, all.String()).ReadAll()
		return err
	})
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func one[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// content is what a table has of the tenant, comparable between homes.
func content(t testing.TB, conn *pgx.Conn, x table.Table, columns []string) string {
	t.Helper()
	return one[string](t, conn, fmt.Sprintf(
		`select count(*) || ':' || coalesce(sum(hashtextextended(row(%s)::text, 0)::numeric), 0) from %s where %s`,
		table.Quoted(columns, ""), x.From(), x.Whose(tenant)))
}

// sameRows asserts that both ends have the same rows of the tenant.
func (r *rig) sameRows(t testing.TB) {
	t.Helper()
	for _, p := range r.Pairs {
		columns := p.Compared()
		assert.Equal(t, content(t, r.source, p.Source, columns), content(t, r.target, p.Target, columns), p.Source.Name)
	}
}

// chunks counts the ledger's entries of a table.
func (r *rig) chunks(t testing.TB, name string) int {
	t.Helper()
	return one[int](t, r.target, `select count(*)::int from landlord.move_chunk where move = $1 and source_table = $2`, r.Move, name)
}
