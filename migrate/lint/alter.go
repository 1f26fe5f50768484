package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// alterTable judges ALTER TABLE.
func (l *linter) alterTable(s *statement, c *cursor) {
	if c.accept("all", "in", "tablespace") {
		l.report(s, "table-rewrite")
		return
	}
	c.accept("if", "exists")
	c.accept("only")
	table := c.name()
	c.symbol("*")
	s.table, s.combine, s.again = table, true, true
	actions := splitAll(c.rest, ",")
	// PostgreSQL drops before it does anything else, wherever that is written.
	slices.SortStableFunc(actions, func(a, b []sqltext.Token) int { return turn(a) - turn(b) })
	for _, action := range actions {
		l.alterAction(s, table, &cursor{rest: action})
	}
	if l.fresh(table) {
		s.table, s.exclusive, s.heavy, s.combine = "", false, false, false
	}
}

// turn is when an action is done: the smaller the earlier.
func turn(action []sqltext.Token) int {
	if (&cursor{rest: action}).at("drop") {
		return 0
	}
	return 1
}

// alterAction judges one of the actions of ALTER TABLE.
func (l *linter) alterAction(s *statement, table string, c *cursor) {
	exclusive := true
	switch {
	case c.accept("add"):
		if c.startsConstraint() {
			s.again = false
			l.addConstraint(s, table, c.constraint())
			return
		}
		c.accept("column")
		s.again = s.again && c.at("if", "not", "exists")
		c.accept("if", "not", "exists")
		l.addColumn(s, table, readColumn(c.rest))
	case c.accept("drop", "constraint"):
		s.again = s.again && c.accept("if", "exists")
		l.dropConstraint(s, table, c.name())
	case c.accept("drop"):
		c.accept("column")
		s.again = s.again && c.accept("if", "exists")
		l.dropColumn(s, table, c.name())
	case c.accept("alter"):
		c.accept("column")
		exclusive = l.alterColumn(s, table, c.name(), c)
	case c.at("rename"):
		s.combine, s.again = false, false
		l.rename(s, table, c)
	case c.accept("validate", "constraint"):
		exclusive, s.combine = false, false
		l.validate(s, table, c.name())
	case c.at("set", "logged"), c.at("set", "unlogged"), c.at("set", "tablespace"), c.at("set", "access", "method"):
		s.heavy = true
		if !l.fresh(table) {
			l.reportOn(s, table, "table-rewrite")
		}
	case c.at("disable", "row", "level", "security"), c.at("no", "force", "row", "level", "security"):
		l.report(s, "row-security-off", "{table}", table)
	case c.accept("attach", "partition"):
		exclusive, s.combine, s.again = false, false, false
		l.attach(s, table, c.name())
	case c.accept("detach", "partition"):
		s.combine, s.again = false, false
		exclusive = l.detach(s, table, c)
	case c.at("set"), c.at("reset"), c.at("enable", "trigger"), c.at("disable", "trigger"), c.at("cluster"), c.at("owner"):
		exclusive = false
	}
	s.exclusive = s.exclusive || exclusive
}

// addColumn judges ADD COLUMN.
func (l *linter) addColumn(s *statement, table string, c *column) {
	l.types(s, c)
	s.exclusive = true
	t := l.of(table)
	l.learnColumn(s, table, c)
	if t.fresh {
		return
	}
	pairs := []string{"{column}", c.name, "{type}", c.typ.String(), "{expr}", s.source(c.check), "{ref}", c.references}
	rewrite := volatile(c.value) || c.typ.serial() || c.identity || c.stored || l.domains[c.typ.base]
	if rewrite {
		plain, value := c.plainly(s, table, l.domains[c.typ.base])
		l.reportOn(s, table, "add-column-rewrite", "{column}", c.name, "{type}", plain, "{default}", value)
	}
	if c.check != nil {
		l.reportOn(s, table, "add-column-check", pairs...)
	}
	if c.references != "" {
		l.reportOn(s, table, "add-column-references", pairs...)
	}
	if c.unique || c.primary {
		l.reportOn(s, table, "add-column-unique", pairs...)
	}
	if c.notNull && len(c.value) == 0 && !rewrite && !c.primary {
		l.report(s, "add-column-not-null", append(pairs, "{table}", table)...)
	}
	s.heavy = s.heavy || rewrite || c.check != nil || c.references != "" || c.unique || c.primary
}

