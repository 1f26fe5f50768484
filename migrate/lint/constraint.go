package lint

import (
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// constraint is a constraint of a table, as CREATE TABLE or ADD defines it.
type constraint struct {
	name       string
	kind       string // check, unique, primary, foreign, exclude, not
	columns    []string
	expression []sqltext.Token
	using      string // the index that UNIQUE or PRIMARY KEY takes over
	to         string
	notValid   bool
}

var constraintKeywords = []string{"constraint", "check", "unique", "primary", "foreign", "exclude"}

// startsConstraint reports whether a constraint comes next, and not a column.
func (c *cursor) startsConstraint() bool {
	return slices.Contains(constraintKeywords, c.word()) || c.at("not", "null")
}

// constraint passes the definition of a constraint.
func (c *cursor) constraint() constraint {
	var k constraint
	if c.accept("constraint") {
		k.name = c.name()
	}
	k.kind = c.word()
	switch {
	case c.accept("check"):
		k.expression, _ = c.parens()
	case c.accept("unique"), c.accept("primary", "key"):
		if c.accept("using", "index") {
			k.using = c.name()
			break
		}
		c.skip("nulls", "not", "distinct")
		k.columns = c.columns()
	case c.accept("foreign", "key"):
		k.columns = c.columns()
		c.accept("references")
		k.to = c.name()
	case c.accept("not", "null"):
		k.columns = []string{c.name()}
	case c.accept("exclude"):
	default:
		k.kind = "" // nothing that there is
	}
	k.notValid = has(c.rest, "not", "valid")
	return k
}

// named returns the constraint's name, or the one that PostgreSQL gives it.
func (k constraint) named(table string) string {
	if k.name != "" {
		return k.name
	}
	suffix := map[string]string{"check": "check", "unique": "key", "primary": "pkey", "foreign": "fkey", "not": "not_null"}[k.kind]
	if k.kind == "primary" {
		return table + "_" + suffix
	}
	columns := k.columns
	if k.kind == "check" {
		columns = nil
	}
	return strings.Join(append(append([]string{table}, columns...), suffix), "_")
}

// learn notes that a table has a constraint.
func (l *linter) learn(s *statement, name string, k constraint) {
	t := l.of(name)
	switch k.kind {
	case "check":
		t.checks[k.named(name)] = &check{expression: k.expression, valid: !k.notValid, file: l.file.Name}
	case "not":
		expression := []sqltext.Token{{Kind: sqltext.Quoted, Text: k.columns[0]}, word("is"), word("not"), word("null")}
		t.checks[k.named(name)] = &check{expression: expression, valid: !k.notValid, file: l.file.Name}
	case "unique", "primary":
		columns := k.columns
		if k.using != "" {
			columns = t.indexes[k.using].columns
			delete(t.indexes, k.using)
		}
		l.index(name, k.named(name), index{columns: columns, unique: true, s: s, file: l.file.Name})
		if k.kind == "primary" {
			t.notNull(columns...)
		}
	case "foreign":
		t.keys = append(t.keys, foreignKey{name: k.named(name), columns: k.columns, to: k.to, s: s, file: l.file.Name})
	case "exclude":
		l.index(name, k.named(name), index{})
	}
}

func word(text string) sqltext.Token { return sqltext.Token{Kind: sqltext.Word, Text: text} }

// index notes that a table has an index.
func (l *linter) index(table, name string, i index) {
	l.of(table).indexes[name] = i
	l.indexes[name] = table
}

// learnColumn notes that a table has a column, with the constraints in its definition.
func (l *linter) learnColumn(s *statement, name string, c *column) {
	c.notNull = c.notNull || c.identity || c.typ.serial()
	l.of(name).columns[c.name] = c
	columns := []string{c.name}
	if c.check != nil {
		l.learn(s, name, constraint{kind: "check", name: name + "_" + c.name + "_check", expression: c.check})
	}
	if c.primary {
		l.learn(s, name, constraint{kind: "primary", columns: columns})
	}
	if c.unique {
		l.learn(s, name, constraint{kind: "unique", columns: columns})
	}
	if c.references != "" {
		l.learn(s, name, constraint{kind: "foreign", columns: columns, to: c.references})
	}
}

// addConstraint judges ALTER TABLE ... ADD constraint.
func (l *linter) addConstraint(s *statement, table string, k constraint) {
	t := l.of(table)
	pairs := []string{"{name}", k.name, "{columns}", strings.Join(k.columns, ", "), "{expr}", s.source(k.expression), "{ref}", k.to}
	if len(k.columns) > 0 {
		pairs = append(pairs, "{column}", k.columns[0])
	}
	switch {
	case t.fresh:
	case k.kind == "check" && !k.notValid:
		l.reportOn(s, table, "add-check", pairs...)
		s.heavy = true
	case k.kind == "not" && !k.notValid && !t.proves(k.columns[0]):
		l.reportOn(s, table, "set-not-null", pairs...)
		s.heavy = true
	case k.kind == "foreign" && !k.notValid:
		l.reportOn(s, table, "add-foreign-key", pairs...)
		s.heavy = true
	case (k.kind == "unique" || k.kind == "primary") && k.using == "":
		l.reportOn(s, table, "add-unique", append(pairs, "{constraint}", map[string]string{"unique": "unique", "primary": "primary key"}[k.kind])...)
		s.heavy = true
	case k.kind == "primary":
		l.primaryKey(s, table, k)
	case k.kind == "exclude":
		l.reportOn(s, table, "add-exclude", pairs...)
		s.heavy = true
	}
	s.exclusive = s.exclusive || k.kind != "foreign"
	l.learn(s, table, k)
}

// primaryKey judges ADD PRIMARY KEY USING INDEX, which makes columns NOT NULL by the way.
func (l *linter) primaryKey(s *statement, table string, k constraint) {
	t := l.of(table)
	columns := t.indexes[k.using].columns
	if len(columns) == 0 {
		columns = []string{""} // of an index that the set does not show
	}
	for _, name := range columns {
		if c := t.columns[name]; (c == nil || !c.notNull) && !t.proves(name) {
			l.reportOn(s, table, "primary-key-nullable", "{column}", name, "{index}", k.using)
			return
		}
	}
}

// validate judges VALIDATE CONSTRAINT.
func (l *linter) validate(s *statement, table, name string) {
	s.heavy = true
	t := l.of(table)
	here := false
	if c := t.checks[name]; c != nil {
		here, c.valid = !c.valid && c.file == l.file.Name, true
	}
	for _, k := range t.keys {
		here = here || k.name == name && k.file == l.file.Name
	}
	if here && !t.fresh && inTransaction(l.file) {
		l.reportOn(s, table, "validate-in-same-transaction", "{name}", name)
	}
}

// dropConstraint judges DROP CONSTRAINT.
func (l *linter) dropConstraint(s *statement, table, name string) {
	t := l.of(table)
	was := strings.HasSuffix(name, "_fkey") || strings.HasPrefix(name, "fk_") || strings.HasSuffix(name, "_fk")
	t.keys = slices.DeleteFunc(t.keys, func(k foreignKey) bool { was = was || k.name == name; return k.name == name })
	delete(t.checks, name)
	delete(t.indexes, name)
	if was && !t.fresh && l.others(s) {
		l.reportOn(s, table, "drop-foreign-key", "{name}", name)
	}
}

// others reports whether the file's transaction does more than the statement.
func (l *linter) others(s *statement) bool {
	return inTransaction(l.file) && slices.ContainsFunc(l.statements, func(o *statement) bool {
		return o != s && len(o.tokens) > 0 && !quick(o)
	})
}

// quick reports whether a statement takes no time and no lock worth speaking of.
func quick(s *statement) bool {
	c := s.cursor()
	return c.at("comment") || c.at("grant") || c.at("revoke") || c.at("set") || c.at("reset") || c.at("do")
}
