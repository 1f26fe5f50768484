package lint

import (
	"slices"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// table is what the files say of a table.
type table struct {
	fresh bool       // made by the file that is being read
	s     *statement // that made it

	// vague tables have columns that the files do not name: those of another table, a parent or a query.
	vague     bool
	temporary bool
	class     string // what the comment says: reference, global
	columns   map[string]*column
	checks    map[string]*check
	indexes   map[string]index
	keys      []foreignKey
}

// check is a CHECK constraint.
type check struct {
	expression []sqltext.Token
	valid      bool
	file       string // that made it
}

// index is an index or a constraint that has one.
type index struct {
	columns []string // none where it finds no rows by a column: of another kind than btree
	unique  bool
	partial bool
	s       *statement // that made it
	file    string
}

// foreignKey refers from the columns of a table to another.
type foreignKey struct {
	name    string
	columns []string
	to      string
	s       *statement // of the file that made it
	file    string
}

func newTable(s *statement) *table {
	return &table{fresh: true, s: s, columns: map[string]*column{}, checks: map[string]*check{}, indexes: map[string]index{}}
}

// of returns what is known of a table; where that is nothing, it is a table that no file of the set has made.
func (l *linter) of(name string) *table {
	t := l.tables[name]
	if t == nil {
		t = newTable(&statement{})
		t.fresh, t.vague = false, true
		l.tables[name] = t
	}
	return t
}

func (l *linter) fresh(name string) bool { return l.tables[name] != nil && l.tables[name].fresh }

// owned reports whether rows of the table belong to tenants.
func (t *table) owned() bool { return t.columns["tenant_id"] != nil }

// proves reports whether a valid CHECK says that the column is not null.
func (t *table) proves(column string) bool {
	for _, c := range t.checks {
		for _, part := range conjuncts(c.expression) {
			e := &cursor{rest: part}
			if c.valid && e.name() == column && e.accept("is", "not", "null") && len(e.rest) == 0 {
				return true
			}
		}
	}
	return false
}

// conjuncts parts an expression at its ANDs, and takes off parentheses around all of it.
func conjuncts(e []sqltext.Token) [][]sqltext.Token {
	for range 8 { // more of them are somebody's joke
		c := &cursor{rest: e}
		inner, ok := c.parens()
		if !ok || len(c.rest) > 0 {
			break
		}
		e = inner
	}
	var parts [][]sqltext.Token
	c := &cursor{rest: e}
	for len(c.rest) > 0 {
		parts = append(parts, c.until("and"))
		c.accept("and")
	}
	return parts
}

// checked reports whether a CHECK mentions the column.
func (t *table) checked(column string) bool {
	for _, c := range t.checks {
		if hasAny(c.expression, column) {
			return true
		}
	}
	return false
}

// findable reports whether some index begins with the columns, in whatever order.
func (t *table) findable(columns []string) bool {
	for _, i := range t.indexes {
		if !i.partial && len(i.columns) >= len(columns) && !slices.ContainsFunc(i.columns[:len(columns)], func(c string) bool { return !slices.Contains(columns, c) }) {
			return true
		}
	}
	return false
}

// identifies reports whether at most one row has a given value of the column.
func (t *table) identifies(column string) bool {
	for _, i := range t.indexes {
		if i.unique && !i.partial && slices.Equal(i.columns, []string{column}) {
			return true
		}
	}
	return false
}

// notNull notes that a column has no nulls.
func (t *table) notNull(columns ...string) {
	for _, name := range columns {
		if c := t.columns[name]; c != nil {
			c.notNull = true
		}
	}
}
