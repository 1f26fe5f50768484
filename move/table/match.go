package table

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// TenantColumn is what becomes of tenant_id on the way.
type TenantColumn string

// What becomes of tenant_id.
const (
	Kept    TenantColumn = "kept"    // both sides have it
	Dropped TenantColumn = "dropped" // only the source has it
	Added   TenantColumn = "added"   // only the target has it: the tenant's id is written there
	Absent  TenantColumn = "absent"  // neither has it
)

// Pair is a tenant-owned table at the source and what it becomes at the target.
type Pair struct {
	Source, Target Table
	Tenant         string // its id
	TenantColumn   TenantColumn
	// Columns are those that are copied, in the source's order: all but generated ones, and tenant_id only where it is kept.
	Columns []string
	// Key tells the target's rows apart, all tenants': with tenant_id where the target has it, in the order of SourceKey behind it.
	Key []string
	// SourceKey tells the tenant's rows at the source apart: the source's key without tenant_id, in its order. Empty: the tenant has
	// at most one row. Its values in this order are what the chunks of a copy are cut by.
	SourceKey []string
}

// Compared are the columns that must be equal on both sides once the rows are there, generated ones too, in the source's order.
func (p Pair) Compared() []string {
	var columns []string
	for _, c := range p.Source.Columns {
		if c.Name != TenantID || p.TenantColumn == Kept {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// Reverse is the way back.
func (p Pair) Reverse() Pair {
	back := Pair{Source: p.Target, Target: p.Source, Tenant: p.Tenant, TenantColumn: p.TenantColumn, SourceKey: p.SourceKey}
	switch p.TenantColumn {
	case Dropped:
		back.TenantColumn = Added
	case Added:
		back.TenantColumn = Dropped
	case Kept, Absent:
	}
	back.Columns = copied(back.Source, back.TenantColumn)
	back.Key = targetKey(back.Target, p.SourceKey)
	return back
}

// sameSchema is what to do when two homes are not built alike.
const sameSchema = "bring both homes to the same version of the same migrations ('landlord migrate status', 'landlord migrate drift')"

// Match pairs the tenant-owned tables of the source with those of the target, by name, and reports whatever differs, but for
// tenant_id. The reference tables must be alike too, though nothing of them is moved. With problems the pairs are those that can be
// made. The same tables give the same pairs and problems in the same order.
func Match(source, target []Table, tenant string) ([]Pair, []Problem) {
	m := matching{tenant: tenant}
	there := byName(target)
	for _, s := range sorted(source) {
		t, ok := there[s.Name]
		delete(there, s.Name)
		if s.Class != Unclassed {
			m.match(s, t, ok)
		}
	}
	for _, t := range sorted(target) {
		if _, alone := there[t.Name]; alone && t.Class != Unclassed {
			m.report(TableExtra, t.Name, "the target has the table, the source has not", sameSchema)
		}
	}
	return m.pairs, m.problems
}

type matching struct {
	tenant   string
	pairs    []Pair
	problems []Problem
}

func (m *matching) report(code Code, object, what, fix string) {
	m.problems = append(m.problems, Problem{Code: code, Object: object, What: what, Fix: fix})
}

func (m *matching) match(s, t Table, there bool) {
	switch {
	case !there:
		m.report(TableMissing, s.Name, "the source has the table, the target has not", sameSchema)
		return
	case s.Class != t.Class:
		m.report(TableClass, s.Name, fmt.Sprintf("the table is %s at the source and %s at the target", s.Class, t.Class),
			"give it a column tenant_id in every home, or the comment 'landlord: reference' or 'landlord: global'")
		return
	}
	m.columns(s, t)
	m.partitions(s, t)
	if s.Class != Owned {
		return
	}
	p := Pair{Source: s, Target: t, Tenant: m.tenant, TenantColumn: tenantColumn(s, t), SourceKey: without(s.Key, TenantID)}
	p.Columns = copied(s, p.TenantColumn)
	if len(s.Key) == 0 {
		m.report(TableNoKey, s.Name, "the table has no primary key and no other replica identity, so its rows cannot be told apart",
			"add a primary key that begins with tenant_id")
		return
	}
	if p.Key = targetKey(t, p.SourceKey); p.Key == nil {
		m.report(TableKey, s.Name, fmt.Sprintf("the source tells rows apart by (%s), and the target has no unique key of (%s)",
			strings.Join(s.Key, ", "), strings.Join(wanted(t, p.SourceKey), ", ")), sameSchema)
		return
	}
	m.pairs = append(m.pairs, p)
}

// columns compares the columns of two tables but for tenant_id, which is null in no row of a tenant.
func (m *matching) columns(s, t Table) {
	for _, a := range s.Columns {
		b, ok := t.Column(a.Name)
		switch {
		case ok:
			m.column(s.Name+"."+a.Name, a, b)
		case a.Name != TenantID:
			m.report(ColumnMissing, s.Name+"."+a.Name, "the source has the column, the target has not", sameSchema)
		}
	}
	for _, b := range t.Columns {
		if _, ok := s.Column(b.Name); !ok && b.Name != TenantID {
			m.report(ColumnExtra, s.Name+"."+b.Name, "the target has the column, the source has not", sameSchema)
		}
	}
}

func (m *matching) column(name string, a, b Column) {
	for _, c := range []struct {
		code Code
		what string
		a, b string
	}{
		{ColumnType, "type", a.Type, b.Type},
		{ColumnType, "labels", strings.Join(a.Labels, ", "), strings.Join(b.Labels, ", ")},
		{ColumnCollation, "collation", a.Collation, b.Collation},
		{ColumnNull, "null", null(a), null(b)},
		{ColumnGenerated, "generated", a.Generated, b.Generated},
		{ColumnIdentity, "identity", a.Identity, b.Identity},
	} {
		if c.a != c.b && (a.Name != TenantID || c.code == ColumnType) {
			m.report(c.code, name, fmt.Sprintf("%s: %s at the source, %s at the target", c.what, cmp.Or(c.a, "none"), cmp.Or(c.b, "none")), sameSchema)
		}
	}
}

func null(c Column) string {
	if c.NotNull {
		return "not null"
	}
	return "null"
}

func (m *matching) partitions(s, t Table) {
	if s.Partitioned != t.Partitioned {
		m.report(TablePartitions, s.Name, "only one side is partitioned", sameSchema)
		return
	}
	a, b := bounds(s), bounds(t)
	missing := slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
	extra := slices.DeleteFunc(b, func(x string) bool { return slices.Contains(a, x) })
	const fix = "make the same partitions in both homes"
	if len(missing) > 0 {
		m.report(TablePartitions, s.Name, "the target lacks partitions "+strings.Join(missing, "; "), fix)
	}
	if len(extra) > 0 {
		m.report(TablePartitions, s.Name, "the source lacks partitions "+strings.Join(extra, "; "), fix)
	}
}

// bounds lists the partitions by what falls into them.
func bounds(t Table) []string {
	var list []string
	for _, p := range t.Partitions {
		list = append(list, p.Bound)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func tenantColumn(s, t Table) TenantColumn {
	switch {
	case s.HasTenantID && t.HasTenantID:
		return Kept
	case s.HasTenantID:
		return Dropped
	case t.HasTenantID:
		return Added
	}
	return Absent
}

// copied lists the columns of s whose values are sent.
func copied(s Table, tenantID TenantColumn) []string {
	var columns []string
	for _, c := range s.Columns {
		if c.Generated == "" && (c.Name != TenantID || tenantID == Kept) {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// targetKey is what tells t's rows apart, if it has a unique key of just these columns. Where t has tenant_id, a key without it is
// none: it would find another tenant's row.
func targetKey(t Table, sourceKey []string) []string {
	want := wanted(t, sourceKey)
	for _, k := range t.Keys {
		if k.Plain() && equalSets(k.Columns, want) {
			return want
		}
	}
	return nil
}

func wanted(t Table, sourceKey []string) []string {
	if t.HasTenantID {
		return append([]string{TenantID}, sourceKey...)
	}
	return sourceKey
}

func equalSets(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == name })
}

func sorted(tables []Table) []Table {
	return slices.SortedFunc(slices.Values(tables), func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
}

func byName(tables []Table) map[string]Table {
	m := make(map[string]Table, len(tables))
	for _, t := range tables {
		m[t.Name] = t
	}
	return m
}
