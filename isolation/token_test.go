package isolation_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// The parameters of enter.
const (
	pTenant = iota
	pHome
	pEpoch
	pKid
	pExp
	pMac
)

// presentTx presents parameters in a transaction of its own and rolls it back.
func presentTx(t *testing.T, conn *pgx.Conn, params [][]byte) error {
	t.Helper()
	exec(t, conn, "begin")
	err := present(t.Context(), conn, params)
	exec(t, conn, "rollback")
	return err
}

func sealer(t *testing.T, mode isolation.Mode, ring isolation.Keyring, stamp string) *isolation.Sealer {
	t.Helper()
	s, err := isolation.NewSealer(mode, ring, stamp)
	require.NoError(t, err)
	return s
}

func TestATokenOpensNothingButWhatItWasMadeFor(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		conn := p.app(t)
		pid := conn.PgConn().PID()
		s := sealer(t, p.want.Mode, p.ring, p.want.Stamp)
		good := func() [][]byte { return s.Params(p.entry(p.tenant), pid, time.Now()) }
		require.NoError(t, presentTx(t, conn, good()), "the token as it was made")

		otherHome := "a/" + p.database + "/elsewhere"
		p.open(t, p.tenant, otherHome, "schema")
		now := time.Now().Unix()
		change := func(i int, value []byte) [][]byte {
			params := good()
			params[i] = value
			return params
		}
		longer := change(pTenant, []byte(p.tenant+"|")) // lengths keep one list from reading as another
		longer[pHome] = []byte(strings.TrimPrefix(p.name, "a"))
		for name, params := range map[string][][]byte{
			"another tenant":          change(pTenant, []byte(p.other)),
			"another home":            change(pHome, []byte(otherHome)),
			"moved border":            longer,
			"another process":         s.Params(p.entry(p.tenant), pid+1, time.Now()),
			"longer expiry":           change(pExp, strconv.AppendInt(nil, now+40, 10)),
			"no expiry":               change(pExp, nil),
			"expired":                 s.Params(p.entry(p.tenant), pid, time.Now().Add(-31*time.Second)),
			"expires too late":        s.Params(p.entry(p.tenant), pid, time.Now().Add(60*time.Second)),
			"expires in a far future": s.Params(p.entry(p.tenant), pid, time.Now().Add(24*time.Hour)),
			"unknown key":             change(pKid, []byte("2")),
			"no key":                  change(pKid, nil),
			"no signature":            change(pMac, nil),
			"empty signature":         change(pMac, []byte(`\x`)),
			"short signature":         change(pMac, good()[pMac][:60]),
			"flipped bit":             change(pMac, flip(good()[pMac])),
			"no tenant":               change(pTenant, nil),
			"empty tenant":            change(pTenant, []byte("")),
			"no home":                 change(pHome, nil),
			"nothing at all":          {nil, nil, nil, nil, nil, nil},
			"the key of another database": sealer(t, p.want.Mode, p.ring, uuid.NewString()).
				Params(p.entry(p.tenant), pid, time.Now()),
			"another installation's key": sealer(t, p.want.Mode, isolation.Keyring{newKey(t, 1)}, p.want.Stamp).
				Params(p.entry(p.tenant), pid, time.Now()),
		} {
			require.NotEqual(t, good(), params)
			requireCode(t, pgerr.BadSeal, presentTx(t, conn, params), name)
		}

		// The signature does not cover the epoch: the fence judges it.
		requireCode(t, pgerr.NotHere, presentTx(t, conn, change(pEpoch, []byte("2"))))
		requireCode(t, pgerr.NotHere, presentTx(t, conn, change(pEpoch, nil)))

		// What one connection may show, another may not.
		stolen := good()
		require.NoError(t, presentTx(t, conn, stolen))
		requireCode(t, pgerr.BadSeal, presentTx(t, p.app(t), stolen))
	})
}

