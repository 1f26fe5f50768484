package verify_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/move/verify"
)

// A shared home has tenant_id, the dedicated one here has none.
const (
	shared = `
create type mood as enum ('sad', 'glad');
create table item (tenant_id bigint, id bigint, price numeric, at timestamptz, mood mood, doc jsonb, tags text[],
  twice numeric generated always as (price * 2) stored, primary key (tenant_id, id));
create table part (tenant_id bigint, item bigint, n int, note text, primary key (tenant_id, item, n),
  constraint part_of foreign key (tenant_id, item) references item (tenant_id, id));
create table currency (code text primary key);
comment on table currency is 'landlord: reference';
insert into currency values ('EUR'), ('USD');`
	dedicated = `
create type mood as enum ('sad', 'glad');
create table item (id bigint primary key, price numeric, at timestamptz, mood mood, doc jsonb, tags text[],
  twice numeric generated always as (price * 2) stored);
create table part (item bigint, n int, note text, primary key (item, n), constraint part_of foreign key (item) references item);
create table currency (code text primary key);
comment on table currency is 'landlord: reference';
insert into currency values ('EUR'), ('USD');`
)

func rows(tenant string, columns string) string {
	return fmt.Sprintf(`
insert into item (%[2]sid, price, at, mood, doc, tags)
  select %[1]si, i / 3.0, timestamptz '2026-01-01' + i * interval '1 hour', 'glad', jsonb_build_object('i', i), array['a', null, i::text] from generate_series(1, 1000) i;
insert into part (%[2]sitem, n, note) select %[1]si, 1, 'ä' || i from generate_series(1, 1000) i;`, tenant, columns)
}

func homes(t *testing.T) (source, target home) {
	t.Helper()
	source = newHome(t, false, shared+
		rows("1, ", "tenant_id, ")+rows("2, ", "tenant_id, "))
	target = newHome(t, true, dedicated+
		rows("", ""))
	return source, target
}

func TestEqualHomesOfDifferentModelsAreEqual(t *testing.T) {
	t.Parallel()
	source, target := homes(t)
	var heard []string
	r := compare(t, source, target, verify.Options{Workers: 3, Progress: func(r verify.Result) { heard = append(heard, r.Table) }})
	require.NoError(t, r.Err())
	require.EqualValues(t, 2002, r.Rows)
	require.Equal(t, []string{"item", "part", "currency"}, []string{r.Tables[0].Table, r.Tables[1].Table, r.Tables[2].Table})
	require.ElementsMatch(t, []string{"item", "part", "currency"}, heard)
	require.Equal(t, verify.Sum{Rows: 1000, Hash: r.Tables[0].Target.Hash}, r.Tables[0].Source)
	require.NotEqual(t, "0", r.Tables[0].Source.Hash)
}

// Everything that a hash might miss is told, and by the keys of the rows.
func TestEveryDifferenceIsFoundAndToldByItsKey(t *testing.T) {
	t.Parallel()
	source, target := homes(t)
	require.NoError(t, compare(t, source, target, verify.Options{}).Err())
	for name, c := range map[string]struct {
		sql, undo, table string
		want             []verify.Difference
	}{
		"a missing row": {
			"delete from part where item = 7", "insert into part values (7, 1, 'ä7')", "part",
			[]verify.Difference{{Key: []string{"7", "1"}, Kind: verify.Missing}},
		},
		"an extra row": {
			"insert into part values (7, 2, '')", "delete from part where n = 2", "part",
			[]verify.Difference{{Key: []string{"7", "2"}, Kind: verify.Extra}},
		},
		"a changed value": {
			"update item set doc = '{}' where id = 500", `update item set doc = '{"i": 500}' where id = 500`, "item",
			[]verify.Difference{{Key: []string{"500"}, Kind: verify.Changed}},
		},
		"a numeric of another scale, which compares as equal": {
			"update part set note = 'x' where false; update item set price = price + 0.000000000000000000000 where id = 3",
			"update item set price = 3 / 3.0 where id = 3", "item",
			[]verify.Difference{{Key: []string{"3"}, Kind: verify.Changed}},
		},
		"null for an empty text": {
			"update part set note = null where item = 9", "update part set note = 'ä9' where item = 9", "part",
			[]verify.Difference{{Key: []string{"9", "1"}, Kind: verify.Changed}},
		},
		"two rows that are exchanged": {
			"update part set note = case item when 1 then 'ä2' else 'ä1' end where item in (1, 2)",
			"update part set note = 'ä' || item where item in (1, 2)", "part",
			[]verify.Difference{{Key: []string{"1", "1"}, Kind: verify.Changed}, {Key: []string{"2", "1"}, Kind: verify.Changed}},
		},
		"a reference table": {
			"delete from currency where code = 'USD'", "insert into currency values ('USD')", "currency",
			[]verify.Difference{{Key: []string{"USD"}, Kind: verify.Missing}},
		},
	} {
		target.exec(t, c.sql)
		r := compare(t, source, target, verify.Options{})
		lost := new(verify.MismatchError)
		require.ErrorAs(t, r.Err(), &lost, name)
		require.ErrorContains(t, lost, "table "+c.table, name)
		for _, got := range r.Tables {
			if got.Table == c.table {
				require.Equal(t, c.want, got.Keys, name)
			} else {
				require.True(t, got.Equal(), "%s: %s", name, got.Table)
			}
		}
		target.exec(t, c.undo)
		require.NoError(t, compare(t, source, target, verify.Options{}).Err(), name)
	}
}

