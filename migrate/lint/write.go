package lint

import (
	"slices"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// usedAtOnce looks for a new enum value in what follows within the transaction that makes it.
func (l *linter) usedAtOnce(s *statement, name, value string) {
	if inTransaction(l.file) && l.literals[value] > s.at {
		l.report(s, "enum-value-used", "{enum}", name, "{value}", value)
	}
}

// write judges INSERT, UPDATE, DELETE and MERGE, on their own and within WITH.
func (l *linter) write(s *statement) {
	if has(s.tokens, "limit") {
		return
	}
	for i := range s.tokens {
		c := &cursor{rest: s.tokens[i:]}
		switch {
		case i > 0 && !startsClause(s.tokens[i-1]):
		case c.accept("update"):
			c.accept("only")
			if table := c.name(); l.unbounded(s, table, c.rest) {
				return
			}
		case c.accept("delete", "from"):
			c.accept("only")
			if table := c.name(); l.unbounded(s, table, c.rest) {
				return
			}
		case c.accept("merge", "into"):
			c.accept("only")
			if table := c.name(); l.unbounded(s, table, nil) {
				return
			}
		case c.accept("insert", "into"):
			c.name()
			if l.reads(s, c) {
				return
			}
		}
	}
}

// startsClause reports whether a statement within WITH can begin behind the token.
func startsClause(before sqltext.Token) bool { return is(before, "(") || is(before, ")") }

// unbounded reports a write that may meet any number of rows.
func (l *linter) unbounded(s *statement, table string, rest []sqltext.Token) bool {
	if l.fresh(table) || l.pointsAt(table, rest) {
		return false
	}
	s.table, s.heavy = table, true
	if l.file.Phase != migrate.PhaseBackfill {
		l.reportOn(s, table, "unbounded-write")
	}
	return true
}

// pointsAt reports whether WHERE compares a column that identifies rows with constants.
func (l *linter) pointsAt(table string, rest []sqltext.Token) bool {
	c := &cursor{rest: rest}
	c.until("where")
	if !c.accept("where") || has(c.rest, "or") {
		return false
	}
	for _, part := range conjuncts(c.until("returning")) {
		p := &cursor{rest: part}
		if !l.of(table).identifies(p.name()) {
			continue
		}
		in, values := p.accept("in"), []sqltext.Token(nil)
		if in {
			values, _ = p.parens()
		} else if p.symbol("=") {
			values = p.rest
		}
		if len(values) > 0 && !slices.ContainsFunc(values, func(t sqltext.Token) bool { return t.Kind <= sqltext.Quoted }) {
			return true
		}
	}
	return false
}

// reads reports INSERT ... SELECT and CREATE TABLE ... AS from tables that may have any number of rows.
func (l *linter) reads(s *statement, c *cursor) bool {
	c.parens() // the columns
	if c.at("values") || c.at("default", "values") || has(s.tokens, "limit") {
		return false
	}
	for i := range s.tokens {
		c := &cursor{rest: s.tokens[i:]}
		if !c.accept("from") && !c.accept("join") || i > 0 && s.tokens[i-1].Text == "distinct" {
			continue
		}
		c.skip("only", "lateral")
		from := c.name()
		if from == "" || len(c.rest) > 0 && is(c.rest[0], "(") || l.fresh(from) || isCommon(s.tokens, from) {
			continue // a list of values, a function, a subquery whose own FROM comes next
		}
		s.heavy = true
		if l.file.Phase != migrate.PhaseBackfill {
			l.reportOn(s, from, "unbounded-write")
		}
		return true
	}
	return false
}

// isCommon reports whether WITH gives the name to a query.
func isCommon(tokens []sqltext.Token, name string) bool {
	for i, t := range tokens {
		c := &cursor{rest: tokens[i+1:]}
		if t.Kind <= sqltext.Quoted && t.Text == name {
			c.parens()
			if c.accept("as") {
				c.skip("not", "materialized")
				if _, ok := c.parens(); ok {
					return true
				}
			}
		}
	}
	return false
}
