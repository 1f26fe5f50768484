package follow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/table"
)

// target is a table that is written. Rows are handed to its statements column by column, as arrays of text, which PostgreSQL
// reads as it reads every value of the type: so a statement is the same for one row and for thousands.
type target struct {
	pair   table.Pair
	values []string // columns that the stream tells: all of the pair's but tenant_id, which is the tenant's in every row
	key    []string // the pair's SourceKey
	keys   []int    // places of key in values
	fixed  []bool   // of each of values: an update may not set it, as it is an identity that is always generated
	whose  string   // condition for the tenant's rows of "t"
	// replaces tells that a row cannot be updated in every column, so that it is removed and written anew.
	replaces  bool
	put, drop string // statements
}

func newTarget(p table.Pair) *target {
	t := &target{pair: p, key: p.SourceKey, whose: "true"}
	for _, name := range p.Columns {
		if name != table.TenantID {
			c, _ := p.Target.Column(name)
			t.values = append(t.values, name)
			t.fixed = append(t.fixed, c.Identity == "always")
		}
	}
	for _, name := range t.key {
		t.keys = append(t.keys, slices.Index(t.values, name))
	}
	if p.Target.HasTenantID {
		t.whose = "t." + table.TenantID + " = " + p.Target.Tenant(p.Tenant)
	}
	for i := range t.free() {
		t.replaces = t.replaces || t.fixed[i]
	}
	t.put, t.drop = t.putSQL(), t.dropSQL()
	return t
}

// keyOf returns the key of a row of values.
func (t *target) keyOf(row repl.Tuple) repl.Tuple {
	key := make(repl.Tuple, len(t.keys))
	for i, at := range t.keys {
		key[i] = row[at]
	}
	return key
}

// fixedKey tells that a row cannot be given another key.
func (t *target) fixedKey() bool {
	return slices.ContainsFunc(t.keys, func(i int) bool { return t.fixed[i] })
}

// free yields the places of the values that are not part of the key.
func (t *target) free() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range t.values {
			if !slices.Contains(t.keys, i) && !yield(i) {
				return
			}
		}
	}
}

// value is the SQL for a parameter's element, read as the column's type.
func (t *target) value(column, element string) string {
	c, _ := t.pair.Target.Column(column)
	return element + "::" + c.Cast
}

// unnest makes rows "u" of n array parameters.
func unnest(n int) string {
	if n == 0 {
		return ""
	}
	params, names := make([]string, n), make([]string, n)
	for i := range n {
		params[i], names[i] = "$"+strconv.Itoa(i+1)+"::text[]", "c"+strconv.Itoa(i)
	}
	return "unnest(" + strings.Join(params, ", ") + ") as u (" + strings.Join(names, ", ") + ")"
}

// matches is the condition that "t" is the row whose key begins at the parameter's column first.
func (t *target) matches(first int) string {
	terms := []string{t.whose}
	for i, name := range t.key {
		terms = append(terms, fmt.Sprintf("t.%s = %s", quote(name), t.value(name, "u.c"+strconv.Itoa(first+i))))
	}
	return strings.Join(terms, " and ")
}

func using(word, rows string) string {
	if rows == "" {
		return ""
	}
	return " " + word + " " + rows
}

// dropSQL removes the rows of the keys given.
func (t *target) dropSQL() string {
	return "delete from " + t.pair.Target.From() + " as t" + using("using", unnest(len(t.key))) + " where " + t.matches(0)
}

// putSQL writes whole rows, whether they are there or not.
func (t *target) putSQL() string {
	var columns, values, sets []string
	if t.pair.Target.HasTenantID {
		columns, values = append(columns, quote(table.TenantID)), append(values, t.pair.Target.Tenant(t.pair.Tenant))
	}
	for i, name := range t.values {
		columns = append(columns, quote(name))
		values = append(values, t.value(name, "u.c"+strconv.Itoa(i)))
	}
	for i := range t.free() {
		if !t.fixed[i] {
			sets = append(sets, quote(t.values[i])+" = excluded."+quote(t.values[i]))
		}
	}
	act := "do nothing"
	if len(sets) > 0 {
		act = "do update set " + strings.Join(sets, ", ")
	}
	return fmt.Sprintf("insert into %s (%s) overriding system value select %s%s on conflict (%s) %s",
		t.pair.Target.SQL(), strings.Join(columns, ", "), strings.Join(values, ", "), using("from", unnest(len(t.values))),
		table.Quoted(t.pair.Key, ""), act)
}

