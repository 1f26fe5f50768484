package lint

import (
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// cursor reads the tokens of a statement from left to right.
type cursor struct {
	rest []sqltext.Token
}

// word returns the keyword that comes next, or nothing.
func (c *cursor) word() string {
	if len(c.rest) == 0 || c.rest[0].Kind != sqltext.Word {
		return ""
	}
	return c.rest[0].Text
}

// at reports whether the keywords come next, in their order.
func (c *cursor) at(words ...string) bool {
	if len(c.rest) < len(words) {
		return false
	}
	for i, w := range words {
		if c.rest[i].Kind != sqltext.Word || c.rest[i].Text != w {
			return false
		}
	}
	return true
}

// accept passes the keywords if they come next.
func (c *cursor) accept(words ...string) bool {
	if !c.at(words...) {
		return false
	}
	c.rest = c.rest[len(words):]
	return true
}

// skip passes whichever of the keywords come next.
func (c *cursor) skip(words ...string) {
	for c.word() != "" && slices.Contains(words, c.word()) {
		c.rest = c.rest[1:]
	}
}

// symbol passes one byte of punctuation if it comes next.
func (c *cursor) symbol(s string) bool {
	if len(c.rest) == 0 || !is(c.rest[0], s) {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

// name passes a name and returns the last part of it, or nothing.
func (c *cursor) name() string {
	var name string
	for {
		if len(c.rest) == 0 || c.rest[0].Kind > sqltext.Quoted {
			return name
		}
		name, c.rest = c.rest[0].Text, c.rest[1:]
		if !c.symbol(".") {
			return name
		}
	}
}

// names passes names between commas.
func (c *cursor) names() []string {
	var all []string
	for {
		name := c.name()
		if name == "" {
			return all
		}
		all = append(all, name)
		c.symbol("*")
		if !c.symbol(",") {
			return all
		}
	}
}

// parens passes what stands in parentheses and returns it without them.
func (c *cursor) parens() (inner []sqltext.Token, ok bool) {
	if len(c.rest) == 0 || !is(c.rest[0], "(") {
		return nil, false
	}
	depth := 0
	for i, t := range c.rest {
		depth += nesting(t)
		if depth == 0 {
			inner, c.rest = c.rest[1:i], c.rest[i+1:]
			return inner, true
		}
	}
	inner, c.rest = c.rest[1:], nil
	return inner, true
}

// columns passes a list of columns in parentheses. An expression counts as a column without a name.
func (c *cursor) columns() []string {
	inner, _ := c.parens()
	var names []string
	for _, part := range splitAll(inner, ",") {
		names = append(names, (&cursor{rest: part}).column())
	}
	return names
}

// column returns the column that an element of an index is, or nothing if it is an expression.
func (c *cursor) column() string {
	name := c.name()
	if len(c.rest) > 0 && is(c.rest[0], "(") {
		return ""
	}
	return name
}

// until passes everything before the first of the keywords outside of parentheses.
func (c *cursor) until(words ...string) []sqltext.Token {
	depth := 0
	for i, t := range c.rest {
		if depth == 0 && t.Kind == sqltext.Word && slices.Contains(words, t.Text) {
			passed := c.rest[:i]
			c.rest = c.rest[i:]
			return passed
		}
		depth += nesting(t)
	}
	passed := c.rest
	c.rest = nil
	return passed
}

func is(t sqltext.Token, symbol string) bool { return t.Kind == sqltext.Symbol && t.Text == symbol }

// nesting is by how much a token deepens the parentheses.
func nesting(t sqltext.Token) int {
	switch {
	case is(t, "("), is(t, "["):
		return 1
	case is(t, ")"), is(t, "]"):
		return -1
	}
	return 0
}

// splitAll parts tokens at a symbol outside of parentheses. Empty parts are left out.
func splitAll(tokens []sqltext.Token, symbol string) [][]sqltext.Token {
	var parts [][]sqltext.Token
	depth, from := 0, 0
	for i, t := range tokens {
		depth += nesting(t)
		if depth <= 0 && is(t, symbol) {
			if i > from {
				parts = append(parts, tokens[from:i])
			}
			from = i + 1
		}
	}
	if from < len(tokens) {
		parts = append(parts, tokens[from:])
	}
	return parts
}

// has reports whether the keywords follow each other somewhere in tokens.
func has(tokens []sqltext.Token, words ...string) bool {
	for i := range tokens {
		if (&cursor{rest: tokens[i:]}).at(words...) {
			return true
		}
	}
	return false
}

// hasAny reports whether one of the identifiers stands somewhere in tokens.
func hasAny(tokens []sqltext.Token, identifiers ...string) bool {
	return slices.ContainsFunc(tokens, func(t sqltext.Token) bool {
		return t.Kind <= sqltext.Quoted && slices.Contains(identifiers, t.Text)
	})
}

// joined writes tokens one after the other. Of digits each is a token.
func joined(tokens []sqltext.Token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(t.Text)
	}
	return b.String()
}
