package router_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// refused is SQL that would end the tenant's transaction, or change what the next one finds on the connection.
var refused = []string{
	"commit", "COMMIT", "CoMmIt work", "end", "rollback", "abort", "begin", "start transaction", "savepoint a", "release a",
	"rollback to a", "prepare transaction 'a'", "commit prepared 'a'", "commit and chain", "rollback and chain",
	"prepare a as select 1", "execute a", "deallocate all", "discard all", "listen a", "unlisten *", "reset all",
	"set app.note = 'x'", "set session app.note = 'x'", "set/**/app.note to 'x'", "SET\tSESSION AUTHORIZATION default",
	"set role none", "set time zone 'UTC'", "set transaction read write", "do $$ begin commit; end $$", "lock table customers",
	"copy customers to stdout", "truncate customers", "create table a ()", "drop table customers", "vacuum",
	" commit", "\t\r\n\f\vcommit", "(commit", "((commit))", ";commit", ";;commit", "--\ncommit", "-- select\ncommit",
	"-- select 1\rcommit", "-- a\rcommit /*\n select 1 -- */", "--\r\ncommit", "/**/commit", "/* /* */ */commit", "/* -- */ commit",
	"/*/*/*/**/*/*/*/ commit", "/***/commit", "-- /*\ncommit", "( -- )\n commit", "/* select", "--", "", " ", ";",
	"\u00a0commit", "\ufeffcommit", "\u2003select 1", "\x00select 1", "\\; commit", "'a'", "\"commit\"", "$1", "@verb", "1",
	"comm/**/it", "sélect 1", "ＣＯＭＭＩＴ",
}

// stacked is SQL of several statements, or of broken ones: PostgreSQL refuses it whole.
var stacked = []string{
	"select 1; commit", "select 1; commit; begin", "select 1;;commit", "select 1\x00; commit",
	"select $$a$$; rollback", "select 1 /* ; */; commit", "select 'a'';'; commit", "select 1 --\n; commit", "select 1 -- \r; commit",
	"with a as (commit) select 1", "explain commit", "explain analyze commit", "table customers; commit", "show all; commit",
	"select commit", "values (1); commit",
}

// ways is everything that takes SQL.
func ways(h interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
},
) map[string]func(ctx context.Context, q string) error {
	return map[string]func(ctx context.Context, q string) error{
		"Exec": func(ctx context.Context, q string) error {
			_, err := h.Exec(ctx, q)
			return err
		},
		"Exec with named arguments": func(ctx context.Context, q string) error {
			_, err := h.Exec(ctx, q, pgx.NamedArgs{"verb": "commit"})
			return err
		},
		"Exec with strict named arguments": func(ctx context.Context, q string) error {
			_, err := h.Exec(ctx, q, pgx.StrictNamedArgs{})
			return err
		},
		"Query": func(ctx context.Context, q string) error {
			rows, err := h.Query(ctx, q)
			rows.Close()
			return errors.Join(err, rows.Err())
		},
		"QueryRow": func(ctx context.Context, q string) error {
			return h.QueryRow(ctx, q).Scan(new(any))
		},
		"SendBatch": func(ctx context.Context, q string) error {
			b := oneQuery("select 1")
			b.Queue(q)
			return h.SendBatch(ctx, b).Close()
		},
	}
}

// sqlWays is the same for database/sql.
func sqlWays(h interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
	PrepareContext(context.Context, string) (*sql.Stmt, error)
},
) map[string]func(ctx context.Context, q string) error {
	return map[string]func(ctx context.Context, q string) error{
		"ExecContext": func(ctx context.Context, q string) error {
			_, err := h.ExecContext(ctx, q)
			return err
		},
		"QueryRowContext": func(ctx context.Context, q string) error {
			return h.QueryRowContext(ctx, q).Scan(new(any))
		},
		"PrepareContext": func(ctx context.Context, q string) error {
			stmt, err := h.PrepareContext(ctx, q)
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx)
			return err
		},
	}
}

func TestSQLThatWouldEndTheTransactionIsRefusedUnsent(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db, std, ctx := r.Tenant(p.Tenant), r.SQL(), withTenant(t, p)
		defer std.Close()
		refuse := func(ctx context.Context, ways map[string]func(context.Context, string) error) {
			for way, try := range ways {
				for _, q := range refused {
					require.ErrorIs(t, try(ctx, q), router.ErrRefused, "%s of %q", way, q)
				}
			}
		}
		refuse(ctx, ways(db))
		require.NoError(t, db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "tx@example.com")
			refuse(ctx, ways(tx))
			return nil
		}))
		refuse(ctx, sqlWays(std))
		tx, err := std.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, insertCustomer, "sql@example.com")
		require.NoError(t, err)
		refuse(ctx, sqlWays(tx))
		require.NoError(t, tx.Commit())
		require.Equal(t, []string{email(p), "sql@example.com", "tx@example.com"}, emails(t, db), "the transactions were left alone")
		n.requireClean(t, r, p)
	})
}

