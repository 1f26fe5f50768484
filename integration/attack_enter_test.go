package integration_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Attacks on the door: tokens that are not the caller's, and homes where the tenant must not be let in.

// enters succeeds when enter lets in who presents what with makes, in a transaction that has entered nobody.
func enters(name string, through []isolation.Mode, with func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte) attack {
	return attack{name: name, through: through, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		params := with(t, s, conn)
		run(t, conn, "begin")
		return present(t, conn, params) == nil
	}}
}

// forged is a token of the thief's, changed.
func forged(name string, change func(t *testing.T, s *scene, params [][]byte)) attack {
	return enters(name, unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		params := s.token(t, s.own(), conn.PgConn().PID(), time.Now())
		change(t, s, params)
		return params
	})
}

var tokenAttacks = []attack{
	forged("enter another tenant", func(_ *testing.T, s *scene, params [][]byte) { params[0] = []byte(s.other().Tenant) }),
	forged("enter without a signature", func(_ *testing.T, _ *scene, params [][]byte) { params[5] = nil }),
	forged("enter with an empty signature", func(_ *testing.T, _ *scene, params [][]byte) { params[5] = []byte(`\x`) }),
	forged("enter with no token at all", func(_ *testing.T, _ *scene, params [][]byte) { params[3], params[4], params[5] = nil, nil, nil }),
	forged("enter with a key that is not known", func(_ *testing.T, _ *scene, params [][]byte) { params[3] = []byte("7") }),
	forged("enter with a later expiry than was signed", func(_ *testing.T, _ *scene, params [][]byte) {
		params[4] = strconv.AppendInt(nil, time.Now().Unix()+50, 10)
	}),
	enters("enter with another installation's key", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		key, err := isolation.NewKey(1)
		require.NoError(t, err)
		sealer, err := isolation.NewSealer(s.mode, isolation.Keyring{key}, s.stamp)
		require.NoError(t, err)
		return sealer.Params(s.other(), conn.PgConn().PID(), time.Now())
	}),
	enters("enter with another database's key", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		sealer, err := isolation.NewSealer(s.mode, s.Keys, "00000000-0000-4000-8000-000000000001")
		require.NoError(t, err)
		return sealer.Params(s.other(), conn.PgConn().PID(), time.Now())
	}),
	enters("replay a token of another session", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		return s.token(t, s.other(), conn.PgConn().PID()+1, time.Now())
	}),
	// That is what it was made for: whoever has seen it in transit is served by the same session, for seconds.
	enters("replay a token in the same session", everyMode, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		params := s.token(t, s.other(), conn.PgConn().PID(), time.Now())
		run(t, conn, "begin")
		require.NoError(t, present(t, conn, params))
		run(t, conn, "commit")
		return params
	}),
	enters("present an expired token", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		return s.token(t, s.other(), conn.PgConn().PID(), time.Now().Add(-2*time.Minute))
	}),
	enters("present a token that lives for an hour", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		return s.token(t, s.other(), conn.PgConn().PID(), time.Now().Add(time.Hour))
	}),
	enters("present a token of no session that lives for half a minute", unsigned, func(t *testing.T, s *scene, _ *pgx.Conn) [][]byte {
		t.Helper()
		return s.token(t, s.other(), 0, time.Now().Add(25*time.Second))
	}),
	enters("read a token in another way", unsigned, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		params := s.token(t, isolation.Entry{Tenant: "x|a", Home: "b", Epoch: 1}, conn.PgConn().PID(), time.Now())
		params[0], params[1] = []byte("x"), []byte("a|b")
		return params
	}),
	enters("use a token of one home for another", nil, func(t *testing.T, s *scene, conn *pgx.Conn) [][]byte {
		t.Helper()
		e := s.own()
		params := s.token(t, e, conn.PgConn().PID(), time.Now())
		params[1] = []byte("a/elsewhere/public")
		super := s.superuser(t)
		defer super.Close(context.Background())
		if s.mode == isolation.Plain || s.mode == isolation.Locked {
			return params // which has no token: the thief does not live there
		}
		run(t, super, "insert into landlord.fence (tenant, home, slug, model, epoch, state) values ('"+e.Tenant+
			"', 'a/elsewhere/public', 'x', 'shared', 1, 'open') on conflict do nothing")
		return params
	}),
	{name: "use a key that was retired", through: unsigned, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		super := s.superuser(t)
		defer super.Close(context.Background())
		conn := s.app(t)
		defer conn.Close(context.Background())
		run(t, super, "update landlord.seal_key set not_after = now()")
		defer run(t, super, "update landlord.seal_key set not_after = 'infinity'")
		run(t, conn, "begin")
		return present(t, conn, s.token(t, s.own(), conn.PgConn().PID(), time.Now())) == nil
	}},
	{name: "enter a second tenant with a token of its own", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.own())
		return present(t, conn, s.token(t, s.other(), conn.PgConn().PID(), time.Now())) == nil
	}},
	{name: "go on after the transaction of a tenant", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other())
		run(t, conn, "commit")
		return pgerr.Code(say(t, conn, "select body from note").err) != pgerr.NoTenant
	}},
	{name: "go on after a roll-back to before a tenant was entered", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		run(t, conn, "begin; savepoint s")
		require.NoError(t, present(t, conn, s.token(t, s.other(), conn.PgConn().PID(), time.Now())))
		run(t, conn, "rollback to s")
		return pgerr.Code(say(t, conn, "select body from note").err) != pgerr.NoTenant
	}},
	{name: "sign the setting oneself", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		e := s.other()
		token := fmt.Sprintf("%x.%x.1.%d.%s", e.Tenant, e.Home, time.Now().Unix()+20, strings.Repeat("ab", 32))
		return strings.Contains(s.inside(t, "set local landlord.token = '"+token+"'; select body from note").rows, canary)
	}},
	{name: "keep the setting that holds a tenant's token", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		if s.mode != isolation.SealedMAC {
			return false // has none
		}
		conn, next := s.app(t), s.app(t)
		defer conn.Close(context.Background())
		defer next.Close(context.Background())
		s.begin(t, conn, s.other())
		kept := run(t, conn, "select current_setting('landlord.token')")
		return pgerr.Code(say(t, next, "begin; set local landlord.token = '"+kept[:len(kept)-1]+"'; select body from note").err) != pgerr.NoTenant
	}},
}

