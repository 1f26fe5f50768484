package lint

import (
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// create judges what stands behind CREATE.
func (l *linter) create(s *statement, c *cursor) {
	replace := c.accept("or", "replace")
	c.skip("global", "local", "temp", "temporary", "unlogged", "recursive", "constraint", "trusted", "procedural")
	s.again = replace || has(s.tokens[:min(len(s.tokens), 8)], "if", "not", "exists")
	if kind := (&cursor{rest: c.rest}); !replace && slices.Contains(append(dropped, "materialized"), kind.word()) {
		kind.skip("materialized")
		kind.accept(kind.word())
		l.made[kind.objectName()] = true
	}
	switch {
	case c.accept("table"):
		l.createTable(s, c)
	case c.accept("unique", "index"):
		l.createIndex(s, c, true)
	case c.accept("index"):
		l.createIndex(s, c, false)
	case c.accept("view"):
		l.createView(s, c)
	case c.accept("materialized", "view"):
		name := c.objectName()
		l.copies[name] = true
		l.report(s, "view-without-security-invoker", "{view}", name)
	case c.accept("function"), c.accept("procedure"):
		l.createRoutine(s, c)
	case c.accept("domain"):
		name := c.name()
		if has(c.rest, "check") || has(c.rest, "not", "null") {
			l.domains[name] = true
			l.report(s, "domain-constraint", "{name}", name)
		}
	case c.accept("trigger"), c.accept("policy"), c.accept("rule"):
		c.until("on", "to")
		c.skip("on", "to")
		s.table, s.exclusive = c.name(), !hasAny(s.tokens[:min(len(s.tokens), 4)], "trigger")
	case c.accept("type"):
		c.name()
		c.accept("as")
		if attributes, ok := c.parens(); ok && !has(s.tokens, "as", "enum") && !has(s.tokens, "as", "range") {
			for _, attribute := range splitAll(attributes, ",") {
				l.types(s, readColumn(attribute))
			}
		}
	}
	if l.fresh(s.table) {
		s.table, s.exclusive = "", false
	}
}

// objectName passes IF NOT EXISTS and a name.
func (c *cursor) objectName() string {
	c.accept("if", "not", "exists")
	return c.name()
}

// createTable judges CREATE TABLE.
func (l *linter) createTable(s *statement, c *cursor) {
	name := c.objectName()
	if name == "" {
		return
	}
	t := newTable(s)
	t.temporary = hasAny(s.tokens[:min(len(s.tokens), 4)], "temp", "temporary")
	l.tables[name] = t
	t.vague = c.at("partition", "of") || c.at("of")
	elements, _ := c.parens()
	t.vague = t.vague || has(c.rest, "inherits") || has(c.rest, "as")
	for _, element := range splitAll(elements, ",") {
		e := &cursor{rest: element}
		switch {
		case e.at("like"):
			t.vague = true
		case e.startsConstraint():
			l.learn(s, name, e.constraint())
		default:
			col := readColumn(element)
			l.types(s, col)
			l.learnColumn(s, name, col)
		}
	}
	l.narrowKeys(s, name)
	if c.until("as"); c.accept("as") {
		l.reads(s, c)
	}
}

// narrowKeys looks for keys that run out of numbers.
func (l *linter) narrowKeys(s *statement, name string) {
	t := l.of(name)
	for _, c := range t.columns {
		primary := slices.ContainsFunc(keysOf(t), func(key []string) bool { return slices.Equal(key, []string{c.name}) })
		if c.typ.narrow() && (primary || c.identity || c.typ.serial()) {
			l.report(s, "small-key", "{table}", name, "{column}", c.name)
			return
		}
	}
}

// keysOf returns the columns of the unique indexes, the tenant's apart.
func keysOf(t *table) [][]string {
	var keys [][]string
	for name, i := range t.indexes {
		if i.unique && strings.HasSuffix(name, "_pkey") {
			keys = append(keys, slices.DeleteFunc(slices.Clone(i.columns), func(c string) bool { return c == "tenant_id" }))
		}
	}
	return keys
}

// types judges the type of a column.
func (l *linter) types(s *statement, c *column) {
	pairs := []string{"{column}", c.name}
	switch c.typ.base {
	case "json":
		l.report(s, "json-column", pairs...)
	case "timestamp":
		l.report(s, "timestamp-without-time-zone", pairs...)
	case "char":
		l.report(s, "char-type", pairs...)
	}
}

// createIndex judges CREATE INDEX.
func (l *linter) createIndex(s *statement, c *cursor, unique bool) {
	concurrently := c.accept("concurrently")
	ifNotExists := c.accept("if", "not", "exists")
	var name string
	if !c.at("on") {
		name = c.name()
	}
	c.accept("on")
	only := c.accept("only")
	table := c.name()
	ordered := !c.accept("using") || c.name() == "btree"
	columns := c.columns()
	i := index{unique: unique, partial: has(c.rest, "where"), s: s, file: l.file.Name}
	if ordered {
		i.columns = columns
	}
	t := l.of(table)
	pairs := []string{
		"{name}", name, "{table}", table, "{columns}", strings.Join(columns, ", "),
		"{unique}", map[bool]string{true: " unique"}[unique],
	}
	s.table = table
	switch {
	case concurrently:
		l.concurrently(s)
		if name == "" {
			l.report(s, "concurrent-index-unnamed", pairs...)
		}
		if ifNotExists {
			l.report(s, "concurrent-index-if-not-exists", pairs...)
		}
		if l.small(table) {
			l.report(s, "concurrently-on-small-table", pairs...)
		}
		s.again = s.again || l.unmade[name]
	case !t.fresh && !only:
		l.reportOn(s, table, "index-not-concurrent", pairs...)
		s.heavy = true
	}
	if name == "" {
		name = strings.Join(append([]string{table}, append(columns, "idx")...), "_")
	}
	l.index(table, name, i)
}

// concurrently judges any statement that PostgreSQL refuses to run in a transaction for this word.
func (l *linter) concurrently(s *statement) {
	if inTransaction(l.file) || !s.alone || s.block {
		l.report(s, "concurrently-in-transaction")
	}
}

// createView judges CREATE VIEW.
func (l *linter) createView(s *statement, c *cursor) {
	name := c.objectName()
	options := c.until("as")
	if !has(c.rest, "from") {
		return
	}
	for i, t := range options {
		if t.Text == "security_invoker" {
			value := ""
			if rest := options[i+1:]; len(rest) > 1 && is(rest[0], "=") {
				value = rest[1].Text
			}
			if !slices.Contains([]string{"false", "off", "no", "0"}, strings.ToLower(value)) {
				return
			}
		}
	}
	l.report(s, "view-without-security-invoker", "{view}", name)
}

// createRoutine judges the clauses of CREATE FUNCTION; the body runs later.
func (l *linter) createRoutine(s *statement, c *cursor) {
	name := c.name()
	c.parens()
	clauses := c.until("begin")
	path, fixed := false, ""
	for i := range clauses {
		set := &cursor{rest: clauses[i:]}
		if !set.accept("set", "search_path") {
			continue
		}
		path = true
		if set.accept("from", "current") {
			continue
		}
		if !set.symbol("=") {
			set.accept("to")
		}
		for _, schema := range set.schemas() {
			if !slices.Contains([]string{"", "pg_catalog", "pg_temp"}, schema) {
				fixed = schema
			}
		}
	}
	switch {
	case fixed != "":
		l.report(s, "fixed-function-path", "{object}", name, "{schema}", fixed)
	case has(clauses, "security", "definer") && !path:
		l.report(s, "security-definer-path", "{object}", name)
	}
}

// schemas passes the value of a search path.
func (c *cursor) schemas() []string {
	var all []string
	for len(c.rest) > 0 && c.rest[0].Kind != sqltext.Symbol {
		all = append(all, strings.TrimSpace(c.rest[0].Text))
		c.rest = c.rest[1:]
		if !c.symbol(",") {
			break
		}
	}
	return all
}
