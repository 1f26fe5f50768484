package router_test

import (
	"context"
	"database/sql"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestDatabaseSQL(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, rejected)
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		std := r.SQL()
		defer std.Close()
		for _, c := range []struct {
			name string
			test func(*testing.T, *sql.DB, context.Context, placement.Placement)
		}{
			{"sees the context's tenant", sqlTenant},
			{"reads every kind of value", sqlValues},
			{"commits and rolls back", sqlTx},
			{"ends a transaction with its context", sqlCancelled},
			{"tells when an implicit commit fails", sqlDeferred},
			{"passes options on", sqlOptions},
			{"leads to no connection", sqlRaw},
			{"prepares", sqlPrepared},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.test(t, std, withTenant(t, p), p)
				n.requireClean(t, r, p)
			})
		}
	})
}

func sqlEmails(t *testing.T, ctx context.Context, db interface { //nolint:revive // t comes first
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
},
) (seen []string) {
	t.Helper()
	rows, err := db.QueryContext(ctx, "select email from customers order by email")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var email string
		require.NoError(t, rows.Scan(&email))
		seen = append(seen, email)
	}
	require.NoError(t, rows.Err())
	return seen
}

func sqlTenant(t *testing.T, std *sql.DB, ctx context.Context, p placement.Placement) { //nolint:revive // t comes first
	require.Equal(t, []string{email(p)}, sqlEmails(t, ctx, std))
	res, err := std.ExecContext(ctx, "update customers set name = $1 where email = $2", "new name", email(p))
	require.NoError(t, err)
	count, err := res.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 1, count)
	_, err = res.LastInsertId()
	require.Error(t, err)
	require.ErrorIs(t, std.QueryRowContext(ctx, "select 1 where false").Scan(new(int)), sql.ErrNoRows)
	_, err = std.ExecContext(ctx, "select 1 / 0")
	require.True(t, pgerr.Is(err, "22012"))
	_, err = std.Exec("select 1")
	require.ErrorIs(t, err, router.ErrNoTenant)
	// Rows that are not read to the end give the connection back all the same.
	rows, err := std.QueryContext(ctx, "select generate_series(1, 100000)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Close())
}

func sqlValues(t *testing.T, std *sql.DB, ctx context.Context, _ placement.Placement) { //nolint:revive // t comes first
	at := time.Date(2026, 2, 28, 12, 0, 0, 1000, time.UTC)
	id := uuid.New()
	var (
		i     int64
		f     float64
		ok    bool
		text  string
		raw   []byte
		seen  time.Time
		doc   string
		array string
		price string
		who   uuid.UUID
		none  sql.NullString
		char  string
	)
	row := std.QueryRowContext(ctx, `select $1::bigint, $2::float8, $3::bool, $4::text, $5::bytea, $6::timestamptz, $7::jsonb, $8::int[], $9::numeric, $10::uuid,
		$11::text, 'r'::"char"`, 42, 1.5, true, "é", []byte{0, 255}, at, `{"a": 1}`, []int32{1, 2}, "1.20", id, nil)
	require.NoError(t, row.Scan(&i, &f, &ok, &text, &raw, &seen, &doc, &array, &price, &who, &none, &char))
	require.Equal(t, []any{int64(42), 1.5, true, "é", []byte{0, 255}, `{"a": 1}`, "{1,2}", "1.20", id, false, "r"},
		[]any{i, f, ok, text, raw, doc, array, price, who, none.Valid, char})
	require.True(t, at.Equal(seen))
	// What is scanned outlives the rows, which share their memory with the connection.
	var kept sql.RawBytes
	rows, err := std.QueryContext(ctx, "select 'kept'::bytea, relkind, 'a'::name from pg_class limit 1")
	require.NoError(t, err)
	columns, err := rows.Columns()
	require.NoError(t, err)
	require.Equal(t, []string{"bytea", "relkind", "name"}, columns)
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&kept, &char, &text))
	require.Equal(t, "kept", string(kept))
	require.NoError(t, rows.Close())
}

func sqlTx(t *testing.T, std *sql.DB, ctx context.Context, p placement.Placement) { //nolint:revive // t comes first
	for _, commit := range []bool{false, true} {
		tx, err := std.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, insertCustomer, "tx@example.com")
		require.NoError(t, err)
		require.Contains(t, sqlEmails(t, ctx, tx), "tx@example.com")
		if commit {
			require.NoError(t, tx.Commit())
			require.ErrorIs(t, tx.Rollback(), sql.ErrTxDone)
			require.Contains(t, sqlEmails(t, ctx, std), "tx@example.com")
		} else {
			require.NoError(t, tx.Rollback())
			require.Equal(t, []string{email(p)}, sqlEmails(t, ctx, std))
		}
	}
	tx, err := std.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(), "of nothing")
	tx, err = std.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, "select 1 / 0")
	require.Error(t, err)
	require.ErrorIs(t, tx.Commit(), router.ErrRolledBack)
	_, err = std.ExecContext(ctx, "delete from customers where email = 'tx@example.com'")
	require.NoError(t, err)
}

