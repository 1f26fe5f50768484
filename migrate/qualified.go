package migrate

import (
	"errors"
	"slices"
)

var errQualified = errors.New("names a schema: the same file runs in every home, whatever its schema is called; " +
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
func refuseQualified(statement []token) error {
	if slices.Contains([]string{"create", "alter", "drop", "comment"}, keyword(statement)) {
		rest := skip(statement[1:], kindPrefixes)
		kind := keyword(rest)
		if kind == "schema" || slices.Contains(kinds, kind) && qualified(rest[1:], keyword(statement) == "drop") {
			return errQualified
		}
		if slices.Contains(kindsOnTables, kind) {
			on := slices.IndexFunc(rest, func(t token) bool { return t.kind == word && t.text == "on" })
			if on >= 0 && qualified(rest[on+1:], false) {
				return errQualified
			}
		}
	}
	if keyword(statement) == "truncate" && qualified(statement[1:], true) {
		return errQualified
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
			return errQualified
		}
	}
	return nil
}

// qualified reports whether tokens start with a name, or with all a list of them, in which there is a schema. That of
// temporary objects is the same everywhere.
func qualified(tokens []token, all bool) bool {
	tokens = skip(tokens, namePrefixes)
	if len(tokens) > 2 && tokens[0].kind <= quoted && tokens[1].text == "." && tokens[1].kind == symbol && tokens[2].kind <= quoted {
		return tokens[0].text != "pg_temp"
	}
	comma := slices.IndexFunc(tokens, func(t token) bool { return t.kind == symbol && (t.text == "," || t.text == "(") })
	return all && comma >= 0 && tokens[comma].text == "," && qualified(tokens[comma+1:], all)
}

// keyword returns the word that tokens start with, or nothing.
func keyword(tokens []token) string {
	if len(tokens) == 0 || tokens[0].kind != word {
		return ""
	}
	return tokens[0].text
}

// skip leaves out the leading words that are among those given.
func skip(tokens []token, words []string) []token {
	for slices.Contains(words, keyword(tokens)) {
		tokens = tokens[1:]
	}
	return tokens
}
