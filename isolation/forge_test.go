package isolation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/forgery"
	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// write fills the neighbour's names into a forgery.
func (p *place) write(sql string) string {
	return forgery.Names{
		Mode: p.want.Mode, Tenant: p.other, Home: p.name, Schema: p.schema, Database: p.database, Login: p.want.AppLogin,
	}.Write(sql)
}

// forge runs f inside the tenant's transaction, and looks again. It tells whether a row of the neighbour came out.
func (p *place) forge(t *testing.T, f forgery.Forgery) (broken bool) {
	t.Helper()
	conn := p.app(t)
	p.begin(t, conn, p.tenant)
	var seen string
	if f.Single { // as pgx sends a statement with arguments
		result := conn.PgConn().ExecParams(t.Context(), p.write(f.SQL), nil, nil, nil, nil).Read()
		for _, row := range result.Rows {
			for _, v := range row {
				seen += string(v) + "\n"
			}
		}
	} else {
		seen, _ = simple(t.Context(), conn, p.write(f.SQL)) // what came before the error counts too
	}
	if conn.PgConn().TxStatus() != 'E' {
		rows, _ := simple(t.Context(), conn, "select * from note")
		seen += rows
	}
	require.NoError(t, conn.Close(t.Context()))
	if strings.HasPrefix(f.SQL, "alter role") { // which works from the next connection on
		rows, _ := simple(t.Context(), p.app(t), "select * from "+ident(p.schema, "note"))
		seen += rows
	}
	return strings.Contains(seen, canary)
}

func TestNoForgeryShowsAnotherTenantWhereSealed(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		p.visit(t, p.other, func(conn *pgx.Conn) {
			require.Equal(t, otherRows, count(t, conn, "select from note where body = $1", canary), "the rows are there")
		})
		for _, f := range forgery.All {
			require.False(t, p.forge(t, f), "%s: %s", f.Name, p.write(f.SQL))
		}
		// The setting is what it was for those who come after.
		p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows, count(t, conn, "select from note")) })
	})
}

func TestLockedStopsForgeriesInOneStatementButNotStackedOnes(t *testing.T) {
	t.Parallel()
	p := newDedicatedPlace(t, isolation.Locked)
	for _, f := range forgery.All {
		if f.Single {
			require.NotContains(t, forgery.Through(isolation.Locked), f.Name)
		}
	}
	p.requireForgeries(t)
}

func TestPlainStopsForgottenFiltersButNoForgery(t *testing.T) {
	t.Parallel()
	p := newDedicatedPlace(t, isolation.Plain)
	p.requireForgeries(t)
}

// newDedicatedPlace has a login of its own, because these modes let the application change its login's defaults, and all
// tests share landlord_app.
func newDedicatedPlace(t *testing.T, mode isolation.Mode) *place {
	t.Helper()
	p := newPlace(t, mode, "database")
	exec(t, p.super(t), "update landlord.fence set model = 'shared'; comment on table note is null")
	super := p.super(t)
	exec(t, super, "call landlord.secure_table('note', "+lit(p.want.AppLogin)+", null)") // as in a shared home
	return p
}

// requireForgeries asserts that exactly what is documented gets through.
func (p *place) requireForgeries(t *testing.T) {
	t.Helper()
	var through []string
	for _, f := range forgery.All {
		if p.forge(t, f) {
			through = append(through, f.Name)
		}
	}
	require.Equal(t, forgery.Through(p.want.Mode), through)
}

func TestStartUpOptionsCannotSetASealedTenant(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		cfg, err := pgx.ParseConfig(p.server.DSN)
		require.NoError(t, err)
		cfg.User, cfg.Password, cfg.Database = p.want.AppLogin, p.password, p.database
		for _, option := range []string{"options", "setting"} {
			cfg := cfg.Copy()
			if option == "options" {
				cfg.RuntimeParams["options"] = strings.ReplaceAll(p.write("-c {setting}={register}"), " -c", "-c")
			} else {
				cfg.RuntimeParams[p.write("{setting}")] = p.write("{register}")
			}
			conn, err := pgx.ConnectConfig(t.Context(), cfg)
			if p.want.Mode == isolation.Sealed {
				requireCode(t, pgerr.InsufficientPrivilege, err)
				continue
			}
			require.NoError(t, err)
			refuses(t, conn, pgerr.NoTenant, "select * from note")
			require.NoError(t, conn.Close(t.Context()))
		}
	})
}

