package lint

import (
	"slices"

	"github.com/landlord-go/landlord/migrate"
)

// contract judges what only the last of the phases may do: it takes away what the application alive before may still use.
func (l *linter) contract(s *statement, table, rule string, pairs ...string) {
	if l.file.Phase != migrate.PhaseContract && !l.fresh(table) {
		l.report(s, rule, append(pairs, "{table}", table)...)
	}
}

// dropped are the kinds of objects that an application calls by name, by the words behind DROP or ALTER.
var dropped = []string{"view", "function", "procedure", "routine", "aggregate", "type", "domain", "sequence"}

// drop judges what stands behind DROP.
func (l *linter) drop(s *statement, c *cursor) {
	s.again = has(s.tokens, "if", "exists")
	switch kind := c.word(); {
	case c.accept("table"):
		c.accept("if", "exists")
		l.dropTables(s, c.names())
	case c.accept("index"):
		l.dropIndex(s, c)
	case c.accept("schema"), c.accept("database"):
		c.accept("if", "exists")
		l.report(s, "drop-schema-or-database", "{name}", c.name())
		l.found[len(l.found)-1].refused = kind == "schema" && !s.block
	case c.accept("materialized", "view"), slices.Contains(dropped, kind):
		if kind != "materialized" {
			c.accept(kind)
		}
		c.accept("if", "exists")
		name := c.name()
		if !l.made[name] {
			l.contract(s, "", "drop-object", "{object}", name)
		}
	case c.accept("trigger"), c.accept("policy"), c.accept("rule"):
		c.until("on")
		c.accept("on")
		if s.table = c.name(); !l.fresh(s.table) {
			s.exclusive = true
		} else {
			s.table = ""
		}
	}
}

func (l *linter) dropTables(s *statement, tables []string) {
	reported := false
	for _, name := range tables {
		t := l.of(name)
		if !t.fresh {
			s.table, s.exclusive = name, true
			if !reported {
				l.contract(s, name, "drop-table")
				reported = true
			}
			if len(t.keys) > 0 && (l.others(s) || len(tables) > 1) {
				l.report(s, "drop-foreign-key", "{table}", name, "{name}", t.keys[0].name)
			}
		}
	}
	for _, name := range tables {
		delete(l.tables, name)
	}
}

func (l *linter) dropIndex(s *statement, c *cursor) {
	concurrently := c.accept("concurrently")
	c.accept("if", "exists")
	for _, name := range c.names() {
		table := l.indexes[name]
		l.unmade[name] = s.again
		if t := l.tables[table]; t != nil {
			delete(t.indexes, name)
		}
		delete(l.indexes, name)
		if concurrently || l.fresh(table) {
			continue
		}
		s.table, s.exclusive = table, true
		l.reportOn(s, table, "drop-index-not-concurrent", "{name}", name)
	}
	if concurrently {
		l.concurrently(s)
	}
}

// dropColumn judges DROP COLUMN.
func (l *linter) dropColumn(s *statement, table, name string) {
	l.contract(s, table, "drop-column", "{column}", name)
	t := l.of(table)
	for _, k := range t.keys {
		if slices.Contains(k.columns, name) && !t.fresh && l.others(s) {
			l.report(s, "drop-foreign-key", "{table}", table, "{name}", k.name)
		}
	}
	delete(t.columns, name)
	for key, i := range t.indexes {
		if slices.Contains(i.columns, name) {
			delete(t.indexes, key)
		}
	}
	t.keys = slices.DeleteFunc(t.keys, func(k foreignKey) bool { return slices.Contains(k.columns, name) })
	for key, c := range t.checks {
		if hasAny(c.expression, name) {
			delete(t.checks, key)
		}
	}
}

// rename judges ALTER TABLE ... RENAME. The names of constraints are nobody's business.
func (l *linter) rename(s *statement, table string, c *cursor) {
	c.accept("rename")
	if c.at("constraint") {
		return
	}
	t := l.of(table)
	c.accept("column")
	var from string
	if !c.at("to") {
		from = c.name()
	}
	c.accept("to")
	to := c.name()
	l.contract(s, table, "rename", "{name}", from, "{to}", to)
	switch col := t.columns[from]; {
	case from == "":
		delete(l.tables, table)
		l.tables[to] = t
	case col != nil:
		delete(t.columns, from)
		col.name, t.columns[to] = to, col
	}
}

// alterOther judges ALTER of anything but tables.
func (l *linter) alterOther(s *statement, c *cursor) {
	c.accept("materialized")
	switch kind := c.word(); {
	case c.accept("type"):
		l.alterType(s, c)
	case c.accept("domain"):
		name := c.name()
		if c.at("set", "not", "null") || c.accept("add") && !has(c.rest, "not", "valid") {
			l.domains[name] = true
			l.report(s, "domain-constraint", "{name}", name)
		} else if has(c.rest, "rename", "to") {
			l.contract(s, "", "rename", "{name}", name)
		}
	case c.accept("policy"):
		c.until("on")
		c.accept("on")
		s.table, s.exclusive = c.name(), true
		if !has(c.rest, "rename", "to") {
			l.report(s, "alters-policy", "{table}", s.table)
		}
	case kind == "view" && hasAny(c.rest, "security_invoker") && hasAny(c.rest, "false", "off", "reset"):
		c.accept("view")
		c.accept("if", "exists")
		l.report(s, "view-without-security-invoker", "{view}", c.name())
	case kind == "index" && has(c.rest, "set", "tablespace"):
		l.report(s, "table-rewrite")
	case slices.Contains(dropped, kind) && has(c.rest, "rename"):
		c.accept(kind)
		c.accept("if", "exists")
		l.contract(s, "", "rename", "{name}", c.name())
	}
}

// alterType judges ALTER TYPE.
func (l *linter) alterType(s *statement, c *cursor) {
	name := c.name()
	switch {
	case c.accept("add", "value"):
		s.again = c.accept("if", "not", "exists")
		if len(c.rest) == 0 {
			return
		}
		value := c.rest[0].Text
		if !has(c.rest, "before") && !has(c.rest, "after") {
			l.report(s, "enum-value-position", "{enum}", name, "{value}", value)
		}
		l.usedAtOnce(s, name, value)
	case c.at("rename"), c.at("drop", "attribute"):
		l.contract(s, "", "rename", "{name}", name)
	}
}
