// Package sqltext reads SQL as far as words and quotes go: enough to find statements, the names in them, and what no migration
// may say. It parses nothing; grammar is PostgreSQL's.
package sqltext

import (
	"errors"
	"strings"
)

// Token is a lexical unit of SQL. A word is folded to lower case as PostgreSQL folds it; of
// quoted things the text is what stands between the quotes.
type Token struct {
	Kind Kind
	Text string
	Pos  int // of its first byte in the text
	End  int // of the first byte after it
}

// Kind is what a token is.
type Kind int

// The kinds.
const (
	Word Kind = iota // keyword or identifier without quotes
	Quoted
	Literal // string, dollar-quoted ones included
	Symbol  // one byte of anything else
)

// ErrUnterminated is the one way in which SQL cannot be read.
var ErrUnterminated = errors.New("a quote or a comment is opened and never closed")

// Tokenize reads SQL as PostgreSQL's scanner does with standard_conforming_strings on. It knows
// what hides a word: comments, which nest, and the four kinds of quotes.
func Tokenize(sql string) ([]Token, error) {
	var tokens []Token
	for i := 0; i < len(sql); {
		start, c := i, sql[i]
		kind, text := Symbol, sql[i:i+1]
		var ok bool
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
			continue
		case strings.HasPrefix(sql[i:], "--"):
			if end := strings.IndexByte(sql[i:], '\n'); end >= 0 {
				i += end
				continue
			}
			return tokens, nil
		case strings.HasPrefix(sql[i:], "/*"):
			if i, ok = skipComment(sql, i); !ok {
				return nil, ErrUnterminated
			}
			continue
		case c == '\'':
			kind = Literal
			text, i, ok = readQuoted(sql, i, '\'', false)
		case (c == 'e' || c == 'E') && strings.HasPrefix(sql[i+1:], "'"):
			kind = Literal
			text, i, ok = readQuoted(sql, i+1, '\'', true)
		case c == '"':
			kind = Quoted
			text, i, ok = readQuoted(sql, i, '"', false)
		case c == '$' && dollarTag(sql[i:]) != "":
			kind = Literal
			text, i, ok = readDollar(sql, i)
		case startsWord(c):
			kind, ok = Word, true
			for i++; i < len(sql) && (startsWord(sql[i]) || isDigit(sql[i]) || sql[i] == '$'); i++ {
			}
			text = strings.ToLower(sql[start:i])
		default:
			i, ok = i+1, true
		}
		if !ok {
			return nil, ErrUnterminated
		}
		tokens = append(tokens, Token{Kind: kind, Text: text, Pos: start, End: i})
	}
	return tokens, nil
}

func skipComment(sql string, i int) (next int, ok bool) {
	for depth := 0; i < len(sql); {
		switch {
		case strings.HasPrefix(sql[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(sql[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i, true
			}
		default:
			i++
		}
	}
	return i, false
}

// readQuoted reads from the quote at i to its counterpart; a doubled quote stands for itself.
func readQuoted(sql string, i int, quote byte, backslash bool) (text string, next int, ok bool) {
	var b strings.Builder
	for i++; i < len(sql); i++ {
		switch {
		case backslash && sql[i] == '\\' && i+1 < len(sql):
			i++
			b.WriteByte(sql[i])
		case sql[i] != quote:
			b.WriteByte(sql[i])
		case i+1 < len(sql) && sql[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return b.String(), i + 1, true
		}
	}
	return "", i, false
}

// dollarTag returns the opening $tag$ at the start of s, or nothing where $ is a parameter.
func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '$':
			return s[:i+1]
		case startsWord(s[i]), i > 1 && isDigit(s[i]):
		default:
			return ""
		}
	}
	return ""
}

func readDollar(sql string, i int) (text string, next int, ok bool) {
	tag := dollarTag(sql[i:])
	i += len(tag)
	end := strings.Index(sql[i:], tag)
	if end < 0 {
		return "", i, false
	}
	return sql[i : i+end], i + end + len(tag), true
}

func startsWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Split parts tokens at the semicolons that end a statement: not at those within parentheses
// (rules of several actions) nor within the BEGIN ATOMIC ... END body of a function.
func Split(tokens []Token) [][]Token {
	var statements [][]Token
	var open, blocks, from int
	for i, t := range tokens {
		switch {
		case t.Kind == Symbol && t.Text == "(":
			open++
		case t.Kind == Symbol && t.Text == ")":
			open--
		case t.Kind == Word && t.Text == "begin" && makesRoutine(tokens[from:i]),
			t.Kind == Word && t.Text == "case" && blocks > 0:
			blocks++
		case t.Kind == Word && t.Text == "end" && blocks > 0:
			blocks--
		case t.Kind == Symbol && t.Text == ";" && open <= 0 && blocks == 0:
			if i > from {
				statements = append(statements, tokens[from:i])
			}
			open, from = 0, i+1
		}
	}
	if from < len(tokens) {
		statements = append(statements, tokens[from:])
	}
	return statements
}

// makesRoutine reports whether a statement starts with CREATE [OR REPLACE] FUNCTION or PROCEDURE.
func makesRoutine(statement []Token) bool {
	w := words(statement, 4)
	if len(w) > 0 && w[0] == "create" {
		w = w[1:]
	}
	if len(w) > 1 && w[0] == "or" && w[1] == "replace" {
		w = w[2:]
	}
	return len(w) > 0 && (w[0] == "function" || w[0] == "procedure")
}

// words returns the leading words of a statement, at most n of them.
func words(statement []Token, n int) []string {
	var w []string
	for _, t := range statement[:min(n, len(statement))] {
		if t.Kind != Word {
			break
		}
		w = append(w, t.Text)
	}
	return w
}
