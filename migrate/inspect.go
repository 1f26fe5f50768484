package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// inspect refuses statements that would reach beyond their file: Build sends a file as one message
// within a transaction that others continue, on a connection that others use afterwards.
func (m *Migration) inspect() error {
	for _, text := range m.Statements {
		tokens, err := tokenize(text)
		if err != nil {
			return fmt.Errorf("%q: %w", excerpt(text), err)
		}
		for _, statement := range split(tokens) {
			if err := refuse(statement); err != nil {
				return fmt.Errorf("%q: %w", excerpt(text[statement[0].pos:]), err)
			}
			index, concurrently := concurrentIndex(statement)
			switch {
			case concurrently && index == "":
				return fmt.Errorf("%q: an index that is built concurrently needs a name, or an interrupted build could not be found again", excerpt(text))
			case concurrently:
				m.indexes = append(m.indexes, index)
			}
		}
	}
	return nil
}

// The reasons, each with the way out.
var (
	errTransaction = errors.New("controls the transaction: a file runs within one that is begun and committed for it; " +
		"take the statement out")
	errPath = errors.New("changes the search path: the path says whose home this is, and would stay on the connection; " +
		"leave names unqualified, or give the function a SET clause of its own")
	errRole = errors.New("changes the role: what is made here is given to the owner afterwards; take the statement out")
	errCopy = errors.New("copies from the client, and no client feeds it: the server would wait for ever; use INSERT")
)

func refuse(statement []token) error {
	w := words(statement, 2)
	if len(w) == 0 {
		return nil
	}
	switch w[0] {
	case "begin", "commit", "rollback", "abort", "end", "savepoint", "release":
		return errTransaction
	case "start", "prepare":
		if len(w) == 2 && w[1] == "transaction" {
			return errTransaction
		}
	case "discard":
		return errPath
	case "copy":
		if sequence(statement, "from", "stdin") {
			return errCopy
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
		return errPath
	}
	return nil
}

// refuseSet judges what follows SET or RESET.
func refuseSet(rest []token) error {
	if w := words(rest, 1); len(w) == 1 && (w[0] == "local" || w[0] == "session") && len(rest) > 1 && !names(rest[1], "authorization") {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return nil
	}
	switch {
	case names(rest[0], "search_path", "schema", "all"):
		return errPath
	case names(rest[0], "role", "authorization", "session", "session_authorization"):
		return errRole
	case names(rest[0], "transaction", "characteristics"):
		return errTransaction
	}
	return nil
}

// refuseBlock looks into the body of a DO block, which runs now. The bodies of functions are not
// judged: they run later, in a transaction of whoever calls them.
func refuseBlock(statement []token) error {
	for _, t := range statement {
		if t.kind != literal {
			continue
		}
		body, err := tokenize(t.text)
		if err != nil {
			continue // the block's language is not SQL's kin, or it is the language's name
		}
		if setsPath(body) || sequence(body, "set", "search_path") || sequence(body, "set", "local", "search_path") {
			return errPath
		}
	}
	return nil
}

// setsPath finds set_config('search_path', ...), qualified or not.
func setsPath(tokens []token) bool {
	for i := range tokens {
		if i+2 < len(tokens) && names(tokens[i], "set_config") && tokens[i+1].text == "(" &&
			tokens[i+2].kind == literal && strings.EqualFold(tokens[i+2].text, "search_path") {
			return true
		}
	}
	return false
}

// concurrentIndex reads CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name.
func concurrentIndex(statement []token) (name string, ok bool) {
	rest := statement
	for _, optional := range []struct {
		text string
		must bool
	}{{"create", true}, {"unique", false}, {"index", true}, {"concurrently", true}} {
		switch {
		case len(rest) > 0 && rest[0].kind == word && rest[0].text == optional.text:
			rest = rest[1:]
		case optional.must:
			return "", false
		}
	}
	if slices.Equal(words(rest, 3), []string{"if", "not", "exists"}) {
		rest = rest[3:]
	}
	if len(rest) > 0 && (rest[0].kind == quoted || rest[0].kind == word && rest[0].text != "on") {
		name = rest[0].text
	}
	return name, true
}

// names reports whether t is one of the identifiers, with quotes or without. Settings have no case.
func names(t token, identifiers ...string) bool {
	return (t.kind == word || t.kind == quoted) && slices.Contains(identifiers, strings.ToLower(t.text))
}

// sequence reports whether the identifiers follow each other somewhere in tokens.
func sequence(tokens []token, identifiers ...string) bool {
	for i := 0; i+len(identifiers) <= len(tokens); i++ {
		if matches(tokens[i:], identifiers) {
			return true
		}
	}
	return false
}

func matches(tokens []token, identifiers []string) bool {
	for i, id := range identifiers {
		if !names(tokens[i], id) {
			return false
		}
	}
	return true
}

// excerpt is the beginning of a statement on one line.
func excerpt(sql string) string {
	const most = 60
	s := strings.Join(strings.Fields(sql), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
