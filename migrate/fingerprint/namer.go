package fingerprint

import (
	"slices"
	"strings"
)

// What stands in a definition for what each home has of its own. No unquoted name has braces.
const (
	markHome   = "{home}"
	markTenant = "{tenant}"
	markApp    = "{app}"
)

// namer takes the name of a home's schema, and the id of its tenant, out of SQL that PostgreSQL has written down or that stands in
// a routine. It goes by words, never by substrings: a schema may be called like a table, a column or a part of a text.
type namer struct {
	schema string
	tenant string          // whose id stands in policies; empty: it is not looked for
	of     string          // the relation that the text is about, whose rows have its name there; may be empty
	names  map[string]bool // of the home's relations and types; nil: not known
	path   bool            // the text is a search path: every name is a schema's

	// unclear says that there was a name like the schema's which only names would have explained.
	unclear bool
}

// word is a token: a name, a string, or anything else.
type word struct {
	kind wordKind
	text string // as it stands there
	name string // of a name, what it means; of a string, its content
}

type wordKind int

const (
	other wordKind = iota // a space, a comment, a number, or one character
	name
	str
)

// rename returns text with the marks in it.
func (n *namer) rename(text string) string {
	if n.cannotHold(text) {
		return text
	}
	words := split(text)
	var b strings.Builder
	for i, w := range words {
		switch {
		case w.kind == name && w.name == n.schema && n.leads(words, i):
			b.WriteString(markHome)
		case w.kind == str && n.tenant != "" && w.name == n.tenant:
			b.WriteString("'" + markTenant + "'")
		case w.kind == str && isReg(words, i):
			b.WriteString("'" + strings.ReplaceAll(n.reg(w.name), "'", "''") + "'")
		default:
			b.WriteString(w.text)
		}
	}
	return b.String()
}