// let succeeds when enter lets in a tenant with a genuine token where it must not be let in.
func let(name string, to func(s *scene) isolation.Entry, options string) attack {
	return attack{name: name, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		conn := s.app(t)
		defer conn.Close(context.Background())
		run(t, conn, "begin "+options)
		return present(t, conn, s.token(t, to(s), conn.PgConn().PID(), time.Now())) == nil
	}}
}

func fenced(state isolation.FenceState) func(s *scene) isolation.Entry {
	return func(s *scene) isolation.Entry {
		return isolation.Entry{Tenant: s.fenced[state], Home: s.home(), Epoch: 5}
	}
}

// inAnother is a tenant that lives at a home of its own, and whom somebody looks for in the shared one.
func inAnother(s *scene) isolation.Entry {
	e := entry(s.thief[placement.ModelSchema])
	e.Home = s.home()
	return e
}

var fenceAttacks = []attack{
	let("enter a suspended tenant", fenced("suspended"), ""),
	let("read a suspended tenant", fenced("suspended"), "read only"),
	let("write a tenant that is being moved away", fenced("fenced"), ""),
	let("enter a tenant that has not arrived", fenced("importing"), ""),
	let("read a tenant that has not arrived", fenced("importing"), "read only"),
	let("enter a tenant that has moved away", fenced("moved"), ""),
	let("read a tenant that has moved away", fenced("moved"), "read only"),
	let("enter a tenant where it does not live", inAnother, ""),
	let("enter a tenant that nobody knows", func(s *scene) isolation.Entry {
		return isolation.Entry{Tenant: "00000000-0000-4000-8000-000000000001", Home: s.home(), Epoch: 1}
	}, ""),
	let("enter by a placement that is out of date", func(s *scene) isolation.Entry {
		e := s.own()
		e.Epoch--
		return e
	}, ""),
	let("enter by a placement of the future", func(s *scene) isolation.Entry {
		e := s.own()
		e.Epoch++
		return e
	}, ""),
	{name: "enter from a snapshot that is older than the fence", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		super, conn := s.superuser(t), s.app(t)
		defer super.Close(context.Background())
		defer conn.Close(context.Background())
		run(t, conn, "begin isolation level repeatable read; select * from landlord.identity")
		state := func(is string) {
			run(t, super, "update landlord.fence set state = '"+is+"' where tenant = '"+s.own().Tenant+"' and home = '"+s.home()+"'")
		}
		state("fenced")
		defer state("open")
		return present(t, conn, s.token(t, s.own(), conn.PgConn().PID(), time.Now())) == nil
	}},
	drains("move a tenant away under its writers", "", "landlord.lock_key('{tenant}', '{home}', false)"),
	drains("bring a tenant in under its readers", "read only", "landlord.lock_key('{tenant}', '{home}', true)"),
	{name: "cut over under work across tenants", try: func(t *testing.T, s *scene) bool {
		t.Helper()
		super := s.superuser(t)
		defer super.Close(context.Background())
		admin, err := s.Login(t, s.database, isolation.AdminRole)
		require.NoError(t, err)
		defer admin.Close(context.Background())
		run(t, admin, "begin; select landlord.admin_enter('a reason')")
		return run(t, super, "select pg_try_advisory_lock(landlord.bypass_key())") != "f\n"
	}},
}

// drains succeeds when a mover can have a tenant's key to itself while the tenant is in a transaction.
func drains(name, options, key string) attack {
	return attack{name: name, try: func(t *testing.T, s *scene) bool {
		t.Helper()
		super, conn := s.superuser(t), s.app(t)
		defer super.Close(context.Background())
		defer conn.Close(context.Background())
		s.begin(t, conn, s.other(), options)
		return run(t, super, s.write("select pg_try_advisory_lock("+key+")")) != "f\n"
	}}
}
