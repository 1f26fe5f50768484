package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// inspect reads a side's tables and checks each by itself. What is wrong at the target would be wrong on the way back.
func (c *checker) inspect(ctx context.Context, s *side) (err error) {
	s.tables, err = table.Inspect(ctx, s.conn, table.Home{Schema: s.home.Schema, Dedicated: s.model != placement.ModelShared})
	if err != nil {
		return err
	}
	if len(owned(s.tables)) == 0 && s == c.source {
		c.problem(NoTables, "home "+s.home.String(), "the tenant has no tables there, so that there is nothing to move",
			"apply the application's migrations ('landlord migrate up'), or remove the tenant and add it where it is to live")
	}
	for _, t := range owned(s.tables) {
		if t.Foreign {
			c.problem(ForeignTable, t.Name, "it is a foreign table, or has a partition that is one", "keep its rows in a table of the home")
			continue
		}
		if t.Unlogged {
			c.problem(UnloggedTable, t.Name, "it is unlogged, or has a partition that is: its changes are not in the WAL", "alter table ... set logged")
		}
		for _, trigger := range t.Triggers {
			c.problem(ActiveTrigger, t.Name, trigger+" fires for rows that are moved, too",
				"enable it for the application's changes only (alter table ... enable trigger, without always or replica)")
		}
		if !c.Offline {
			c.identity(s, t)
		}
		for _, k := range t.Keys {
			c.key(s, t, k)
		}
		for _, f := range t.ForeignKeys {
			c.foreignKey(s, t, f)
		}
	}
	return nil
}

// sequences looks for numbers that sessions of other tenants keep back, of tables to which the tenant is brought, or back: it would be
// given some that its rows have already, however far the sequence is put forward.
func (c *checker) sequences(ctx context.Context, s *side) error {
	if s.model != placement.ModelShared || c.Offline && s == c.source {
		return nil
	}
	var names, columns []string
	for _, t := range owned(s.tables) {
		for _, column := range t.Columns {
			if column.Sequence != nil {
				names = append(names, pgx.Identifier{column.Sequence.Schema, column.Sequence.Name}.Sanitize())
				columns = append(columns, t.Name+"."+column.Name)
			}
		}
	}
	loose, err := table.Sequences(ctx, s.conn, s.home.Schema)
	if err != nil {
		return err
	}
	for _, sequence := range loose { // those that no column names, too
		name := pgx.Identifier{sequence.Schema, sequence.Name}.Sanitize()
		if !slices.Contains(names, name) {
			names, columns = append(names, name), append(columns, sequence.Name)
		}
	}
	const q = `
select w.name, w.column_name, s.seqcache from unnest($1::text[], $2::text[]) as w (name, column_name) join pg_sequence s on s.seqrelid = w.name::regclass
 where s.seqcache > 1`
	rows, err := s.conn.Query(ctx, q, names, columns)
	if err != nil {
		return err
	}
	var name, column string
	var cache int64
	_, err = pgx.ForEachRow(rows, []any{&name, &column, &cache}, func() error {
		c.problem(SequenceCache, column, fmt.Sprintf("sequence %s of the shared home %s has cache %d: sessions keep numbers back that the tenant may have used elsewhere",
			name, s.home, cache), "alter sequence "+name+" cache 1, by a migration, and then restart the application, whose sessions still keep some")
		return nil
	})
	return err
}

func owned(tables []table.Table) []table.Table {
	return slices.DeleteFunc(slices.Clone(tables), func(t table.Table) bool { return t.Class != table.Owned })
}

// identity checks what the stream tells of changed rows. In a shared home the tenant's rows are chosen by tenant_id, so it has to be
// told of every row, or PostgreSQL refuses every tenant's update and delete as soon as the publication is there.
func (c *checker) identity(s *side, t table.Table) {
	const fix = "make tenant_id part of the primary key, or alter table ... replica identity using index, with a unique index of columns that are not null, tenant_id one of them"
	if t.Identity == table.IdentityNothing {
		if len(t.Keys) > 0 || s.name == "target" { // of a source without any key Match tells
			c.problem(ReplicaKey, t.Name, "it has no replica identity: its changes cannot be followed", fix)
		}
		return
	}
	if t.Identity == table.IdentityKey && s.model == placement.ModelShared && !slices.Contains(t.Key, table.TenantID) {
		c.problem(ReplicaKey, t.Name, fmt.Sprintf("its replica identity (%s) leaves tenant_id out: one tenant's rows cannot be followed", strings.Join(t.Key, ", ")), fix)
	}
	for _, p := range t.Partitions {
		if p.Leaf && (p.Identity == table.IdentityNothing || p.Identity == table.IdentityKey && s.model == placement.ModelShared && !slices.Contains(p.Key, table.TenantID)) {
			c.problem(ReplicaKey, t.Name, "the replica identity of its partition "+p.Name+" leaves tenant_id out, or there is none", fix)
		}
	}
	stored := slices.ContainsFunc(t.Columns, func(col table.Column) bool { return col.Generated != "" })
	if t.Identity == table.IdentityFull && stored && s.server.version >= 180000 {
		c.problem(ReplicaFull, t.Name, "its replica identity is full and it has a generated column: PostgreSQL 18 would refuse every update once the table is published",
			"alter table ... replica identity default, with a primary key")
	}
}

