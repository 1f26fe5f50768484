package isolation_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// lockKey takes one of a tenant's keys alone, as a mover does, until the returned function is called.
func (p *place) lockKey(t *testing.T, tenant string, readers bool) (release func()) {
	t.Helper()
	return p.lock(t, "landlord.lock_key($1, $2, $3)", tenant, p.name, readers)
}

func (p *place) lock(t *testing.T, key string, args ...any) (release func()) {
	t.Helper()
	conn := p.dial(t, nil)
	_, err := conn.Exec(t.Context(), "select pg_advisory_lock("+key+")", args...)
	require.NoError(t, err)
	return func() { exec(t, conn, "select pg_advisory_unlock_all()") }
}

// waits returns once conn's server process waits for a lock.
func (h *home) waits(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	waitsFor(t, h.super(t), conn)
}

// waitsFor is waits, asked by another connection than super.
func waitsFor(t *testing.T, by, conn *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for waiting := false; !waiting; {
		const q = `select exists (select from pg_locks where pid = $1 and not granted)`
		require.NoError(t, by.QueryRow(ctx, q, conn.PgConn().PID()).Scan(&waiting), "nobody waits")
	}
}

// goEnter enters in the background.
func (p *place) goEnter(t *testing.T, conn *pgx.Conn, tenant string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.enter(t.Context(), conn, p.entry(tenant)) }()
	return done
}

func TestAForgerNeverQueuesOnATenantsLock(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		for _, readers := range []bool{false, true} {
			release := p.lockKey(t, p.tenant, readers)
			options := map[bool]string{true: "read only"}[readers]

			forger := p.app(t)
			exec(t, forger, "begin "+options)
			s := sealer(t, p.want.Mode, isolation.Keyring{newKey(t, 1)}, p.want.Stamp)
			// Had it waited, it would have got 55P03 in the end.
			requireCode(t, pgerr.BadSeal, present(t.Context(), forger, s.Params(p.entry(p.tenant), forger.PgConn().PID(), time.Now())))

			honest := p.app(t)
			exec(t, honest, "begin "+options)
			done := p.goEnter(t, honest, p.tenant)
			p.waits(t, honest)
			neighbour := p.app(t)
			p.begin(t, neighbour, p.other, options) // other tenants do not wait
			release()
			require.NoError(t, <-done)
		}
	})
}

// An entrant that waited for the lock reads the fence after its wait.
func TestAFenceThatIsRaisedWhileAnEntrantWaitsIsSeen(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		for options, code := range map[string]string{
			"": pgerr.Fenced, "isolation level repeatable read": pgerr.SerializationFailure, "isolation level serializable": pgerr.SerializationFailure,
		} {
			require.Equal(t, code, pgerr.Code(p.enterDuringFence(t, options)), "%q", options)
		}
	})
}

// Negative control: without "for share", a transaction whose snapshot is older than the fence would write behind it.
func TestWithoutTheRowLockARepeatableReadEntrantMissesTheFence(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	super := p.super(t)
	enter := text(t, super, "select pg_get_functiondef('landlord.enter'::regproc)")
	require.Contains(t, enter, " for share;")
	exec(t, super, strings.Replace(enter, " for share;", ";", 1))
	require.NoError(t, p.enterDuringFence(t, "isolation level repeatable read"))
	require.Error(t, p.enterDuringFence(t, ""))
}

// enterDuringFence enters while a mover holds the tenant's key, which raises the fence and lets go. The fence is open again
// when it returns.
func (p *place) enterDuringFence(t *testing.T, options string) error {
	t.Helper()
	release := p.lockKey(t, p.tenant, false)
	conn := p.app(t)
	exec(t, conn, "begin "+options)
	done := p.goEnter(t, conn, p.tenant)
	p.waits(t, conn)
	p.force(t, isolation.Fenced)
	release()
	err := <-done
	exec(t, conn, "rollback")
	p.force(t, isolation.Open)
	return err
}

