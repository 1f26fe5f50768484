package isolation_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// deleted counts, per table, a tenant's rows as the superuser sees them.
func (p *place) rows(t *testing.T, tenant string, tables ...string) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for _, table := range tables {
		counts[table] = count(t, p.super(t), "select from "+ident(p.schema, table)+" where tenant_id = $1", tenant)
	}
	return counts
}

func TestDeleteRowsTakesExactlyOneTenantsRows(t *testing.T) {
	t.Parallel()
	const many = 6_000 // more than one batch
	for name, c := range map[string]struct {
		ddl, fill string // $1 is the tenant
		tables    []string
	}{
		"parents and children": {
			`create table parent (tenant_id uuid, id int, primary key (tenant_id, id));
create table child (tenant_id uuid, id int, parent int, primary key (tenant_id, id), foreign key (tenant_id, parent) references parent);
create table grandchild (tenant_id uuid, id int, child int, foreign key (tenant_id, child) references child on delete restrict);
create index on child (tenant_id, parent); create index on grandchild (tenant_id, child)`,
			`insert into parent select %[1]s, n from generate_series(1, %[2]d) n;
insert into child select %[1]s, n, n from generate_series(1, %[2]d) n;
insert into grandchild select %[1]s, n, n from generate_series(1, %[2]d) n`,
			[]string{"parent", "child", "grandchild"},
		},
		"a table that refers to itself": {
			`create table tree (tenant_id uuid, id int, up int, primary key (tenant_id, id), foreign key (tenant_id, up) references tree);
create index on tree (tenant_id, up)`,
			`insert into tree select %[1]s, n, nullif(n / 2, 0) from generate_series(1, %[2]d) n`,
			[]string{"tree"},
		},
		"itself, restricting": {
			`create table tree (tenant_id uuid, id int, up int, primary key (tenant_id, id), foreign key (tenant_id, up) references tree on delete restrict);
create index on tree (tenant_id, up)`,
			`insert into tree select %[1]s, n, %[2]d - n + 1 from generate_series(1, %[2]d) n`,
			[]string{"tree"},
		},
		"itself, cascading and set to null": {
			`create table tree (tenant_id uuid, id int, up int, side int, primary key (tenant_id, id),
foreign key (tenant_id, up) references tree on delete cascade, foreign key (tenant_id, side) references tree on delete set null);
create index on tree (tenant_id, up); create index on tree (tenant_id, side)`,
			`insert into tree select %[1]s, n, nullif(n / 2, 0), %[2]d - n + 1 from generate_series(1, %[2]d) n`,
			[]string{"tree"},
		},
		"a circle": {
			`create table a (tenant_id uuid, id int, b int, primary key (tenant_id, id));
create table b (tenant_id uuid, id int, c int, primary key (tenant_id, id));
create table c (tenant_id uuid, id int, a int, primary key (tenant_id, id), foreign key (tenant_id, a) references a);
alter table a add foreign key (tenant_id, b) references b deferrable; alter table b add foreign key (tenant_id, c) references c deferrable initially deferred;
create table beside (tenant_id uuid, a int, foreign key (tenant_id, a) references a);
create index on a (tenant_id, b); create index on b (tenant_id, c); create index on c (tenant_id, a); create index on beside (tenant_id, a)`,
			`insert into b select %[1]s, n, n from generate_series(1, %[2]d) n; insert into c select %[1]s, n, null from generate_series(1, %[2]d) n;
insert into a select %[1]s, n, n from generate_series(1, %[2]d) n; update c set a = id where tenant_id = %[1]s; insert into beside select %[1]s, n from generate_series(1, %[2]d) n`,
			[]string{"a", "b", "c", "beside"},
		},
		"partitions and heirs": {
			`create table event (tenant_id uuid, n int) partition by hash (n); create table event_0 partition of event for values with (modulus 2, remainder 0);
create table event_1 partition of event for values with (modulus 2, remainder 1); create table base (tenant_id uuid, n int); create table heir () inherits (base)`,
			`insert into event select %[1]s, n from generate_series(1, %[2]d) n; insert into base select %[1]s, n from generate_series(1, %[2]d) n;
insert into heir select %[1]s, n from generate_series(1, %[2]d) n`,
			[]string{"event", "base", "heir"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, "shared")
			p.build(t, p.schema, "", c.ddl)
			for _, tenant := range []string{p.tenant, p.other} {
				exec(t, p.migrator(t), "begin; "+fmt.Sprintf(c.fill, lit(tenant), many)+"; commit")
			}
			tables := append(c.tables, "note")
			before := p.rows(t, p.other, tables...)
			total := 0
			for table, n := range p.rows(t, p.tenant, tables...) {
				require.NotZero(t, n, table)
				if table != "base" { // its heir is counted with it
					total += n
				}
			}
			if name == "partitions and heirs" {
				total = 3*many + ownRows
			}
			deleted, err := isolation.DeleteRows(t.Context(), p.super(t), p.schema, p.tenant)
			require.NoError(t, err)
			if name != "itself, cascading and set to null" { // what a cascade takes is not counted
				require.EqualValues(t, total, deleted)
			}
			for table, n := range p.rows(t, p.tenant, tables...) {
				require.Zero(t, n, table)
			}
			require.Equal(t, before, p.rows(t, p.other, tables...))
			require.Equal(t, 1, count(t, p.super(t), "select from reference"))
			deleted, err = isolation.DeleteRows(t.Context(), p.super(t), p.schema, p.tenant)
			require.NoError(t, err)
			require.Zero(t, deleted, "again")
		})
	}
}

