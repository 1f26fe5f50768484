package audit_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation/audit"
)

func TestPreparedTransactionsAreFound(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	h := newHouse(t, testhouse.Options{Own: own})
	h.SuperExec(t, "postgres", "alter system set max_prepared_transactions = 2")
	require.NoError(t, own.Restart(t.Context()))
	conn := h.Super(t, h.tenants[shared].Home.Database)
	found := h.findings(t, conn)
	require.Len(t, found, 1)
	require.Equal(t, "prepared-possible", found[0].Rule)
	require.Equal(t, audit.Info, found[0].Severity)

	exec(t, conn, "begin; select 1; prepare transaction 'left behind'")
	found = h.findings(t, conn)
	require.Len(t, found, 2)
	require.Equal(t, "prepared-transaction", found[0].Rule)
	require.Equal(t, "transaction 'left behind'", found[0].Object)
	exec(t, conn, "rollback prepared 'left behind'")
	require.Len(t, h.findings(t, conn), 1)
}

func TestAnExtensionThatReachesOutIsFound(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testhouse.Options{})
	conn := h.Super(t, h.tenants[shared].Home.Database)
	var available bool
	const q = `select exists (select from pg_available_extensions where name = 'dblink')`
	require.NoError(t, conn.QueryRow(t.Context(), q).Scan(&available))
	if !available {
		t.Skip("this server has no dblink")
	}
	exec(t, conn, "create extension dblink schema extensions")
	found := h.findings(t, conn)
	require.Len(t, found, 1)
	require.Equal(t, "extension", found[0].Rule)
	require.Equal(t, "extension dblink", found[0].Object)
}

// LANDLORD_SCALE=full makes 20,000 tables and says how long the audit took.
func TestManySchemasAreAuditedAtOnce(t *testing.T) {
	t.Parallel()
	schemas, tables := 5, 4
	if os.Getenv("LANDLORD_SCALE") == "full" {
		schemas, tables = 1000, 20
	}
	h := newHouse(t, testhouse.Options{})
	conn := h.Super(t, h.tenants[shared].Home.Database)
	want := h.wants[conn.Config().Database]
	for n := range schemas {
		home := audit.Home{Schema: fmt.Sprintf("many_%d", n), Tenant: h.NewID(t).String()}
		ddl := "create schema " + home.Schema + " authorization landlord_owner; grant usage on schema " + home.Schema + " to landlord_app;"
		for i := range tables {
			ddl += fmt.Sprintf("create table %s.t%d (tenant_id uuid, id bigint generated always as identity, a text, b int, primary key (tenant_id, id));", home.Schema, i)
		}
		exec(t, conn, ddl+"call landlord.secure('"+home.Schema+"', '"+home.Tenant+"')")
		want.Homes = append(want.Homes, home)
	}
	exec(t, conn, "alter table many_3.t2 no force row level security")
	start := time.Now()
	found, err := audit.Check(t.Context(), conn, want)
	t.Logf("%d tables in %v", schemas*tables, time.Since(start))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	require.Equal(t, "many_3.t2", found[0].Object)
	for _, f := range found[1:] {
		require.Equal(t, "server-old", f.Rule)
	}
}
