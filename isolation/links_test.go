package isolation_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
)

func TestTablesThatWouldJoinTwoTenantsRowsAreRefusedWithTheirTransaction(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	for name, c := range map[string]struct{ ddl, want string }{
		"a foreign key without tenant_id": {
			`create table parent (tenant_id uuid, id int unique, primary key (tenant_id, id));
			 create table child (tenant_id uuid, id int, parent int references parent (id) on delete cascade, primary key (tenant_id, id))`,
			"leaves tenant_id out",
		},
		"a foreign key with tenant_id on the wrong side": {
			`create table parent (tenant_id uuid, id uuid unique, other uuid, primary key (tenant_id, id), unique (id, other));
			 create table child (tenant_id uuid, id int, parent uuid, primary key (tenant_id, id),
			     foreign key (tenant_id, parent) references parent (id, other))`,
			"leaves tenant_id out",
		},
		"a tenant's table that inherits from everybody's": {
			`create table everybody (code text); comment on table everybody is 'landlord: reference';
			 create table mine (tenant_id uuid) inherits (everybody)`,
			"only one of them has tenant_id",
		},
	} {
		_, err := h.migrator(t).PgConn().Exec(t.Context(), "begin; "+c.ddl+"; call landlord.secure('public'); commit").ReadAll()
		require.ErrorContains(t, err, c.want, name)
		exec(t, h.migrator(t), "rollback")
	}
	exec(t, h.migrator(t), `begin;
		create table parent (tenant_id uuid, id int, primary key (tenant_id, id));
		create table child (tenant_id uuid, id int, parent int, primary key (tenant_id, id),
		    foreign key (tenant_id, parent) references parent (tenant_id, id));
		call landlord.secure('public'); commit`)
	var n int
	require.NoError(t, h.super(t).QueryRow(t.Context(), "select count(*) from pg_tables where tablename in ('parent', 'child')").Scan(&n))
	require.Equal(t, 2, n)
}