// key checks a unique key by itself.
func (c *checker) key(s *side, t table.Table, k table.Key) {
	if k.Deferrable {
		c.problem(LateKey, t.Name+"."+k.Name, "the key is deferrable: changes cannot be applied in the order in which it held", "make it not deferrable")
	}
	if k.Exclusion && s.name == "target" && t.HasTenantID && s.model == placement.ModelShared && !slices.Contains(k.Columns, table.TenantID) {
		c.problem(ExclusionKey, t.Name+"."+k.Name, "the exclusion constraint leaves tenant_id out: the tenant's rows may exclude another's", "add tenant_id with =")
	}
}

// foreignKey checks that a key of a shared home stays with its tenant.
func (c *checker) foreignKey(s *side, t table.Table, f table.ForeignKey) {
	i := slices.IndexFunc(s.tables, func(r table.Table) bool {
		return r.Schema == f.RefSchema && r.Name == f.RefTable && r.Class == table.Owned
	})
	if i < 0 || s.model != placement.ModelShared {
		return
	}
	at, to := slices.Index(f.Columns, table.TenantID), slices.Index(f.RefColumns, table.TenantID)
	if at < 0 || at != to {
		c.problem(CrossingKey, t.Name+"."+f.Name, "the foreign key to "+f.RefTable+" leaves tenant_id out: it may lead to another tenant's row",
			"begin both sides of the key with tenant_id")
	}
}

// crossing looks for rows that another tenant's refer to, or that refer to another tenant's: the tenant would leave them behind.
func (c *checker) crossing(ctx context.Context, s *side) error {
	if s.model != placement.ModelShared {
		return nil
	}
	for _, t := range owned(s.tables) {
		for _, f := range t.ForeignKeys {
			i := slices.IndexFunc(s.tables, func(r table.Table) bool {
				return r.Schema == f.RefSchema && r.Name == f.RefTable && r.Class == table.Owned
			})
			if i < 0 || slices.Contains(f.Columns, table.TenantID) && slices.Contains(f.RefColumns, table.TenantID) {
				continue
			}
			r := s.tables[i]
			var on []string
			for n := range f.Columns {
				on = append(on, table.Quoted(f.Columns[n:n+1], "a.")+" = "+table.Quoted(f.RefColumns[n:n+1], "b."))
			}
			q := fmt.Sprintf(`select count(*) from (select from %s a join %s b on %s where (a.tenant_id = %[4]s) <> (b.tenant_id = %[4]s) limit 100) x`,
				t.SQL(), r.SQL(), strings.Join(on, " and "), t.Tenant(c.Tenant.ID.String()))
			var n int
			err := within(ctx, s, 10*time.Second, func(tx pgx.Tx) error { return tx.QueryRow(ctx, q).Scan(&n) })
			if err != nil {
				return fmt.Errorf("foreign key %s of %s: %w", f.Name, t.Name, err)
			}
			if n > 0 {
				c.problem(CrossingKey, t.Name+"."+f.Name, fmt.Sprintf("%d rows (or more, from 100 on) join the tenant's and another tenant's", n),
					"correct them: each refers to a row of another tenant, which cannot come along")
			}
		}
	}
	return nil
}

// foreignRows looks for rows of other tenants in a home that is the tenant's alone. They would come to stand among that tenant's.
func (c *checker) foreignRows(ctx context.Context, s *side) error {
	if s.model == placement.ModelShared {
		return nil
	}
	for _, t := range owned(s.tables) {
		if !t.HasTenantID {
			continue
		}
		// Two ranges, so that the key's index is used.
		id := t.Tenant(c.Tenant.ID.String())
		q := fmt.Sprintf(`select exists (select from %[1]s where tenant_id < %[2]s) or exists (select from %[1]s where tenant_id > %[2]s)`, t.SQL(), id)
		var any bool
		err := within(ctx, s, 10*time.Second, func(tx pgx.Tx) error { return tx.QueryRow(ctx, q).Scan(&any) })
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		if any {
			c.problem(ForeignRows, t.Name, "the home is the tenant's alone, and has rows of another tenant_id", "see whose they are, and remove them")
		}
	}
	return nil
}

// match compares the tables of both sides.
func (c *checker) match() {
	if c.source.tables == nil || c.target.tables == nil {
		return
	}
	var problems []table.Problem
	c.pairs, problems = table.Match(c.source.tables, c.target.tables, c.Tenant.ID.String())
	for _, p := range problems {
		c.problem(p.Code, p.Object, p.What, p.Fix)
	}
}