// cannotHold tells at a glance of most texts that there is nothing to take out.
func (n *namer) cannotHold(text string) bool {
	const doubled = `'"\` // these are written otherwise within quotes
	if strings.ContainsAny(n.schema, doubled) || strings.ContainsAny(n.tenant, doubled) {
		return false
	}
	return !strings.Contains(text, n.schema) && (n.tenant == "" || !strings.Contains(text, n.tenant))
}

// reg renames within the constant of a type like regclass.
func (n *namer) reg(text string) string {
	inner := namer{schema: n.schema, of: n.of, names: n.names, path: !strings.Contains(text, ".")} // regnamespace is a schema alone
	text = inner.rename(text)
	n.unclear = n.unclear || inner.unclear
	return text
}

// leads tells whether the schema's name at words[i] is the schema, and not an alias, a column, or a record that is called so.
func (n *namer) leads(words []word, i int) bool {
	if n.path {
		return true
	}
	before, dot, next := at(words, i, -1), at(words, i, 1), at(words, i, 2)
	if before.text == "." || dot.text != "." {
		return false
	}
	if !n.ambiguous(words) || next.kind != name && next.text != "*" || at(words, i, 3).text == "(" {
		return true // an operator or a routine has no other prefix than a schema
	}
	if before.name == "collate" || before.text == ":" { // the end of a cast
		return true
	}
	n.unclear = n.unclear || n.names == nil
	return n.names[next.name]
}

// ambiguous tells whether the schema's name could also mean something else in these words: it stands for a thing of its own, or for
// rows that nothing in there has given the name.
func (n *namer) ambiguous(words []word) bool {
	if slices.Contains([]string{n.of, "new", "old", "excluded"}, n.schema) {
		return true
	}
	for i, w := range words {
		if w.kind == name && w.name == n.schema && (at(words, i, -1).text == "." || at(words, i, 1).text != ".") {
			return true
		}
	}
	return false
}

// at returns the word that is by steps away from words[i], spaces not counted.
func at(words []word, i, by int) word {
	step := 1
	if by < 0 {
		step = -1
	}
	for i += step; i >= 0 && i < len(words); i += step {
		if strings.TrimSpace(words[i].text) == "" {
			continue
		}
		if by -= step; by == 0 {
			return words[i]
		}
	}
	return word{}
}

// isReg tells whether the string at words[i] is cast to a type that stands for a name in the catalog.
func isReg(words []word, i int) bool {
	cast := at(words, i, 1).text == ":" && at(words, i, 2).text == ":"
	return cast && slices.Contains([]string{
		"regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regnamespace", "regcollation", "regconfig", "regdictionary",
	}, at(words, i, 3).name)
}

// split takes SQL apart, so that the texts of all words are the whole.
func split(text string) []word {
	var words []word
	for text != "" {
		w := first(text)
		words = append(words, w)
		text = text[len(w.text):]
	}
	return words
}

func first(s string) word {
	switch c := s[0]; {
	case (c == 'E' || c == 'e') && len(s) > 1 && s[1] == '\'':
		end := quotedEnd(s[1:], true) + 1
		return word{str, s[:end], ""} // PostgreSQL writes none; in a routine it is a text
	case c == '\'':
		end := quotedEnd(s, false)
		return word{str, s[:end], inside(s[:end], "'")}
	case c == '"':
		end := quotedEnd(s, false)
		return word{name, s[:end], inside(s[:end], `"`)}
	case strings.HasPrefix(s, "--"):
		return word{other, cut(s, "\n", 2), ""}
	case strings.HasPrefix(s, "/*"):
		return word{other, cut(s, "*/", 2), ""}
	case c == '$':
		if end := strings.IndexByte(s[1:], '$'); end >= 0 && isTag(s[1:end+1]) {
			return word{other, cut(s, s[:end+2], end+2), ""}
		}
		return word{other, s[:1], ""}
	case isLetter(c):
		end := 1
		for end < len(s) && (isLetter(s[end]) || isDigit(s[end]) || s[end] == '$') {
			end++
		}
		return word{name, s[:end], lower(s[:end])}
	case isDigit(c): // 1.5 has no name in it, and 1e5 neither
		end := 1
		for end < len(s) && (isDigit(s[end]) || isLetter(s[end]) || s[end] == '.') {
			end++
		}
		return word{other, s[:end], ""}
	default:
		return word{other, s[:1], ""}
	}
}

// quotedEnd returns where what begins with a quote ends.
func quotedEnd(s string, backslash bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && backslash:
			i++
		case s[i] == s[0] && i+1 < len(s) && s[i+1] == s[0]:
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return len(s)
}

func inside(s, quote string) string {
	return strings.ReplaceAll(strings.TrimSuffix(s[1:], quote), quote+quote, quote)
}

// cut returns s up to and with the first end after skip.
func cut(s, end string, skip int) string {
	if i := strings.Index(s[skip:], end); i >= 0 {
		return s[:skip+i+len(end)]
	}
	return s
}

func isTag(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (i == 0 || !isDigit(s[i])) {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// lower folds as PostgreSQL does with names that have no quotes: ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// unquote returns what a name means.
func unquote(s string) string {
	if s == "" {
		return ""
	}
	return first(s).name
}

// grants writes an access list without who has granted, in a fixed order.
func grants(list, app string) string {
	var lines []string
	for item := range strings.SplitSeq(list, "\n") {
		grantee, rights := "public", item
		switch {
		case strings.HasPrefix(item, `"`):
			end := quotedEnd(item, false)
			grantee, rights = inside(item[:end], `"`), item[end:]
		case !strings.HasPrefix(item, "="):
			end := strings.IndexByte(item, '=')
			if end < 0 {
				continue // nobody has anything
			}
			grantee, rights = item[:end], item[end:]
		}
		switch grantee {
		case app:
			grantee = markApp
		case "pg_database_owner": // who that is in every home
			grantee = "landlord_owner"
		}
		rights, _, _ = strings.Cut(rights, "/")
		lines = append(lines, grantee+rights)
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}