func TestManyDifferencesAreBounded(t *testing.T) {
	t.Parallel()
	source, target := homes(t)
	target.exec(t, "update item set tags = '{}' where id > 10")
	r := compare(t, source, target, verify.Options{MaxKeys: 5})
	require.Len(t, r.Tables[0].Keys, 5)
	require.True(t, r.Tables[0].More)
	require.Error(t, r.Err())
}

// A generated column is computed anew at the target, and compared all the same.
func TestGeneratedColumnsAreCompared(t *testing.T) {
	t.Parallel()
	source, target := homes(t)
	source.exec(t, "alter table item drop column twice; alter table item add column twice numeric generated always as (price * 2) stored")
	target.exec(t, "alter table item drop column twice; alter table item add column twice numeric generated always as (price * 3) stored")
	a, b := source.tables(t), target.tables(t)
	pairs, problems := table.Match(a, b, "1")
	require.NotEmpty(t, problems, "which preflight refuses")
	r, err := verify.Compare(t.Context(), source.snapshot(t), target.snapshot(t), pairs, verify.Options{})
	require.NoError(t, err)
	require.False(t, r.Tables[0].Equal())
}

// Triggers are off while rows come in, so that nothing has checked the foreign keys.
func TestForeignKeysThatLeadNowhereAreFound(t *testing.T) {
	t.Parallel()
	for _, model := range []bool{true, false} {
		source := newHome(t, model, map[bool]string{true: dedicated, false: shared}[model])
		columns, tenant := map[bool]string{true: "", false: "tenant_id, "}[model], map[bool]string{true: "", false: "1, "}[model]
		orphan := fmt.Sprintf("set session_replication_role = replica; insert into part (%sitem, n) values (%[2]s5, 1), (%[2]s6, 1); reset session_replication_role;", columns, tenant)
		if !model { // the neighbour's are not the tenant's
			orphan += "set session_replication_role = replica; insert into part values (2, 9, 1); reset session_replication_role"
		}
		source.exec(t, orphan)
		target := newHome(t, model, map[bool]string{true: dedicated, false: shared}[model])
		target.exec(t, orphan)
		r := compare(t, source, target, verify.Options{})
		require.Equal(t, []verify.Orphan{{Table: "part", Constraint: "part_of", Rows: 2}}, r.Orphans)
		require.ErrorContains(t, r.Err(), "2 rows of table part refer to none (part_of)")
	}
}

// What is written after the snapshots were taken does not disturb.
func TestSnapshotsStayAsTheyWere(t *testing.T) {
	t.Parallel()
	source, target := homes(t)
	a, b := source.snapshot(t), target.snapshot(t)
	require.NotZero(t, a.At)
	source.exec(t, "delete from part")
	target.exec(t, "update item set price = 0")
	pairs, _ := table.Match(source.tables(t), target.tables(t), "1")
	r, err := verify.Compare(t.Context(), a, b, pairs, verify.Options{Workers: 2})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.NoError(t, a.Close(t.Context()))
	_, err = verify.Compare(t.Context(), a, b, pairs, verify.Options{})
	require.Error(t, err, "a snapshot that is gone is not read as something else")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = verify.Compare(ctx, a, b, pairs, verify.Options{})
	require.ErrorIs(t, err, context.Canceled)
	none, err := verify.Compare(t.Context(), b, b, nil, verify.Options{})
	require.NoError(t, err)
	require.Empty(t, none.Tables)
}
