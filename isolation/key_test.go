package isolation_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

func TestKeyringsAreReadStrictly(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("0a", 32)
	ring, err := isolation.ParseKeyring("# comment\n\n 7:" + strings.Repeat("FF", 32) + " \r\n3:" + secret + "\n")
	require.NoError(t, err)
	require.Equal(t, 3, ring[0].ID, "oldest first")
	require.Equal(t, 7, ring[1].ID)
	again, err := isolation.ParseKeyring(ring.String())
	require.NoError(t, err)
	require.Equal(t, ring, again)

	for text, complaint := range map[string]string{
		"":                                    "there is none",
		"# 1:" + secret:                       "there is none",
		"1:" + secret + "\n1:" + secret:       "key 1 stands there twice",
		"x":                                   "line 1 ",
		"\n\n1:abc":                           "line 3 ",
		"1:" + secret + "00":                  "line 1 ",
		"1:" + secret[2:]:                     "line 1 ",
		"1 " + secret:                         "line 1 ",
		"0:" + secret:                         "line 1 ",
		"-1:" + secret:                        "line 1 ",
		"2147483648:" + secret:                "line 1 ",
		"1.5:" + secret:                       "line 1 ",
		":" + secret:                          "line 1 ",
		"1:" + strings.Repeat("zz", 32):       "line 1 ",
		"1:" + secret + "\n2:" + secret + "!": "line 2 ",
	} {
		_, err := isolation.ParseKeyring(text)
		require.ErrorContains(t, err, complaint, "%q", text)
		require.NotContains(t, err.Error(), secret, "a secret stands in no error")
	}
}

func TestASealerNeedsAKeyOnlyWhereTheModeDoes(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		s, err := isolation.NewSealer(mode, nil, someUUID)
		if mode == isolation.Sealed || mode == isolation.SealedMAC {
			require.ErrorContains(t, err, "no seal key")
			continue
		}
		require.NoError(t, err)
		params := s.Params(isolation.Entry{Tenant: "t", Home: "h", Epoch: 5}, 1, time.Now())
		require.Equal(t, [][]byte{[]byte("t"), []byte("h"), []byte("5"), nil, nil, nil}, params)
	}
}

// The construction, written out a second time: HMAC-SHA256 over the lengths and texts, keyed with what one database has.
func TestTheTokenIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	ring := isolation.Keyring{newKey(t, 1), newKey(t, 9)}
	now := time.Unix(1_800_000_000, 0)
	s := sealer(t, isolation.Sealed, ring, "stamp")
	for pid, exp := range map[uint32]string{77: "1800000030", 0: "1800000007"} {
		params := s.Params(isolation.Entry{Tenant: "ä|", Home: "a/b/c", Epoch: 3}, pid, now)
		text := "landlord1|3:ä||5:a/b/c|" + map[uint32]string{77: "77", 0: "0"}[pid] + "|" + exp
		want := mac(mac(ring[1].Secret, "landlord seal key|stamp"), text)
		require.Equal(t, [][]byte{[]byte("ä|"), []byte("a/b/c"), []byte("3"), []byte("9"), []byte(exp), []byte(`\x` + hex.EncodeToString(want))}, params)
	}
}

func TestSealersAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	s := sealer(t, isolation.Sealed, isolation.Keyring{newKey(t, 1)}, someUUID)
	now := time.Now()
	e := isolation.Entry{Tenant: "t", Home: "h", Epoch: 1}
	want := s.Params(e, 1, now)
	done := make(chan bool)
	for range 8 {
		go func() {
			same := true
			for range 200 {
				s.Params(isolation.Entry{Tenant: uuid.NewString(), Home: "other", Epoch: 2}, 9, now)
				got := s.Params(e, 1, now)
				same = same && string(got[pMac]) == string(want[pMac])
			}
			done <- same
		}()
	}
	for range 8 {
		require.True(t, <-done)
	}
}

