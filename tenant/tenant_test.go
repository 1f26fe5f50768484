package tenant_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/tenant"
)

func TestIDsHaveOneCanonicalForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		idType   tenant.IDType
		in, want string
	}{
		{tenant.UUID, "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21"},
		{tenant.UUID, "0190F3C2-8A4E-7C63-9D35-6F1B1C0F7D21", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21"},
		{tenant.UUID, "0190F3C28a4e7c639d356f1b1c0f7d21", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21"},
		{tenant.BigInt, "1", "1"},
		{tenant.BigInt, "9223372036854775807", "9223372036854775807"},
		{tenant.Text, "acme", "acme"},
		{tenant.Text, `O'Neil "&" Söhne; drop table x --`, `O'Neil "&" Söhne; drop table x --`},
		{tenant.Text, strings.Repeat("é", 64), strings.Repeat("é", 64)},
	} {
		id, err := c.idType.Parse(c.in)
		require.NoError(t, err)
		require.Equal(t, c.want, id.String())
		again, err := c.idType.Parse(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
		require.False(t, id.IsZero())
	}
}

func TestHostileIDsAreRefused(t *testing.T) {
	t.Parallel()
	for idType, bad := range map[tenant.IDType][]string{
		tenant.UUID: {
			"", "acme", "urn:uuid:0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21", "{0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21}",
			" 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d2", "0190f3c28-a4e-7c63-9d35-6f1b1c0f7d21", "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d2g",
			"00000000-0000-0000-0000-000000000000",
		},
		tenant.BigInt: {"", "0", "-1", "+1", "01", "1.0", "1e3", "0x1", "1_000", " 1", "1 ", "9223372036854775808", "١"},
		tenant.Text: {
			"", " ", " a", "a ", "a\u00a0", "a\x00b", "a\nb", "a\x7f", "a\u202eb", "a\u200bb", "a\u2028b", "a\xffb",
			strings.Repeat("x", 129), strings.Repeat("é", 65),
		},
	} {
		for _, s := range bad {
			id, err := idType.Parse(s)
			require.ErrorIs(t, err, tenant.ErrBadID, "%s %q", idType, s)
			require.True(t, id.IsZero())
		}
	}
	_, err := tenant.IDType("oid").Parse("1")
	require.ErrorContains(t, err, "use uuid, bigint or text")
}

func TestCanonicalFormIsAFixedPoint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		idType := rapid.SampledFrom([]tenant.IDType{tenant.UUID, tenant.BigInt, tenant.Text}).Draw(t, "type")
		id, err := idType.Parse(rapid.OneOf(
			rapid.String(), rapid.StringMatching(`[0-9]{1,20}`), rapid.StringMatching(`[0-9a-fA-F]{32}`),
		).Draw(t, "id"))
		if err != nil {
			require.ErrorIs(t, err, tenant.ErrBadID)
			return
		}
		again, err := idType.Parse(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}

func TestOnlyUUIDsAreGenerated(t *testing.T) {
	t.Parallel()
	a, err := tenant.UUID.New()
	require.NoError(t, err)
	b, err := tenant.UUID.New()
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	parsed, err := tenant.UUID.Parse(a.String())
	require.NoError(t, err)
	require.Equal(t, a, parsed)
	for _, idType := range []tenant.IDType{tenant.BigInt, tenant.Text} {
		_, err := idType.New()
		require.ErrorIs(t, err, tenant.ErrBadID)
	}
}

func TestIDTypesAreNamed(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"uuid", "bigint", "text"} {
		idType, err := tenant.ParseIDType(s)
		require.NoError(t, err)
		require.Equal(t, tenant.IDType(s), idType)
	}
	_, err := tenant.ParseIDType("UUID")
	require.ErrorContains(t, err, "use uuid, bigint or text")
}

func TestIDIsPrintedAsText(t *testing.T) {
	t.Parallel()
	id, err := tenant.BigInt.Parse("42")
	require.NoError(t, err)
	out, err := json.Marshal(map[string]tenant.ID{"id": id})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"42"}`, string(out))
}

func TestSlugsAreDNSLabels(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "7", "acme", "t-shared", "a--b", "xn--bcher-kva", strings.Repeat("a", 63)} {
		slug, err := tenant.ParseSlug(s)
		require.NoError(t, err)
		require.Equal(t, tenant.Slug(s), slug)
	}
	for _, s := range []string{"", "-a", "a-", "A", "a.b", "a_b", "a b", "bücher", "a\n", `a"`, "a'; --", strings.Repeat("a", 64)} {
		_, err := tenant.ParseSlug(s)
		require.ErrorIs(t, err, tenant.ErrBadSlug, "%q", s)
	}
}

func TestContextKeepsItsTenant(t *testing.T) {
	t.Parallel()
	acme, err := tenant.Text.Parse("acme")
	require.NoError(t, err)
	other, err := tenant.Text.Parse("other")
	require.NoError(t, err)

	_, ok := tenant.FromContext(t.Context())
	require.False(t, ok)

	ctx, err := tenant.NewContext(t.Context(), acme)
	require.NoError(t, err)
	again, err := tenant.NewContext(ctx, acme)
	require.NoError(t, err)
	require.Equal(t, ctx, again)

	_, err = tenant.NewContext(ctx, other)
	require.ErrorIs(t, err, tenant.ErrConflict)
	var conflict *tenant.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, tenant.ConflictError{Have: acme, Given: other}, *conflict)

	below, cancel := context.WithCancel(ctx)
	defer cancel()
	got, ok := tenant.FromContext(below)
	require.True(t, ok)
	require.Equal(t, acme, got)
}

func TestContextTakesNoEmptyTenant(t *testing.T) {
	t.Parallel()
	_, err := tenant.NewContext(t.Context(), tenant.ID{})
	require.ErrorIs(t, err, tenant.ErrNone)
}
