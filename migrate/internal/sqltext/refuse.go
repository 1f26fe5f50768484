package sqltext

import (
	"errors"
	"slices"
	"strings"
)

// The reasons of Refuse, each with the way out.
var (
	ErrTransaction = errors.New("controls the transaction: a file runs within one that is begun and committed for it; " +
		"take the statement out")
	ErrPath = errors.New("changes the search path: the path says whose home this is, and would stay on the connection; " +
		"leave names unqualified, or give the function a SET clause of its own")
	ErrRole = errors.New("changes the role: what is made here is given to the owner afterwards; take the statement out")
	ErrCopy = errors.New("copies from the client, and no client feeds it: the server would wait for ever; use INSERT")
)

// Refuse tells why a statement must not stand in a migration: it would reach beyond its file, which is sent within a transaction
// that others continue, on a connection that others use afterwards.
func Refuse(statement []Token) error {
	w := words(statement, 2)
	if len(w) == 0 {
		return nil
	}
	switch w[0] {
	case "begin", "commit", "rollback", "abort", "end", "savepoint", "release":
		return ErrTransaction
	case "start", "prepare":
		if len(w) == 2 && w[1] == "transaction" {
			return ErrTransaction
		}
	case "discard":
		return ErrPath
	case "copy":
		if sequence(statement, "from", "stdin") {
			return ErrCopy
		}
	case "set", "reset":
		return refuseSet(statement[1:])
	case "do":
		return refuseBlock(statement)
	}
	if err := refuseQualified(statement); err != nil {
		return err
	}
	if setsPath(statement) && !makesRoutine(statement) {
		return ErrPath
	}
	return nil
}

// refuseSet judges what follows SET or RESET.
func refuseSet(rest []Token) error {
	if w := words(rest, 1); len(w) == 1 && (w[0] == "local" || w[0] == "session") && len(rest) > 1 && !names(rest[1], "authorization") {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return nil
	}
	switch {
	case names(rest[0], "search_path", "schema", "all"):
		return ErrPath
	case names(rest[0], "role", "authorization", "session", "session_authorization"):
		return ErrRole
	case names(rest[0], "transaction", "characteristics"):
		return ErrTransaction
	}
	return nil
}

// refuseBlock looks into the body of a DO block, which runs now. The bodies of functions are not
// judged: they run later, in a transaction of whoever calls them.
func refuseBlock(statement []Token) error {
	for _, t := range statement {
		if t.Kind != Literal {
			continue
		}
		body, err := Tokenize(t.Text)
		if err != nil {
			continue // the block's language is not SQL's kin, or it is the language's name
		}
		if setsPath(body) || sequence(body, "set", "search_path") || sequence(body, "set", "local", "search_path") {
			return ErrPath
		}
	}
	return nil
}

// setsPath finds set_config('search_path', ...), qualified or not.
func setsPath(tokens []Token) bool {
	for i := range tokens {
		if i+2 < len(tokens) && names(tokens[i], "set_config") && tokens[i+1].Text == "(" &&
			tokens[i+2].Kind == Literal && strings.EqualFold(tokens[i+2].Text, "search_path") {
			return true
		}
	}
	return false
}

// ConcurrentIndex reads CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name.
func ConcurrentIndex(statement []Token) (name string, ok bool) {
	rest := statement
	for _, optional := range []struct {
		text string
		must bool
	}{{"create", true}, {"unique", false}, {"index", true}, {"concurrently", true}} {
		switch {
		case len(rest) > 0 && rest[0].Kind == Word && rest[0].Text == optional.text:
			rest = rest[1:]
		case optional.must:
			return "", false
		}
	}
	if slices.Equal(words(rest, 3), []string{"if", "not", "exists"}) {
		rest = rest[3:]
	}
	if len(rest) > 0 && (rest[0].Kind == Quoted || rest[0].Kind == Word && rest[0].Text != "on") {
		name = rest[0].Text
	}
	return name, true
}

// names reports whether t is one of the identifiers, with quotes or without. Settings have no case.
func names(t Token, identifiers ...string) bool {
	return (t.Kind == Word || t.Kind == Quoted) && slices.Contains(identifiers, strings.ToLower(t.Text))
}

// sequence reports whether the identifiers follow each other somewhere in tokens.
func sequence(tokens []Token, identifiers ...string) bool {
	for i := 0; i+len(identifiers) <= len(tokens); i++ {
		if matches(tokens[i:], identifiers) {
			return true
		}
	}
	return false
}

func matches(tokens []Token, identifiers []string) bool {
	for i, id := range identifiers {
		if !names(tokens[i], id) {
			return false
		}
	}
	return true
}

// Excerpt is the beginning of a statement on one line.
func Excerpt(sql string) string {
	const most = 60
	s := strings.Join(strings.Fields(sql), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
