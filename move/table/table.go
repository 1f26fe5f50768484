// Package table knows what is moved of a home: its tenant-owned tables, read from PostgreSQL's catalog, and which column of which
// table of one home becomes which of another.
//
// It guarantees that two homes match only when every row of one can stand in the other unchanged: the same tables, columns, types,
// collations and generated expressions, but for tenant_id, which either side may lack. What is not equal is reported, all at once.
//
// It reads definitions, never rows. Copying and comparing rows is left to package move, following their changes to package follow.
package table

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// TenantID is the column that tells whose a row is.
const TenantID = "tenant_id"

// Class is whose a table's rows are.
type Class string

// The classes. Global tables are none of a home's, and are left out everywhere.
const (
	Owned     Class = "owned"     // a tenant's: by tenant_id, or because the home is one tenant's
	Reference Class = "reference" // the same in every home
	Unclassed Class = "unclassed" // a shared home's, without tenant_id and without a word of whose it is: nobody's
)

// Identity is what PostgreSQL tells the stream of a row that was changed or deleted.
type Identity string

// The replica identities.
const (
	IdentityKey     Identity = "key"     // the columns of an index: the primary key, or the one that was named
	IdentityFull    Identity = "full"    // the whole row
	IdentityNothing Identity = "nothing" // nothing: changes cannot be followed
)

// Table is a table of a home, or the root of a partitioned one.
type Table struct {
	Schema, Name string
	Class        Class
	Columns      []Column // in their order
	Identity     Identity
	// Key tells rows apart: the columns of the replica identity, or of a key where the identity is full. In their index's order;
	// none: the table has no key.
	Key          []string
	Keys         []Key        // unique keys and exclusion constraints
	ForeignKeys  []ForeignKey // that it has, not those that lead to it
	Triggers     []string     // triggers and rules that run even while rows are moved in (ENABLE ALWAYS or REPLICA)
	Partitioned  bool
	Partitions   []Partition // at all levels
	Inherits     bool        // has or is a child that is no partition
	Foreign      bool        // a foreign table, or one of its partitions is
	Unlogged     bool        // or one of its partitions is
	HasTenantID  bool
	TenantIDType string // of tenant_id, as text is cast to it; empty: none
}

// Column is a column of a table.
type Column struct {
	Name      string
	Type      string   // as PostgreSQL writes it, with its modifier; one of the home's own types without the home's schema
	Cast      string   // the same with every schema but pg_catalog: what text is cast to
	Labels    []string // of an enum, or of an array's
	Collation string   // empty: the type has none; "default": the database's
	Bytewise  bool     // text that is ordered byte by byte
	Binary    bool     // can be sent in binary form to another database
	NotNull   bool
	Generated string    // the expression that it is computed from; empty: it is not
	Identity  string    // "always", "by default"; empty: no identity column
	Sequence  *Sequence // that its default or identity takes numbers from
}

// Sequence is a sequence that a column takes its values from.
type Sequence struct {
	Schema, Name string
	Type         string // smallint, integer, bigint
	Increment    int64
}

// Key is a unique key or an exclusion constraint.
type Key struct {
	Name       string
	Primary    bool
	Exclusion  bool
	Columns    []string // those that it is made of, without expressions
	Terms      []string // columns and expressions in SQL, in order
	Predicate  string   // of a partial one, in SQL
	Deferrable bool
	NullsEqual bool   // nulls collide too
	Definition string // as PostgreSQL writes it
}

// Plain tells whether the key is of columns alone, over all rows, and checked at once: what rows can be told apart by.
func (k Key) Plain() bool {
	return !k.Exclusion && !k.Deferrable && k.Predicate == "" && len(k.Terms) == len(k.Columns)
}

// ForeignKey is a foreign key of a table.
type ForeignKey struct {
	Name                string
	Columns             []string
	RefSchema, RefTable string
	RefColumns          []string // in the order of Columns
}

// Partition is a part of a table, a leaf or a partitioned one.
type Partition struct {
	Schema, Name string
	Level        int    // 1: of the root
	Bound        string // FOR VALUES ...; the home's own types without its schema
	Leaf         bool
	Identity     Identity
	Key          []string
}

// SQL is the table's name for SQL.
func (t Table) SQL() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// From names the table's own rows for SQL: with all partitions, without inherited ones, which are those of another Table.
func (t Table) From() string {
	if t.Partitioned {
		return t.SQL()
	}
	return "only " + t.SQL()
}

// Column returns a column by its name.
func (t Table) Column(name string) (Column, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{}, false
	}
	return t.Columns[i], true
}

// Whose is the SQL condition under which a row of t is the tenant's: on tenant_id, or true where the table has none.
func (t Table) Whose(tenant string) string {
	if !t.HasTenantID {
		return "true"
	}
	return TenantID + " = " + t.Tenant(tenant)
}

// Tenant is the tenant's id as an SQL constant of tenant_id's type.
func (t Table) Tenant(tenant string) string { return Literal(tenant) + "::" + t.TenantIDType }

// Quoted lists columns for SQL, separated by commas, each with prefix in front.
func Quoted(columns []string, prefix string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = prefix + pgx.Identifier{c}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// Literal writes s as an SQL constant, whatever standard_conforming_strings is, for statements that take no parameters. s must have no zero byte.
func Literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}
