package preflight_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

func TestWhatIsWrongWithTablesIsReportedTogether(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{})
	const sql = `
create function nothing() returns trigger language plpgsql as 'begin return null; end';
create table by_id (tenant_id uuid not null, id int primary key);
create table unkeyed (tenant_id uuid not null, id int);
create table silent (tenant_id uuid, id int, primary key (tenant_id, id));
alter table silent replica identity nothing;
create table fleeting (tenant_id uuid primary key);
alter table fleeting set unlogged;
create table loud (tenant_id uuid primary key);
create trigger shout after insert on loud for each row execute function nothing();
alter table loud enable always trigger shout;
create table late (tenant_id uuid, id int, no int, primary key (tenant_id, id), constraint late_no unique (tenant_id, no) deferrable);
create table rooms (tenant_id uuid, id int, during int4range, primary key (tenant_id, id), constraint apart exclude using gist (during with &&));
create table files (tenant_id uuid primary key, content oid);
create table linked (tenant_id uuid, id int, of int, primary key (tenant_id, id), constraint out_of foreign key (of) references by_id (id));
create table parts (tenant_id uuid, id int, primary key (tenant_id, id)) partition by range (id);
create table parts_1 partition of parts default;
alter table parts_1 replica identity nothing;
create foreign data wrapper nowhere; create server nothing foreign data wrapper nowhere;
create foreign table away (tenant_id uuid) server nothing;
`
	e.sql(t, e.tenant.Home, sql+`
create table only_here (tenant_id uuid primary key);
create table typed (tenant_id uuid primary key, n numeric(12, 2));
select lo_create(0);
insert into by_id values ('`+e.tenant.Tenant.String()+`', 1), (gen_random_uuid(), 2);
insert into linked values ('`+e.tenant.Tenant.String()+`', 1, 2)`)
	e.sql(t, e.there(t), sql+`create table typed (tenant_id uuid primary key, n numeric(10, 2))`)

	e.sql(t, e.there(t), "alter sequence customers_id_seq cache 20; create sequence invoice_no cache 30")

	r := e.check(t, placement.ModelShared)
	for _, want := range []struct {
		code         table.Code
		object, what string
	}{
		{preflight.ReplicaKey, "by_id", "its replica identity (id) leaves tenant_id out"},
		{table.TableKey, "by_id", "the target has no unique key of (tenant_id, id)"},
		{table.TableNoKey, "unkeyed", "no primary key"},
		{preflight.ReplicaKey, "silent", "it has no replica identity"},
		{preflight.UnloggedTable, "fleeting", "unlogged"},
		{preflight.ActiveTrigger, "loud", "trigger shout fires"},
		{preflight.LateKey, "late.late_no", "deferrable"},
		{preflight.ExclusionKey, "rooms.apart", "leaves tenant_id out"},
		{preflight.LargeObjects, "files.content", "1 large objects"},
		{preflight.ReplicaKey, "parts", "its partition parts_1"},
		{preflight.ForeignTable, "away", "foreign table"},
		{table.TableMissing, "only_here", "the target has not"},
		{preflight.SequenceCache, "customers.id", "cache 20"},
		{preflight.SequenceCache, "invoice_no", "cache 30"},
		{table.ColumnType, "typed.n", "numeric(12,2) at the source, numeric(10,2) at the target"},
	} {
		var whats []string
		for _, p := range r.Problems {
			if p.Code == want.code && p.Object == want.object {
				whats = append(whats, p.What)
			}
		}
		if assert.NotEmpty(t, whats, "%s of %s", want.code, want.object) {
			assert.Contains(t, whats[0], want.what)
		}
	}
	var crossing []string
	for _, p := range r.Problems {
		if p.Code == preflight.CrossingKey {
			crossing = append(crossing, p.Object+" "+p.What)
		}
	}
	assert.Equal(t, []string{
		"linked.out_of the foreign key to by_id leaves tenant_id out: it may lead to another tenant's row",
		"linked.out_of 1 rows (or more, from 100 on) join the tenant's and another tenant's",
	}, crossing)

	// Without a stream, what it is told does not matter.
	for _, p := range e.check(t, placement.ModelShared, func(c *preflight.Config) { c.Offline = true }).Problems {
		assert.NotEqual(t, preflight.ReplicaKey, p.Code, p.Object)
	}
}