func flip(mac []byte) []byte {
	mac = slices.Clone(mac)
	last := &mac[len(mac)-1]
	*last = map[bool]byte{true: '1', false: '0'}[*last == '0']
	return mac
}

// Behind a pooler the server's process is hidden: such a token is good anywhere, for ten seconds.
func TestAnUnboundTokenLivesForSecondsOnly(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		s := sealer(t, p.want.Mode, p.ring, p.want.Stamp)
		unbound := func(at time.Duration) [][]byte { return s.Params(p.entry(p.tenant), 0, time.Now().Add(at)) }
		for range 2 {
			require.NoError(t, presentTx(t, p.app(t), unbound(0)))
		}
		conn := p.app(t)
		requireCode(t, pgerr.BadSeal, presentTx(t, conn, unbound(-8*time.Second)), "expired")
		requireCode(t, pgerr.BadSeal, presentTx(t, conn, unbound(25*time.Second)), "good for longer than ten seconds")
		exec(t, conn, "begin")
		require.NoError(t, present(t.Context(), conn, unbound(0)))
		require.Equal(t, ownRows, count(t, conn, "select from note"))
	})
}

// Whoever reads the setting in a transaction of the tenant has that tenant's token, and nothing more: it opens no other
// connection, and in sealed-mac it does not outlive its time.
func TestTheTokenInTheSettingOpensNothingElse(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.SealedMAC, "shared")
	conn := p.app(t)
	p.begin(t, conn, p.tenant)
	token := text(t, conn, "select current_setting('landlord.token')")
	exec(t, conn, "commit")

	exec(t, conn, "set landlord.token = "+lit(token))
	require.Equal(t, ownRows, count(t, conn, "select from note"), "the same tenant on the same connection")
	thief := p.app(t)
	exec(t, thief, "set landlord.token = "+lit(token))
	refuses(t, thief, pgerr.NoTenant, "select * from note")

	parts := strings.Split(token, ".")
	for i, value := range []string{
		macToken([][]byte{[]byte(p.other), {}, {}, {}, {}, {}})[:len(parts[0])], "61", "2", strconv.FormatInt(time.Now().Unix()+50, 10), string(flip([]byte(parts[4]))),
	} {
		forged := slices.Clone(parts)
		forged[i] = value
		exec(t, conn, "set landlord.token = "+lit(strings.Join(forged, ".")))
		refuses(t, conn, pgerr.NoTenant, "select * from note")
	}
	for _, junk := range []string{"", ".", "....", "a.b.c.d.e", strings.Repeat("a.", 1000), "0.00.1.1." + strings.Repeat("0", 64)} {
		exec(t, conn, "set landlord.token = "+lit(junk))
		_, err := simple(t.Context(), conn, "select * from note")
		require.Error(t, err, "%q", junk)
	}

	// An old one: as if it had been kept for a minute.
	s := sealer(t, p.want.Mode, p.ring, p.want.Stamp)
	exec(t, conn, "begin")
	params := s.Params(p.entry(p.tenant), conn.PgConn().PID(), time.Now().Add(-40*time.Second))
	exec(t, conn, "set local landlord.token = "+lit(macToken(params)))
	refuses(t, conn, pgerr.NoTenant, "select * from note")
}

// macToken writes enter's parameters as sealed-mac keeps them.
func macToken(params [][]byte) string {
	hexed := func(b []byte) string {
		var out strings.Builder
		for _, c := range b {
			out.WriteString(strconv.FormatInt(int64(c)+0x100, 16)[1:])
		}
		return out.String()
	}
	return strings.Join([]string{
		hexed(params[pTenant]), hexed(params[pHome]), string(params[pKid]), string(params[pExp]),
		string(bytes.TrimPrefix(params[pMac], []byte(`\x`))),
	}, ".")
}