func TestKeysRotateUnderARunningApplication(t *testing.T) {
	t.Parallel()
	eachMode(t, sealed, func(t *testing.T, p *place) {
		super, app := p.super(t), p.app(t)
		try := func(ring isolation.Keyring) error {
			exec(t, app, "begin")
			err := p.enterWith(t.Context(), app, ring, p.entry(p.tenant))
			exec(t, app, "rollback")
			return err
		}
		old := p.ring
		both := append(isolation.Keyring{}, old[0], newKey(t, 2))
		requireCode(t, pgerr.BadSeal, try(both), "the database does not know the new key yet")

		added, err := isolation.AddKeys(t.Context(), super, both, p.want.Stamp)
		require.NoError(t, err)
		require.True(t, added)
		added, err = isolation.AddKeys(t.Context(), super, both, p.want.Stamp)
		require.NoError(t, err)
		require.False(t, added)
		require.NoError(t, try(both))
		require.NoError(t, try(old), "two keys are alive")

		retired, err := isolation.RetireKey(t.Context(), super, 1, time.Hour)
		require.NoError(t, err)
		require.True(t, retired)
		require.NoError(t, try(old), "within grace")
		keys, err := isolation.Keys(t.Context(), super)
		require.NoError(t, err)
		require.Len(t, keys, 2)
		require.WithinDuration(t, time.Now().Add(time.Hour), keys[0].NotAfter, time.Minute)
		require.True(t, keys[1].NotAfter.IsZero())
		retired, err = isolation.RetireKey(t.Context(), super, 1, 2*time.Hour)
		require.NoError(t, err)
		require.False(t, retired, "grace is not prolonged")

		running := p.app(t)
		exec(t, running, "begin")
		require.NoError(t, p.enterWith(t.Context(), running, old, p.entry(p.tenant)))
		retired, err = isolation.RetireKey(t.Context(), super, 1, 0)
		require.NoError(t, err)
		require.True(t, retired, "but it can be cut short")
		require.Equal(t, ownRows, count(t, running, "select from note"), "a transaction that is open runs to its end")
		exec(t, running, "commit")
		requireCode(t, pgerr.BadSeal, try(old))
		require.NoError(t, try(both))
		retired, err = isolation.RetireKey(t.Context(), super, 5, 0)
		require.NoError(t, err)
		require.False(t, retired, "no such key")
	})
}

// In sealed-mac the token stands in a setting that anybody may write: there a retired key must not open anything either.
func TestARetiredKeyOpensNothingBesideEnter(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.SealedMAC, "shared")
	conn := p.app(t)
	s := sealer(t, p.want.Mode, p.ring, p.want.Stamp)
	set := func() {
		exec(t, conn, "begin; set local landlord.token = "+lit(macToken(s.Params(p.entry(p.tenant), conn.PgConn().PID(), time.Now()))))
	}
	set()
	require.Equal(t, ownRows, count(t, conn, "select from note"), "while it is alive")
	exec(t, conn, "rollback")
	_, err := isolation.RetireKey(t.Context(), p.super(t), 1, 0)
	require.NoError(t, err)
	set()
	refuses(t, conn, pgerr.NoTenant, "select * from note")
}

// What one database keeps opens no other, not even one of the same name that was made again.
func TestEachDatabaseIsSealedWithAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	other := newDatabase(t, isolation.Sealed)
	other.ring = p.ring
	_, err := isolation.Install(t.Context(), other.super(t), other.want, other.ring)
	require.NoError(t, err)
	const q = `select encode(ipad || opad, 'hex') from landlord.seal_key where kid = 1`
	require.NotEqual(t, text(t, p.super(t), q), text(t, other.super(t), q))

	require.NoError(t, isolation.PutFence(t.Context(), other.super(t), isolation.Fence{
		Tenant: p.tenant, Slug: "x", Model: "shared", Home: p.name, Epoch: 1, State: isolation.Open,
	}))
	app := other.app(t)
	exec(t, app, "begin")
	stolen := sealer(t, isolation.Sealed, p.ring, p.want.Stamp).Params(p.entry(p.tenant), app.PgConn().PID(), time.Now())
	requireCode(t, pgerr.BadSeal, present(t.Context(), app, stolen))
	exec(t, app, "rollback; begin")
	require.NoError(t, other.enter(t.Context(), app, p.entry(p.tenant)))
}