func sqlCancelled(t *testing.T, std *sql.DB, ctx context.Context, p placement.Placement) { //nolint:revive // t comes first
	ending, cancel := context.WithCancel(ctx)
	tx, err := std.BeginTx(ending, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, insertCustomer, "cancelled@example.com")
	require.NoError(t, err)
	cancel()
	require.Error(t, tx.Commit())
	require.Equal(t, []string{email(p)}, sqlEmails(t, ctx, std))
	_, err = std.ExecContext(ending, "select 1")
	require.ErrorIs(t, err, context.Canceled)
}

func sqlDeferred(t *testing.T, std *sql.DB, ctx context.Context, _ placement.Placement) { //nolint:revive // t comes first
	const orphan = "insert into children (id, parent) values (1, 1) returning id"
	_, err := std.ExecContext(ctx, orphan)
	require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
	err = std.QueryRowContext(ctx, orphan).Scan(new(int))
	require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
	rows, err := std.QueryContext(ctx, orphan)
	require.NoError(t, err)
	for rows.Next() {
		require.NoError(t, rows.Scan(new(int)))
	}
	require.True(t, pgerr.Is(rows.Err(), pgerr.ForeignKeyViolation), "%v", rows.Err())
	tx, err := std.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, orphan)
	require.NoError(t, err)
	err = tx.Commit()
	require.True(t, pgerr.Is(err, pgerr.ForeignKeyViolation), "%v", err)
}

func sqlOptions(t *testing.T, std *sql.DB, ctx context.Context, _ placement.Placement) { //nolint:revive // t comes first
	for level, want := range map[sql.IsolationLevel]string{
		sql.LevelDefault: "read committed", sql.LevelReadUncommitted: "read committed", sql.LevelReadCommitted: "read committed",
		sql.LevelRepeatableRead: "repeatable read", sql.LevelSnapshot: "repeatable read", sql.LevelSerializable: "serializable",
	} {
		tx, err := std.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: level == sql.LevelSnapshot})
		require.NoError(t, err)
		var seen, access string
		require.NoError(t, tx.QueryRowContext(ctx, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')").Scan(&seen, &access))
		require.Equal(t, want, seen, level)
		require.Equal(t, level == sql.LevelSnapshot, access == "on", level)
		require.NoError(t, tx.Rollback())
	}
	_, err := std.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelLinearizable})
	require.ErrorIs(t, err, router.ErrRefused)
}

func sqlRaw(t *testing.T, std *sql.DB, ctx context.Context, _ placement.Placement) { //nolint:revive // t comes first
	conn, err := std.Conn(ctx)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(driver any) error {
		v := reflect.ValueOf(driver)
		for i := range v.Elem().NumField() {
			require.False(t, v.Elem().Type().Field(i).IsExported())
		}
		for _, way := range []string{"Conn", "PgConn", "Raw", "Hijack", "Exec", "Query"} {
			require.False(t, v.MethodByName(way).IsValid(), way)
		}
		return nil
	}))
	// A sql.Conn holds no connection of the pool, which is of one, between statements.
	_, err = conn.ExecContext(ctx, "select 1")
	require.NoError(t, err)
	_, err = std.ExecContext(ctx, "select 1")
	require.NoError(t, err)
	_, err = sql.Open("landlord", "")
	require.Error(t, err)
	_, err = std.Driver().Open("")
	require.ErrorContains(t, err, "Router.SQL")
}

func sqlPrepared(t *testing.T, std *sql.DB, ctx context.Context, p placement.Placement) { //nolint:revive // t comes first
	stmt, err := std.PrepareContext(ctx, "select count(*) from customers where email = $1")
	require.NoError(t, err)
	defer stmt.Close()
	tx, err := std.BeginTx(ctx, nil)
	require.NoError(t, err)
	for range 3 {
		var count int
		require.NoError(t, tx.StmtContext(ctx, stmt).QueryRowContext(ctx, email(p)).Scan(&count))
		require.Equal(t, 1, count)
	}
	require.NoError(t, tx.Commit())
	_, err = stmt.ExecContext(ctx)
	require.ErrorContains(t, err, "arguments")
	_, err = stmt.ExecContext(ctx, email(p), "one too many")
	require.ErrorContains(t, err, "arguments")
}