func TestFullIdentityWithGeneratedColumnIsRefusedWherePostgreSQLWould(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelSchema, testhouse.Options{})
	const sql = `
create table twice (tenant_id uuid, id int, double int generated always as (id * 2) stored, primary key (tenant_id, id));
alter table twice replica identity full`
	e.sql(t, e.tenant.Home, sql)
	e.sql(t, e.there(t), sql)
	r := e.check(t, placement.ModelShared)
	if e.Server.Version < 180000 {
		assert.Empty(t, r.Problems)
		return
	}
	assert.Contains(t, one(t, r.Problems, preflight.ReplicaFull, "twice").What, "PostgreSQL 18 would refuse")
}

func TestLargeObjectsOfADedicatedDatabaseAreItsTenants(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelDatabase, testhouse.Options{})
	e.sql(t, e.tenant.Home, `select lo_create(0), lo_create(0)`)
	assert.Contains(t, one(t, e.check(t, placement.ModelSchema).Problems, preflight.LargeObjects, e.tenant.Home.Database).What, "2 large objects")
}

func TestValuesThatOthersHaveAreListed(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelDatabase, testhouse.Options{})
	const sql = `
create table codes (tenant_id uuid, id int, code text, n numeric, live bool, primary key (tenant_id, id), constraint by_code unique (code, n));
create unique index by_lower on codes (lower(code)) where live;
create unique index by_n on codes (n)`
	e.sql(t, e.tenant.Home, sql)
	e.sql(t, e.there(t), sql)
	e.sql(t, e.tenant.Home, `insert into codes select '`+e.tenant.Tenant.String()+`', i, 'C' || i, i + 0.5, i % 2 = 0 from generate_series(1, 6000) i;
		insert into codes (tenant_id, id, live) values ('`+e.tenant.Tenant.String()+`', 0, true)`)

	r := e.check(t, placement.ModelShared)
	assert.Empty(t, r.Problems)
	for _, key := range []string{"codes.by_code", "codes.by_lower", "codes.by_n"} {
		assert.Contains(t, one(t, r.Warnings, preflight.GlobalKey, key).What, "leaves tenant_id out")
	}

	e.sql(t, e.there(t), `insert into codes values
		(gen_random_uuid(), 1, 'C5999', 5999.50, true), (gen_random_uuid(), 2, 'c4', 1, true), (gen_random_uuid(), 3, 'c5', 2, true), (gen_random_uuid(), 4, null, null, true)`)
	r = e.check(t, placement.ModelShared)
	assert.Contains(t, one(t, r.Problems, preflight.KeyCollision, "codes.by_code").What, "other tenants have values of the tenant's: (C5999,5999.5)")
	assert.Contains(t, one(t, r.Problems, preflight.KeyCollision, "codes.by_lower").What, "values of the tenant's: (c4)")
	assert.Contains(t, one(t, r.Problems, preflight.KeyCollision, "codes.by_n").What, "(5999.5)")
	assert.Len(t, r.Problems, 3, "a row that is not live, and nulls, are in nobody's way")
}

func TestATenantWithoutTablesIsNotMoved(t *testing.T) {
	t.Parallel()
	for _, model := range []placement.Model{placement.ModelShared, placement.ModelDatabase} {
		e := newEstate(t, model, testhouse.Options{Migrations: fstest.MapFS{}})
		r := e.check(t, placement.ModelSchema)
		p := one(t, r.Problems, preflight.NoTables, e.tenant.Home.String())
		assert.Contains(t, p.Fix, "landlord migrate up")
	}
}