func TestStackedSQLIsRefusedWhole(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db, std, ctx := r.Tenant(p.Tenant), r.SQL(), withTenant(t, p)
		defer std.Close()
		wrong := func(way, q string, err error) {
			require.Error(t, err, "%s of %q", way, q)
			for _, not := range []error{router.ErrDirty, router.ErrHomeDown, router.ErrOutcomeUnknown} {
				require.NotErrorIs(t, err, not, "%s of %q", way, q)
			}
			if strings.Contains(q, ";") && !strings.Contains(q, "\x00") {
				require.True(t, pgerr.Is(err, pgerr.SyntaxError), "%s of %q: %v", way, q, err)
			}
		}
		for _, q := range stacked {
			for way, try := range ways(db) {
				wrong(way, q, try(ctx, q))
				err := db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
					addCustomer(t, tx, "tx@example.com")
					wrong(way, q, ways(tx)[way](ctx, q))
					return nil
				})
				require.ErrorIs(t, err, router.ErrRolledBack, "%s of %q", way, q)
			}
			for way, try := range sqlWays(std) {
				wrong(way, q, try(ctx, q))
			}
		}
		require.Equal(t, []string{email(p)}, emails(t, db), "none of it has committed anything")
		n.requireClean(t, r, p)
	})
}

func TestNoTextThatEndsTheTransactionGetsPastTheRouter(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	db := n.r.Tenant(p.Tenant)
	piece := rapid.SampledFrom([]string{
		"commit", "commit and chain", "rollback", "end", "begin", "discard all", "select 1", "select", "set", "local", "with",
		" ", "\n", "\r", "\t", "\f", "\v", "\u00a0", "\u2028", "\ufeff", "(", ")", ";", "--", "/*", "*/", "/", "*", "-", "'", "\"", "\\", "$$", "x", "é",
	})
	rapid.Check(t, func(rt *rapid.T) {
		q := strings.Join(rapid.SliceOfN(piece, 1, 12).Draw(rt, "sql"), "")
		err := db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			var before, after string
			const began = "select transaction_timestamp()::text || landlord.tenant()"
			require.NoError(rt, tx.QueryRow(ctx, began).Scan(&before))
			if _, err := tx.Exec(ctx, q); err != nil {
				require.NotErrorIs(rt, err, router.ErrDirty)
				return errBoom // failed or refused, and rolled back here
			}
			require.NoError(rt, tx.QueryRow(ctx, began).Scan(&after))
			require.Equal(rt, before, after)
			return errBoom
		})
		require.ErrorIs(rt, err, errBoom)
		require.NotErrorIs(rt, err, router.ErrDirty)
	})
}

func TestArgumentsThatActOnTheConnectionAreRefused(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	db, std, ctx := n.r.Tenant(p.Tenant), n.r.SQL(), withTenant(t, p)
	defer std.Close()
	for _, arg := range []any{
		pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheDescribe,
		pgx.QueryResultFormats{1},
		pgx.QueryResultFormatsByOID{25: 1},
		thief{},
		&pgx.NamedArgs{},
	} {
		_, err := db.Exec(ctx, "select $1", arg, "x")
		require.ErrorIs(t, err, router.ErrRefused, "%T", arg)
		require.ErrorIs(t, db.SendBatch(ctx, oneQuery("select $1", arg, "x")).Close(), router.ErrRefused, "%T", arg)
		_, err = std.ExecContext(ctx, "select $1", arg, "x")
		require.ErrorIs(t, err, router.ErrRefused, "%T", arg)
		require.NoError(t, db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Query(ctx, "select $1", arg, "x")
			require.ErrorIs(t, err, router.ErrRefused, "%T", arg)
			return nil
		}))
	}
	var a, b string
	named := pgx.NamedArgs{"a": "x", "b": "y"}
	require.NoError(t, db.QueryRow(ctx, "select @b::text, @a::text", named).Scan(&b, &a))
	require.Equal(t, "xy", a+b)
	require.Error(t, db.QueryRow(ctx, "select @c::text", pgx.StrictNamedArgs(named)).Scan(&b))
	require.NoError(t, std.QueryRowContext(ctx, "select @a::text", named).Scan(&a))
	_, err := std.ExecContext(ctx, "select @a", sql.Named("a", 1))
	require.ErrorIs(t, err, router.ErrRefused)
}

// thief would have the connection, if it were asked.
type thief struct{}

func (thief) RewriteQuery(_ context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	_ = conn.PgConn()
	return sql, args, nil
}
