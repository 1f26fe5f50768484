package sqltext

import (
	"errors"
	"slices"
)

// ErrQualified is the reason that is about names.
var ErrQualified = errors.New("names a schema: the same file runs in every home, whatever its schema is called; " +
	"leave the name unqualified, and the search path leads to the home's own")

// What stands between the verb of a statement and its kind of object, the kinds that live in a schema, and what stands
// between kind and name.
var (
	kindPrefixes = []string{
		"on", "or", "replace", "unique", "temp", "temporary", "unlogged", "materialized", "recursive", "constraint", "foreign",
	}
	kinds = []string{
		"table", "view", "index", "sequence", "function", "procedure", "routine", "aggregate", "type", "domain", "statistics",
	}
	kindsOnTables = []string{"index", "trigger", "policy"}
	namePrefixes  = []string{"concurrently", "if", "not", "exists", "only", "table"}
)

// refuseQualified refuses a schema in the name of what a statement makes, changes, drops or writes to, and of what a foreign
// key refers to. Elsewhere a schema may be named, as that of an extension's functions is.
func refuseQualified(statement []Token) error {
	if slices.Contains([]string{"create", "alter", "drop", "comment"}, keyword(statement)) {
		if keyword(statement) == "alter" && movesSchema(statement) {
			return ErrQualified
		}
		rest := skip(statement[1:], kindPrefixes)
		kind := keyword(rest)
		if kind == "schema" || slices.Contains(kinds, kind) && qualified(rest[1:], keyword(statement) == "drop") {
			return ErrQualified
		}
		if slices.Contains(kindsOnTables, kind) {
			on := slices.IndexFunc(rest, func(t Token) bool { return t.Kind == Word && t.Text == "on" })
			if on >= 0 && qualified(rest[on+1:], false) {
				return ErrQualified
			}
		}
	}
	if keyword(statement) == "truncate" && qualified(statement[1:], true) {
		return ErrQualified
	}
	for i := range statement {
		rest := statement[i:]
		switch before, after := keyword(rest), keyword(rest[1:]); {
		case before == "references", before == "update":
			rest = rest[1:]
		case (before == "insert" || before == "merge") && after == "into", before == "delete" && after == "from":
			rest = rest[2:]
		default:
			continue
		}
		if qualified(rest, false) {
			return ErrQualified
		}
	}
	return nil
}

// movesSchema finds SET SCHEMA, which takes an object out of its home.
func movesSchema(statement []Token) bool {
	for i := range statement[1:] {
		if keyword(statement[i:]) == "set" && keyword(statement[i+1:]) == "schema" {
			return true
		}
	}
	return false
}

// qualified reports whether tokens start with a name, or with all a list of them, in which there is a schema. That of
// temporary objects is the same everywhere.
func qualified(tokens []Token, all bool) bool {
	tokens = skip(tokens, namePrefixes)
	if len(tokens) > 2 && tokens[0].Kind <= Quoted && tokens[1].Text == "." && tokens[1].Kind == Symbol && tokens[2].Kind <= Quoted {
		return tokens[0].Text != "pg_temp"
	}
	comma := slices.IndexFunc(tokens, func(t Token) bool { return t.Kind == Symbol && (t.Text == "," || t.Text == "(") })
	return all && comma >= 0 && tokens[comma].Text == "," && qualified(tokens[comma+1:], all)
}

// keyword returns the word that tokens start with, or nothing.
func keyword(tokens []Token) string {
	if len(tokens) == 0 || tokens[0].Kind != Word {
		return ""
	}
	return tokens[0].Text
}

// skip leaves out the leading words that are among those given.
func skip(tokens []Token, words []string) []Token {
	for slices.Contains(words, keyword(tokens)) {
		tokens = tokens[1:]
	}
	return tokens
}