// A transaction that takes longer than its token lives keeps its tenant.
func TestALongTransactionKeepsItsTenant(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.SealedMAC, "shared")
	conn := p.app(t)
	s := sealer(t, p.want.Mode, p.ring, p.want.Stamp)
	exec(t, conn, "begin")
	params := s.Params(p.entry(p.tenant), conn.PgConn().PID(), time.Now().Add(-26*time.Second)) // has 3 to 4 seconds left
	require.NoError(t, present(t.Context(), conn, params))
	exec(t, conn, "select pg_sleep_until(to_timestamp("+string(params[pExp])+") + interval '1.5 seconds')")
	require.Equal(t, ownRows, count(t, conn, "select from note"))
}

func TestHostileTenantIdsAreKeptApart(t *testing.T) {
	t.Parallel()
	ids := []string{
		`'`, `"`, `\`, `$$`, `x'; drop table note; --`, `$$; drop table note; $$`, `a|b`, `a`, `a `, `A`, `ä`, `a` + "\u0308", `%s`, `{}`, `t_61`, `null`,
		"日本語", "🏠", strings.Repeat("x", 128), strings.Repeat("x", 127) + "y", strings.Repeat("ß", 64), `1`, `01`, `.`, `..`, `-`, `--`,
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, mode)
			h.build(t, "public", "", "create table thing (tenant_id text, id int, body text, primary key (tenant_id, id))")
			conn := h.app(t)
			name := "a/" + h.database + "/public"
			for i, id := range ids {
				h.open(t, id, name, "shared")
				exec(t, conn, "begin")
				require.NoError(t, h.enter(t.Context(), conn, isolation.Entry{Tenant: id, Home: name, Epoch: 1}), "%q", id)
				exec(t, conn, "insert into thing (id, body) values ("+strconv.Itoa(i)+", "+lit(id)+"); commit")
			}
			for _, id := range ids {
				exec(t, conn, "begin")
				require.NoError(t, h.enter(t.Context(), conn, isolation.Entry{Tenant: id, Home: name, Epoch: 1}))
				require.Equal(t, id, text(t, conn, "select string_agg(body, ' and ') from thing"))
				require.Equal(t, id, text(t, conn, "select landlord.tenant()"))
				exec(t, conn, "commit")
			}
			require.Equal(t, len(ids), count(t, h.super(t), "select distinct tenant_id from thing"))
		})
	}
}

func TestBigintTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, mode)
			h.build(t, "public", "", "create table thing (tenant_id bigint, id int, primary key (tenant_id, id))")
			conn := h.app(t)
			name := "a/" + h.database + "/public"
			for _, id := range []string{"1", "12", "9223372036854775807"} {
				h.open(t, id, name, "shared")
				exec(t, conn, "begin")
				require.NoError(t, h.enter(t.Context(), conn, isolation.Entry{Tenant: id, Home: name, Epoch: 1}))
				exec(t, conn, "insert into thing (id) values (1)")
				require.Equal(t, id, text(t, conn, "select string_agg(tenant_id::text, ' ') from thing"))
				exec(t, conn, "commit")
			}
		})
	}
}

func TestATenantColumnThatCannotTellTenantsApartIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	exec(t, h.super(t), "create collation extensions.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"+
		"create domain public.short as varchar(10); grant usage on schema extensions to landlord_migrator")
	migrator := h.migrator(t)
	for _, column := range []string{"varchar(10)", "char(36)", "name", `"char"`, "real", "public.short", "text collate extensions.blind"} {
		_, err := simple(t.Context(), migrator, "begin; create table bad (tenant_id "+column+"); call landlord.secure('public'); commit")
		answer := requireCode(t, pgerr.FeatureNotSupported, err, column)
		require.Contains(t, answer.Message, "bad")
		require.NotEmpty(t, answer.Hint)
		exec(t, migrator, "rollback")
	}
	h.build(t, "public", "", `
create table a (tenant_id uuid); create table b (tenant_id bigint); create table c (tenant_id text);
create table d (tenant_id varchar); create table e (tenant_id int); create table f (tenant_id text collate "C")`)
}
