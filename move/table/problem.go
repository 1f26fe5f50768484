package table

// Code names a kind of problem. Programs may rely on it.
type Code string

// What [Match] finds.
const (
	TableMissing    Code = "table-missing"    // the target has no such table
	TableExtra      Code = "table-extra"      // only the target has it
	TableClass      Code = "table-class"      // not the tenant's there, or nobody could tell whose its rows are
	TableKey        Code = "table-key"        // the target cannot tell the rows apart by what the source does
	TableNoKey      Code = "table-no-key"     // the source has nothing to tell its rows apart by
	TablePartitions Code = "table-partitions" // divided differently
	ColumnMissing   Code = "column-missing"
	ColumnExtra     Code = "column-extra"
	ColumnType      Code = "column-type"
	ColumnCollation Code = "column-collation"
	ColumnNull      Code = "column-null"
	ColumnGenerated Code = "column-generated"
	ColumnIdentity  Code = "column-identity"
)

// Problem is one thing that keeps a tenant from being moved.
type Problem struct {
	Code   Code   `json:"code"`
	Object string `json:"object"` // what it is about: a table, a column, a server
	What   string `json:"what"`   // what is wrong
	Fix    string `json:"fix"`    // what to do about it
}

func (p Problem) String() string { return p.Object + ": " + p.What + "; " + p.Fix }