// plainly returns type and default that give a column its values without a rewrite.
func (c *column) plainly(s *statement, table string, domain bool) (typ, value string) {
	switch {
	case c.typ.serial(), c.identity:
		return "bigint", fmt.Sprintf("nextval('%s_%s_seq')", table, c.name)
	case c.stored:
		return c.typ.String(), "null"
	case domain:
		return "", cmp.Or(s.source(c.value), "null")
	}
	return c.typ.String(), s.source(c.value)
}

// alterColumn judges ALTER COLUMN, and reports whether it keeps everybody out.
func (l *linter) alterColumn(s *statement, table, name string, c *cursor) (exclusive bool) {
	t := l.of(table)
	column := t.columns[name]
	switch {
	case c.accept("set", "data", "type"), c.accept("type"):
		to := readType(c.until("using", "collate"))
		c.until("using")
		c.accept("using")
		l.changeType(s, table, name, to, c.rest)
	case c.at("set", "not", "null"):
		if !t.fresh && !t.proves(name) && (column == nil || !column.notNull) {
			l.reportOn(s, table, "set-not-null", "{column}", name)
			s.heavy = true
		}
		t.notNull(name)
	case c.at("drop", "not", "null"):
		if column != nil {
			column.notNull = false
		}
		l.contract(s, table, "drop-not-null", "{column}", name)
	case c.at("set", "expression"), c.at("add", "generated"):
		if !t.fresh && c.at("set") {
			l.reportOn(s, table, "table-rewrite")
			s.heavy = true
		}
	case c.at("set", "statistics"), c.at("reset"), c.at("set", "compression"):
		return false
	}
	return true
}

// changeType judges ALTER COLUMN ... TYPE.
func (l *linter) changeType(s *statement, table, name string, to dataType, using []sqltext.Token) {
	t := l.of(table)
	column := t.columns[name]
	if column == nil {
		column = &typeless
	}
	pairs := []string{"{column}", name, "{type}", to.String()}
	switch {
	case t.fresh:
	case !column.typ.becomes(to) || !converts(using, name):
		l.reportOn(s, table, "change-type-rewrite", pairs...)
		s.heavy = true
	case t.checked(name):
		l.reportOn(s, table, "change-type-checked", pairs...)
		s.heavy = true
	}
	if known := t.columns[name]; known != nil {
		known.typ = to
		l.types(s, known)
	}
}

// typeless is a column that no file of the set has made.
var typeless column

// converts reports whether USING does no more than PostgreSQL does without it: nothing, the column, column::type.
func converts(using []sqltext.Token, column string) bool {
	c := &cursor{rest: using}
	return len(using) == 0 || c.name() == column && (len(c.rest) == 0 || is(c.rest[0], ":"))
}

// String writes the type as SQL.
func (t dataType) String() string {
	name := t.base
	if len(t.args) > 0 {
		name += "(" + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(t.args)), ", "), "[]") + ")"
	}
	if t.array {
		name += "[]"
	}
	return name
}

// attach judges ATTACH PARTITION.
func (l *linter) attach(s *statement, table, partition string) {
	child := l.of(partition)
	for _, c := range child.checks {
		if c.valid {
			return // whether it implies the bounds is for PostgreSQL to tell
		}
	}
	if !child.fresh && !l.fresh(table) {
		l.reportOn(s, partition, "attach-without-check", "{ref}", table)
		s.heavy = true
	}
}

// detach judges DETACH PARTITION, and reports whether it keeps everybody out.
func (l *linter) detach(s *statement, table string, c *cursor) (exclusive bool) {
	partition := c.name()
	switch {
	case c.at("finalize"):
		return false
	case c.at("concurrently"):
		l.concurrently(s)
		return false
	}
	if !l.fresh(table) {
		l.report(s, "detach-not-concurrent", "{table}", table, "{ref}", partition)
	}
	return true
}
