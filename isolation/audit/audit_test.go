package audit_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is an installation with a tenant of every model.
type house struct {
	*testhouse.House
	tenants map[placement.Model]placement.Placement
	wants   map[string]audit.Database // by the database's name
}

func newHouse(t *testing.T, opts testhouse.Options) *house {
	t.Helper()
	opts.Clusters = []string{"a"}
	h := &house{testhouse.New(t, opts), map[placement.Model]placement.Placement{}, map[string]audit.Database{}}
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		h.tenants[m] = h.Add(t, "in-"+string(m), m, "a")
	}
	databases, err := h.Catalog.Databases(t.Context())
	require.NoError(t, err)
	for _, d := range databases {
		want := audit.Database{Login: d.Login, Mode: isolation.Mode(d.Mode)}
		if d.Model == placement.ModelShared {
			want.Homes = append(want.Homes, audit.Home{Schema: placement.SharedSchema})
		}
		for _, p := range h.tenants {
			if p.Home.Database == d.Name && p.Model != placement.ModelShared {
				want.Homes = append(want.Homes, audit.Home{Schema: p.Home.Schema, Tenant: p.Tenant.String()})
			}
		}
		h.wants[d.Name] = want
	}
	return h
}

// findings of a database but for those about the server's release, which tests cannot choose.
func (h *house) findings(t *testing.T, conn *pgx.Conn) (found []audit.Finding) {
	t.Helper()
	all, err := audit.Check(t.Context(), conn, h.wants[conn.Config().Database])
	require.NoError(t, err)
	for _, f := range all {
		if f.Rule != "server-old" {
			found = append(found, f)
		}
	}
	return found
}

func TestLandlordsOwnHomesAreClean(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, testhouse.Options{Mode: mode})
			require.Len(t, h.wants, 2)
			for name := range h.wants {
				require.Empty(t, h.findings(t, h.Super(t, name)), name)
			}
		})
	}
}

func TestPoliciesOfEveryTypeOfTenantAreRecognised(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testhouse.Options{})
	conn := h.Super(t, h.tenants[placement.ModelSchema].Home.Database)
	exec(t, conn, `create schema hers authorization landlord_owner; grant usage on schema hers to landlord_app`)
	for schema, owner := range map[string]string{"public": "", "hers": `o'hare \ "x"`} {
		for _, kind := range []string{"uuid", "bigint", "integer", "text", "varchar"} {
			exec(t, conn, "create table "+schema+".of_"+kind+" (n int, tenant_id "+kind+", primary key (tenant_id, n))")
		}
		exec(t, conn, "create table "+schema+".of_none (n int primary key, twice int generated always as (n * 2) stored)")
		_, err := conn.Exec(t.Context(), "call landlord.secure($1, nullif($2, ''))", schema, owner)
		require.NoError(t, err)
	}
	want := h.wants[conn.Config().Database]
	want.Homes = append(want.Homes, audit.Home{Schema: "hers", Tenant: `o'hare \ "x"`})
	found, err := audit.Check(t.Context(), conn, want)
	require.NoError(t, err)
	for _, f := range found {
		require.Contains(t, []string{"server-old", "table-unclassified"}, f.Rule, "%+v", f)
	}
}

func TestALoginWithoutPowerCanAudit(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testhouse.Options{})
	for name := range h.wants {
		conn := h.Super(t, name)
		before := h.findings(t, conn)
		exec(t, conn, "set role landlord_guard")
		require.Equal(t, before, h.findings(t, conn))
	}
}

func TestAnAuditWritesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testhouse.Options{})
	for name := range h.wants {
		conn := h.Super(t, name)
		exec(t, conn, "set default_transaction_read_only = on")
		require.Empty(t, h.findings(t, conn))
	}
}

// What somebody has made of landlord's routines is named in the home of every model, and made anew by what init calls.
func TestReplacedRoutinesAreNamedUntilTheyAreInstalledAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testhouse.Options{})
	clusters, err := h.Catalog.Clusters(t.Context())
	require.NoError(t, err)
	for model, p := range h.tenants {
		conn := h.Super(t, p.Home.Database)
		require.Empty(t, h.findings(t, conn), model)
		exec(t, conn, "create or replace function landlord.tenant() returns text language sql stable as $$ select 'x' $$; drop procedure landlord.secure; "+
			"create function landlord.enter(text) returns text language sql as $$ select '' $$; alter function landlord.enter(text) owner to landlord_guard; "+
			"revoke all on function landlord.enter(text) from public")
		said := map[string]string{}
		for _, f := range h.findings(t, conn) {
			if f.Rule == "landlord-routine" {
				said[f.Object] = f.Detail + strings.Join(f.SQL, ";")
			}
		}
		require.Equal(t, map[string]string{
			"landlord.tenant()":    "it is not what landlord installs: landlord init makes it anew",
			"landlord.secure":      "it is gone: landlord init makes it anew",
			"landlord.enter(text)": "it stands beside landlord's owndrop routine landlord.enter(text)",
		}, said, model)

		exec(t, conn, "drop routine landlord.enter(text)")
		_, err = h.Service.SetUp(t.Context(), clusters[0])
		require.NoError(t, err)
		_, err = h.Service.Upgrade(t.Context())
		require.NoError(t, err)
		require.Empty(t, h.findings(t, conn), model)
	}
}

func TestAllowedNamesARuleAnObjectAndAReason(t *testing.T) {
	t.Parallel()
	f := audit.Finding{Rule: "publication", Object: "publication search"}
	require.True(t, audit.Allowed{Rule: "publication", Object: "publication search"}.Covers(f))
	require.True(t, audit.Allowed{Rule: "publication", Object: "*search"}.Covers(f))
	require.False(t, audit.Allowed{Rule: "publication", Object: "search"}.Covers(f))
	require.False(t, audit.Allowed{Rule: "rls-off", Object: "*"}.Covers(f))
	require.True(t, audit.Allowed{Rule: "owner", Object: "public.f(integer[])"}.Covers(audit.Finding{Rule: "owner", Object: "public.f(integer[])"}))

	require.NoError(t, audit.Allowed{Rule: "publication", Object: "*", Reason: "search"}.Validate())
	err := audit.Allowed{Rule: "publicity"}.Validate()
	require.ErrorIs(t, err, audit.ErrUnknownRule)
	require.ErrorContains(t, err, "object")
	require.ErrorContains(t, err, "reason")
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}
