package fingerprint_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/fingerprint"
)

// in runs SQL in a home, in which SCHEMA is the name of its schema.
func (r *rig) in(t testing.TB, h fingerprint.Home, sql string) {
	t.Helper()
	name := pgx.Identifier{h.Schema}.Sanitize()
	r.exec(t, "set search_path = "+name+", extensions; "+strings.ReplaceAll(sql, "SCHEMA", name)+"; reset search_path")
}

// requireEqual compares homes of one database.
func (r *rig) requireEqual(t testing.TB, a, b fingerprint.Home) {
	t.Helper()
	require.Empty(t, fingerprint.Compare(r.objects(t, a), r.objects(t, b)))
	sums := r.read(t, a, b)
	require.Equal(t, sums[a.Schema], sums[b.Schema])
}

func (r *rig) requireDifferent(t testing.TB, a, b fingerprint.Home, what string) {
	t.Helper()
	require.Equal(t, what, describe(fingerprint.Compare(r.objects(t, a), r.objects(t, b))))
	sums := r.read(t, a, b)
	require.NotEqual(t, sums[a.Schema], sums[b.Schema])
}

func TestHomesAreEqualWhateverTheyAreCalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, isolation.Plain, "testdata/rich")
	// Names of tables, columns, types, functions, aliases and words of SQL, and such as must be quoted.
	var homes []fingerprint.Home
	for i, name := range []string{
		"t_home", "orders", "customers", "open_orders", "events", "id", "note", "total", "numbers", "feeling", "mood", "touch", "sum_of",
		"new", "old", "s", "e", "select", "uuid", "text", "fine", "landlordx", "T_Home", `we"ird`, "o'clock", `back\slash`, "a.b", "a,b", "two words",
		"Straße_ñ_日本", strings.Repeat("x", 63), "{home}", "$1", "1st", "tenant",
	} {
		homes = append(homes, r.home(t, name, fmt.Sprintf("tenant %d's \\", i)))
	}
	want, sums := r.objects(t, homes[0]), r.read(t, homes...)
	for _, h := range homes {
		assert.Empty(t, fingerprint.Compare(want, r.objects(t, h)), h.Schema)
		assert.Equal(t, fingerprint.Of(want), sums[h.Schema], h.Schema)
	}
}

func TestTheNameOfASchemaIsTakenOutWhereItIsOneAndNowhereElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, isolation.Plain, "testdata/rich")
	a, b := r.home(t, "s", tenantID), r.home(t, "customers", otherID)
	both := func(sql string) {
		t.Helper()
		r.in(t, a, sql)
		r.in(t, b, sql)
	}
	both("create function f() returns bigint language sql as $$ select count(*) from SCHEMA.orders -- SCHEMA.orders is meant\n$$")
	r.requireDifferent(t, a, b, "different function f()") // by the comment
	both("create or replace function f() returns bigint language sql as $$ select count(*) from SCHEMA.orders $$")
	both("alter function f set search_path from current")
	both("create function g(SCHEMA.mood, SCHEMA.orders[]) returns SCHEMA.positive language plpgsql as $$ begin return nextval('SCHEMA.numbers'::regclass); end $$")
	both("alter table orders alter customer_id set default nextval('SCHEMA.numbers'::regclass)")
	both("create view customers_of as select customers.id, customers.feeling from customers customers, SCHEMA.orders s where s.id = customers.id")
	both("create view own as select 'SCHEMA'::regnamespace, 'SCHEMA.orders'::regclass, 'sum_of(bigint)'::regprocedure, array['fine'::mood]")
	both("alter table orders alter note set default 's.orders customers.orders'")
	r.requireEqual(t, a, b)

	both("alter table orders alter note set default 'SCHEMA.orders'")
	r.requireDifferent(t, a, b, "different column orders.note")
	both("alter table orders alter note drop default")
	r.requireEqual(t, a, b)

	// The same words, but the other home's table.
	r.in(t, a, "alter table orders alter customer_id set default nextval('customers.numbers'::regclass)")
	r.requireDifferent(t, a, b, "different column orders.customer_id")
	r.in(t, a, "alter table orders alter customer_id set default nextval('numbers')")
	r.requireEqual(t, a, b)

	// Another tenant's home is not one's own.
	b.Tenant = tenantID
	require.Contains(t, describe(fingerprint.Compare(r.objects(t, a), r.objects(t, b))), "different policy orders.landlord_allow")
}