// patchSQL sets those values that mask tells, of rows that are there; without any it only finds the rows. All values are given.
func (t *target) patchSQL(mask []bool) string {
	var sets []string
	for i := range t.free() {
		if mask[i] && !t.fixed[i] {
			sets = append(sets, quote(t.values[i])+" = "+t.value(t.values[i], "u.c"+strconv.Itoa(i)))
		}
	}
	terms := []string{t.whose}
	for _, i := range t.keys {
		terms = append(terms, fmt.Sprintf("t.%s = %s", quote(t.values[i]), t.value(t.values[i], "u.c"+strconv.Itoa(i))))
	}
	rows, where := unnest(len(t.values)), strings.Join(terms, " and ")
	if len(sets) == 0 {
		return "select from " + t.pair.Target.From() + " as t, " + rows + " where " + where
	}
	return "update " + t.pair.Target.From() + " as t set " + strings.Join(sets, ", ") + " from " + rows + " where " + where
}

// renameSQL gives rows another key and sets those values that mask tells. The old keys are given behind the values.
func (t *target) renameSQL(mask []bool) string {
	var sets []string
	for i, name := range t.values {
		if mask[i] && !t.fixed[i] {
			sets = append(sets, quote(name)+" = "+t.value(name, "u.c"+strconv.Itoa(i)))
		}
	}
	return "update " + t.pair.Target.From() + " as t set " + strings.Join(sets, ", ") +
		" from " + unnest(len(t.values)+len(t.key)) + " where " + t.matches(len(t.values))
}

// askSQL reads a row of one side; each value of the key is one text parameter.
func (t *target) askSQL(side table.Table) string {
	terms := []string{side.Whose(t.pair.Tenant)}
	for i, name := range t.key {
		c, _ := side.Column(name)
		terms = append(terms, fmt.Sprintf("%s = $%d::text::%s", quote(name), i+1, c.Cast))
	}
	return "select " + table.Quoted(t.values, "") + " from " + side.From() + " where " + strings.Join(terms, " and ")
}

// foreignSQL finds the rows of other tenants that have the values given for a key's columns.
func (t *target) foreignSQL(k table.Key) string {
	terms := []string{"t." + table.TenantID + " <> " + t.pair.Target.Tenant(t.pair.Tenant)}
	for i, name := range k.Columns {
		same := " = "
		if k.NullsEqual {
			same = " is not distinct from "
		}
		terms = append(terms, "t."+quote(name)+same+t.value(name, "u.c"+strconv.Itoa(i)))
	}
	return "select from " + t.pair.Target.From() + " as t, " + unnest(len(k.Columns)) + " where " + strings.Join(terms, " and ")
}

// told says which of the values a row tells.
func told(row repl.Tuple) []bool {
	mask := make([]bool, len(row))
	for i, v := range row {
		mask[i] = v.Kind != repl.Unchanged
	}
	return mask
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// textOID is the type text, and textArrayOID its array.
const textOID, textArrayOID = 25, 1009

// array writes column i of rows as a binary text[].
func array(rows []repl.Tuple, i int) []byte {
	size, null := 20, uint32(0)
	for _, row := range rows {
		size += 4 + len(row[i].Text)
		if row[i].Kind != repl.Text {
			null = 1
		}
	}
	b := make([]byte, 0, size)
	for _, n := range []uint32{1, null, textOID, uint32(len(rows)), 1} { // dimensions, nulls, type, length, first index
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, row := range rows {
		if row[i].Kind != repl.Text {
			b = binary.BigEndian.AppendUint32(b, 1<<32-1)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(row[i].Text)))
		b = append(b, row[i].Text...)
	}
	return b
}