// A mover that has the tenant's key alone knows that no transaction of the tenant is open.
func TestTheTenantsKeyDrainsItsTransactions(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		writer, reader := p.app(t), p.app(t)
		p.begin(t, writer, p.tenant)
		p.begin(t, reader, p.tenant, "read only")
		super := p.super(t)
		free := func(readers bool) bool {
			var ok bool
			const q = `select pg_try_advisory_xact_lock(landlord.lock_key($1, $2, $3))`
			require.NoError(t, super.QueryRow(t.Context(), q, p.tenant, p.name, readers).Scan(&ok))
			return ok
		}
		require.False(t, free(false))
		require.False(t, free(true))
		exec(t, writer, "commit")
		require.True(t, free(false), "readers have a key of their own")
		require.False(t, free(true))
		exec(t, reader, "rollback")
		require.True(t, free(true))
	})
}

func TestReadOnlyTransactionsGoOnBesideAWritersFence(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		release := p.lockKey(t, p.tenant, false)
		defer release()
		for _, options := range []string{"read only", "isolation level repeatable read read only", "isolation level serializable read only"} {
			conn := p.app(t)
			p.begin(t, conn, p.tenant, options)
			require.Equal(t, ownRows, count(t, conn, "select from note"))
			// And cannot become writers afterwards.
			for _, sql := range []string{"set transaction read write", "set local transaction_read_only = off"} {
				refuses(t, conn, pgerr.ActiveTransaction, sql)
			}
			refuses(t, conn, pgerr.ReadOnlyTransaction, "insert into note (body) values ('x')")
			exec(t, conn, "rollback")
		}
	})
}

func TestEnterWaitsForALockForSecondsOnly(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	defer p.lockKey(t, p.tenant, false)()
	conn := p.app(t)
	exec(t, conn, "begin; set local lock_timeout = 0")
	err := p.enter(t.Context(), conn, p.entry(p.tenant))
	requireCode(t, pgerr.LockNotAvailable, err)
	exec(t, conn, "rollback")
	require.Equal(t, "0", text(t, conn, "select current_setting('lock_timeout')"), "enter's time-out is its own")
}

func TestEnterKeepsTheCallersSettings(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		conn := p.app(t)
		exec(t, conn, "begin; set local search_path = extensions; set local lock_timeout = '7s'")
		require.NoError(t, p.enter(t.Context(), conn, p.entry(p.tenant)))
		require.Equal(t, "extensions", text(t, conn, "select current_setting('search_path')"))
		require.Equal(t, "7s", text(t, conn, "select current_setting('lock_timeout')"))
		require.Equal(t, p.want.AppLogin, text(t, conn, "select current_user::text"))
	})
}

// Work beside enter shares a key that a cutover takes alone, says why, and is bound to no tenant.
func TestAdminWorkSharesTheBypassKeyAndIsLogged(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		admin := p.admin(t)
		exec(t, admin, "set search_path = "+ident(p.schema))
		exec(t, admin, "begin; select landlord.admin_enter('a repair')")
		require.Equal(t, ownRows+otherRows, count(t, admin, "select from note"))
		exec(t, admin, "update note set body = 'repaired' where tenant_id = "+lit(p.other))
		exec(t, admin, "insert into note (tenant_id, body) values ("+lit(p.other)+", 'new'); update reference set code = 'USD'; delete from note")
		super := p.super(t)
		var free bool
		const try = `select pg_try_advisory_xact_lock(landlord.bypass_key())`
		require.NoError(t, super.QueryRow(t.Context(), try).Scan(&free))
		require.False(t, free)
		exec(t, admin, "commit")
		require.NoError(t, super.QueryRow(t.Context(), try).Scan(&free))
		require.True(t, free)
		require.Equal(t, "landlord_admin a repair", text(t, super, "select string_agg(login || ' ' || reason, ',') from landlord.admin_log"))

		exec(t, admin, "begin read only; select landlord.admin_enter('a report')")
		require.Zero(t, count(t, admin, "select from note"))
		exec(t, admin, "commit")
		require.Equal(t, 1, count(t, super, "select from landlord.admin_log"))
		refuses(t, admin, pgerr.InvalidParameterValue, "select landlord.admin_enter('  ')")
		refuses(t, admin, pgerr.InvalidParameterValue, "select landlord.admin_enter(null)")
		refuses(t, admin, pgerr.InsufficientPrivilege, "select * from landlord.admin_log")
		refuses(t, admin, pgerr.InsufficientPrivilege, "truncate note")
		refuses(t, admin, pgerr.InsufficientPrivilege, "select * from landlord.seal_key")
		refuses(t, admin, pgerr.InsufficientPrivilege, "alter table note disable row level security")
	})
}