func TestDeleteRowsSaysWhatStandsInItsWay(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	exec(t, p.super(t), "create schema elsewhere; create table elsewhere.pin (tenant_id uuid, note bigint, foreign key (tenant_id, note) references public.note)")
	_, err := p.super(t).Exec(t.Context(), "insert into elsewhere.pin select tenant_id, id from note where tenant_id = $1", p.tenant)
	require.NoError(t, err)
	_, err = isolation.DeleteRows(t.Context(), p.super(t), p.schema, p.tenant)
	requireCode(t, pgerr.ForeignKeyViolation, err)
	require.ErrorContains(t, err, "public.note")
	require.Equal(t, ownRows, p.rows(t, p.tenant, "note")["note"])

	// A login without BYPASSRLS cannot do it by mistake: no tenant is an error, not nothing to do.
	_, err = isolation.DeleteRows(t.Context(), p.app(t), p.schema, p.tenant)
	require.Error(t, err)
}

// Rows go in short transactions, and what has gone stays gone when one of them is cut short.
func TestDeleteRowsCanBeInterruptedAndRepeated(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	p.build(t, p.schema, "", "create table thing (tenant_id uuid, id int, primary key (tenant_id, id))")
	for _, tenant := range []string{p.tenant, p.other} {
		exec(t, p.migrator(t), "insert into thing select "+lit(tenant)+", n from generate_series(1, 11000) n")
	}
	// Somebody holds one row of the last batch.
	holder := p.dial(t, nil)
	exec(t, holder, "begin; select * from thing where tenant_id = "+lit(p.tenant)+" and id = 10500 for update")
	worker := p.dial(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := isolation.DeleteRows(t.Context(), worker, p.schema, p.tenant)
		done <- err
	}()
	p.waits(t, worker)
	_, err := p.super(t).Exec(t.Context(), "select pg_terminate_backend($1)", worker.PgConn().PID())
	require.NoError(t, err)
	require.Error(t, <-done)
	require.Equal(t, 1000, p.rows(t, p.tenant, "thing")["thing"])
	exec(t, holder, "commit")
	deleted, err := isolation.DeleteRows(t.Context(), p.super(t), p.schema, p.tenant)
	require.NoError(t, err)
	require.LessOrEqual(t, deleted, int64(1000+ownRows))
	require.Zero(t, p.rows(t, p.tenant, "thing")["thing"])
	require.Equal(t, 11000, p.rows(t, p.other, "thing")["thing"])
}

func TestHostileTenantsRowsAreDeleted(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	h.build(t, "public", "", `create table "it's a ""table""" (tenant_id text, id int); create table number (tenant_id bigint)`)
	super := h.super(t)
	for i, id := range hostile {
		_, err := super.Exec(t.Context(), `insert into "it's a ""table""" values ($1, $2)`, id, i)
		require.NoError(t, err)
	}
	for i, id := range hostile {
		if _, err := strconv.ParseInt(id, 10, 64); err != nil {
			exec(t, super, "drop table if exists number") // an installation has one type of ids
		}
		deleted, err := isolation.DeleteRows(t.Context(), super, "public", id)
		require.NoError(t, err, "%q", id)
		require.EqualValues(t, 1, deleted)
		require.Equal(t, len(hostile)-i-1, count(t, super, `select from "it's a ""table"""`))
	}
}

func TestDrainWaitsForTheTenantsOpenTransactions(t *testing.T) {
	t.Parallel()
	eachMode(t, modes, func(t *testing.T, p *place) {
		for _, options := range []string{"", "read only"} {
			open := p.app(t)
			p.begin(t, open, p.tenant, options)
			neighbour := p.app(t)
			p.begin(t, neighbour, p.other, options)
			drainer := p.dial(t, nil)
			done := make(chan error, 1)
			go func() { done <- isolation.Drain(t.Context(), drainer, p.tenant, p.name) }()
			p.waits(t, drainer)
			exec(t, open, "commit")
			require.NoError(t, <-done)
			p.visit(t, p.tenant, func(*pgx.Conn) {}) // and lets go
		}
	})
}