// With stacked SQL and a genuine token of the neighbour one transaction could be switched; a token is never in reach, but
// the door does not rely on that.
func TestATransactionBelongsToOneTenant(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		p.begin(t, conn, p.tenant)
		require.NoError(t, p.enter(t.Context(), conn, p.entry(p.tenant)), "the same tenant once more")
		require.Equal(t, ownRows, count(t, conn, "select from note"))
		exec(t, conn, "savepoint s")
		err := p.enter(t.Context(), conn, p.entry(p.other))
		require.Contains(t, requireCode(t, pgerr.BadSeal, err).Message, "another tenant")
		exec(t, conn, "rollback to s")
		require.Equal(t, ownRows, count(t, conn, "select from note"))
		exec(t, conn, "commit")
		p.begin(t, conn, p.other)
		require.Equal(t, otherRows, count(t, conn, "select from note"))
		exec(t, conn, "rollback")
	})
}

func TestTheContextEndsWithTheTransaction(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		for _, end := range []string{"commit", "rollback", "select 1/0", "savepoint s; rollback to s; commit", "select pg_sleep(9)"} {
			p.begin(t, conn, p.tenant)
			require.Equal(t, ownRows, count(t, conn, "select from note"))
			exec(t, conn, "set local statement_timeout = '50ms'")
			if _, err := simple(t.Context(), conn, end); err != nil {
				exec(t, conn, "rollback")
			}
			refuses(t, conn, pgerr.NoTenant, "select * from note")
		}
		// A savepoint that is rolled back takes back an enter that came after it.
		exec(t, conn, "begin; savepoint s")
		require.NoError(t, p.enter(t.Context(), conn, p.entry(p.tenant)))
		exec(t, conn, "rollback to s")
		refuses(t, conn, pgerr.NoTenant, "select * from note")
		exec(t, conn, "rollback")
		// One implicit transaction: enter and query in one packet.
		pipe := conn.PgConn().StartPipeline(t.Context())
		sealer, err := isolation.NewSealer(p.want.Mode, p.ring, p.want.Stamp)
		require.NoError(t, err)
		pipe.SendQueryParams(isolation.EnterSQL, sealer.Params(p.entry(p.tenant), conn.PgConn().PID(), time.Now()), nil, nil, nil)
		pipe.SendQueryParams("select count(*) from note", nil, nil, nil, nil)
		require.NoError(t, pipe.Sync())
		require.NoError(t, pipe.Close())
		refuses(t, conn, pgerr.NoTenant, "select * from note")
	})
}

// Whoever may take advisory locks can hold another tenant's key, and whoever may write DO blocks can replace what the
// router has prepared. The modes that need no superuser leave both open.
func TestSealedDeniesAdvisoryLocksAndDoBlocksAndEveryModeTemporaryTables(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		for _, sql := range []string{
			"select pg_advisory_lock(1)", "select pg_try_advisory_lock(1)", "select pg_advisory_xact_lock(1, 2)",
			"select pg_try_advisory_xact_lock_shared(1)", "select pg_advisory_lock_shared(1)", "select pg_advisory_unlock_all()",
			"do $$ begin null; end $$",
		} {
			_, err := simple(t.Context(), conn, sql)
			if p.want.Mode == isolation.Sealed {
				requireCode(t, pgerr.InsufficientPrivilege, err, sql)
			} else {
				require.NoError(t, err, sql)
			}
		}
		refuses(t, conn, pgerr.InsufficientPrivilege, "create temp table x (i int)")
		refuses(t, conn, pgerr.InsufficientPrivilege, "create function pg_temp.f() returns int language sql as 'select 1'")
		// What takes over when the application is done works all the same.
		exec(t, conn, strings.Join(isolation.ResetSQL(false), ";"))
		exec(t, p.migrator(t), "do $$ begin perform pg_advisory_xact_lock(1); end $$")
		exec(t, p.admin(t), "select pg_advisory_lock(1)")
	})
}
