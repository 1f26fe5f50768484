package sqltext

import (
	"errors"
	"slices"
)

// The reasons why a statement is not a backfill, each with the way out.
var (
	ErrNotOneWrite = errors.New("a backfill is one UPDATE or DELETE of one table, which is run in batches: give every such " +
		"statement a file of its own, and what is none another phase; what INSERT would copy, let a trigger of the source copy, " +
		"and backfill the source")
	ErrNotBatched = errors.New("a backfill begins with UPDATE or DELETE: write WITH as subqueries")
	ErrByPlace    = errors.New("a backfill is run in batches, in which no cursor is open and rows have moved: " +
		"choose rows by what is in them, not with WHERE CURRENT OF or ctid")
)

// Write is an UPDATE or DELETE, as far as batches need to know it. Positions are those of its text.
type Write struct {
	Table   string   // its name
	Only    bool     // without the tables that inherit from it
	Alias   string   // how its columns are qualified in the statement
	Changes []string // columns that it sets

	Start     int // of the statement
	Target    int // end of all before WHERE
	Condition int // start of what follows WHERE; 0: there is none
	Returning int // start of RETURNING; 0: there is none
	Limit     int // end of the condition, or of all before it
	End       int // of the statement
}

// ReadWrite reads a file's only statement, or tells why it is no backfill.
func ReadWrite(statements [][]Token) (w Write, err error) {
	if len(statements) != 1 {
		return w, ErrNotOneWrite
	}
	s := statements[0]
	w.Start, w.End = s[0].Pos, s[len(s)-1].End
	rest, ok := w.readTarget(s)
	switch {
	case keyword(s) == "with":
		return w, ErrNotBatched
	case !ok:
		return w, ErrNotOneWrite
	case sequence(s, "ctid"), sequence(s, "where", "current", "of"):
		return w, ErrByPlace
	}
	w.Target = w.End
	depth := 0
	for i, t := range rest {
		depth += nesting(t)
		if depth > 0 || t.Kind != Word || before(rest, i, ".") {
			continue
		}
		switch {
		case t.Text == "where" && w.Condition == 0 && i+1 < len(rest):
			w.Target, w.Condition = t.Pos, rest[i+1].Pos
		case t.Text == "returning" && w.Returning == 0:
			w.Returning = t.Pos
			w.Limit = rest[i-1].End
			if w.Condition == 0 {
				w.Target = w.Limit
			}
		}
	}
	if w.Returning == 0 {
		w.Limit = w.End
	}
	w.Changes = changes(rest)
	return w, nil
}

// readTarget reads UPDATE or DELETE FROM with the table, and returns what follows.
func (w *Write) readTarget(s []Token) (rest []Token, ok bool) {
	end := "set"
	switch {
	case keyword(s) == "update":
		rest = s[1:]
	case keyword(s) == "delete" && keyword(s[1:]) == "from":
		rest, end = s[2:], "using"
	default:
		return nil, false
	}
	if w.Only = keyword(rest) == "only"; w.Only {
		rest = rest[1:]
	}
	parens := symbol(rest, "(")
	if parens { // ONLY (table)
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].Kind > Quoted {
		return nil, false
	}
	w.Table = rest[0].Text
	w.Alias = w.Table
	rest = rest[1:]
	if parens || symbol(rest, "*") {
		if len(rest) == 0 {
			return nil, false
		}
		rest = rest[1:]
	}
	switch next := keyword(rest); {
	case symbol(rest, "."):
		return nil, false
	case next == "as" && len(rest) > 1:
		w.Alias, rest = rest[1].Text, rest[2:]
	case len(rest) > 0 && rest[0].Kind <= Quoted && (rest[0].Kind == Quoted || !slices.Contains([]string{end, "where", "returning"}, next)):
		w.Alias, rest = rest[0].Text, rest[1:]
	}
	return rest, keyword(rest) == end || end == "using" && (len(rest) == 0 || keyword(rest) != "")
}

// changes returns the columns that the clause SET names.
func changes(rest []Token) (columns []string) {
	if keyword(rest) != "set" {
		return nil
	}
	depth, named, list := 0, true, 0
	for i, t := range rest[1:] {
		switch {
		case named && t.Kind <= Quoted:
			columns, named = append(columns, t.Text), list > 0
			continue
		case named && t.Kind == Symbol && t.Text == "(":
			list++
			continue
		case named && t.Kind == Symbol && t.Text == ")":
			list, named = 0, false
			continue
		case list > 0:
			continue // between the names of a list
		case depth == 0 && t.Kind == Symbol && t.Text == ",":
			named = true
		case depth == 0 && t.Kind == Word && slices.Contains([]string{"from", "where", "returning"}, t.Text) && !before(rest[1:], i, ".") &&
			!before(rest[1:], i, "distinct"):
			return columns
		}
		depth += nesting(t)
	}
	return columns
}

// before reports whether the token at i comes behind the text given.
func before(tokens []Token, i int, text string) bool {
	return i > 0 && tokens[i-1].Text == text && tokens[i-1].Kind != Literal
}

func symbol(tokens []Token, text string) bool {
	return len(tokens) > 0 && tokens[0].Kind == Symbol && tokens[0].Text == text
}

// nesting is by how much a token deepens the parentheses.
func nesting(t Token) int {
	switch {
	case t.Kind != Symbol:
		return 0
	case t.Text == "(", t.Text == "[":
		return 1
	case t.Text == ")", t.Text == "]":
		return -1
	}
	return 0
}