func TestHomesInSchemasAndInDatabasesAreEqualInEveryMode(t *testing.T) {
	t.Parallel()
	var own, shared []fingerprint.Fingerprint
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		r := newRig(t, mode, "testdata/rich")
		own = append(own, r.read(t, r.home(t, "t_home", tenantID))["t_home"])
		require.NoError(t, r.set.Build(t.Context(), r.migrator, isolation.SharedSchema, otherID))
		own = append(own, r.read(t, fingerprint.Home{Schema: isolation.SharedSchema, Tenant: otherID})[isolation.SharedSchema])

		r = newRig(t, mode, "testdata/rich")
		require.NoError(t, r.set.Build(t.Context(), r.migrator, isolation.SharedSchema, ""))
		require.NoError(t, isolation.CreateSchema(t.Context(), r.super, "t_home", tenantID))
		require.NoError(t, r.set.Build(t.Context(), r.migrator, "t_home", ""))
		public, scratch := fingerprint.Home{Schema: isolation.SharedSchema}, fingerprint.Home{Schema: "t_home"}
		r.requireEqual(t, public, scratch)
		shared = append(shared, r.read(t, public)[public.Schema])
	}
	for i := range own {
		require.Equal(t, own[0], own[i])
	}
	for i := range shared {
		require.Equal(t, shared[0], shared[i])
		require.NotEqual(t, own[0], shared[i])
	}
}

func TestManyHomesAreReadByOneQueryAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t, isolation.Plain, "../testdata/shop")
	var homes []fingerprint.Home
	for i := range 200 {
		homes = append(homes, r.home(t, fmt.Sprintf("t_%03d", i), tenantID))
	}
	r.in(t, homes[77], "alter table orders add x int")
	r.exec(t, "set default_transaction_read_only = on; set statement_timeout = '1min'")
	path := func() (path string) {
		require.NoError(t, r.super.QueryRow(t.Context(), "show search_path").Scan(&path))
		return path
	}
	before := path()
	sums := r.read(t, append(homes, fingerprint.Home{Schema: "nowhere"})...)
	require.Len(t, sums, len(homes))
	for _, h := range homes {
		if h.Schema == "t_077" {
			require.NotEqual(t, sums["t_000"], sums[h.Schema])
			continue
		}
		require.Equal(t, sums["t_000"], sums[h.Schema], h.Schema)
	}
	require.Equal(t, "extra column orders.x", describe(fingerprint.Compare(r.objects(t, homes[0]), r.objects(t, homes[77]))))
	require.Equal(t, before, path())

	_, err := fingerprint.Objects(t.Context(), r.super, fingerprint.Home{Schema: "nowhere"})
	require.ErrorIs(t, err, fingerprint.ErrNoSchema)
	none, _, err := fingerprint.Read(t.Context(), r.super, nil)
	require.NoError(t, err)
	require.Empty(t, none)

	// A migrator may read too, within a transaction of its own, which goes on.
	require.NoError(t, pgx.BeginFunc(t.Context(), r.migrator, func(tx pgx.Tx) error {
		again, _, err := fingerprint.Read(t.Context(), tx, homes[:3])
		require.NoError(t, err)
		require.Equal(t, sums["t_001"], again["t_001"])
		_, err = tx.Exec(t.Context(), "create table t_001.more ()")
		return err
	}))
}

func TestADatabaseWithoutLandlordsObjectsIsAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t, isolation.Plain, "../testdata/shop")
	r.exec(t, "drop schema landlord cascade")
	_, _, err := fingerprint.Read(t.Context(), r.super, []fingerprint.Home{{Schema: "public"}})
	require.ErrorContains(t, err, "landlord.identity")
}

func TestAHomeThatSomebodyWorksInKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, isolation.Plain, "testdata/rich")
	a, b := r.home(t, "a", tenantID), r.home(t, "b", otherID)
	free := r.read(t, a, b)
	require.NoError(t, pgx.BeginFunc(t.Context(), r.migrator, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "lock table a.orders in access exclusive mode")
		require.NoError(t, err)
		sums, busy, err := fingerprint.Read(t.Context(), r.super, []fingerprint.Home{a, b})
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, busy)
		require.Equal(t, map[string]fingerprint.Fingerprint{"b": free["b"]}, sums)
		_, err = fingerprint.Objects(t.Context(), r.super, a)
		require.ErrorIs(t, err, fingerprint.ErrBusy)
		return nil
	}))
	require.Equal(t, free, r.read(t, a, b))

	// Nor does reading keep a lock.
	tx, err := r.super.Begin(t.Context())
	require.NoError(t, err)
	_, _, err = fingerprint.Read(t.Context(), tx, []fingerprint.Home{a, b})
	require.NoError(t, err)
	var locks int
	require.NoError(t, tx.QueryRow(t.Context(), `select count(*) from pg_locks l join pg_class c on c.oid = l.relation
		where l.pid = pg_backend_pid() and c.relnamespace in ('a'::regnamespace, 'b'::regnamespace)`).Scan(&locks))
	require.Zero(t, locks)
	require.NoError(t, tx.Rollback(t.Context()))
}
