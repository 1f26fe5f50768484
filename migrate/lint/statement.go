package lint

import (
	"slices"
	"strings"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// statement is one SQL statement of a file, and what was learnt of it.
type statement struct {
	text   string // what its tokens are positions of
	tokens []sqltext.Token
	line   int
	at     int  // its index in the file
	alone  bool // goose sends nothing else with it
	block  bool // it stands in a DO block

	table     string // an older table that it locks
	exclusive bool   // ... against everybody
	heavy     bool   // it reads or writes rows, as many as there are
	combine   bool   // an ALTER TABLE that could be part of another one
	again     bool   // it can be repeated
}

func (s *statement) excerpt() string { return sqltext.Excerpt(s.source(s.tokens)) }

// source is how tokens of the statement are written.
func (s *statement) source(tokens []sqltext.Token) string {
	if len(tokens) == 0 {
		return ""
	}
	return s.text[tokens[0].Pos:tokens[len(tokens)-1].End]
}

func (s *statement) cursor() *cursor { return &cursor{rest: s.tokens} }

// readStatements takes the file's messages apart.
func (l *linter) readStatements() {
	lines := strings.Split(l.file.Text, "\n")
	at := slices.IndexFunc(lines, isUp) + 1
	for _, text := range l.file.Statements {
		at = locate(lines, at, text)
		tokens, err := sqltext.Tokenize(text)
		if err != nil {
			l.add("unreadable-file", at+1, sqltext.Excerpt(text))
			l.found[len(l.found)-1].Risk += ": " + err.Error()
			continue
		}
		parts := sqltext.Split(tokens)
		line := counter{text: text, line: at + 1}
		for _, part := range parts {
			s := &statement{text: text, tokens: part, line: line.of(part[0].Pos), alone: len(parts) == 1}
			l.statements = append(l.statements, s)
			if s.cursor().accept("do") {
				l.readBlock(s)
			}
		}
		at += 1 + strings.Count(text, "\n")
	}
}

// counter finds the lines of ascending positions in a text.
type counter struct {
	text string
	pos  int
	line int // of pos
}

func (c *counter) of(pos int) int {
	c.line += strings.Count(c.text[c.pos:pos], "\n")
	c.pos = pos
	return c.line
}

func isUp(line string) bool {
	comment, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
	return ok && strings.EqualFold(strings.Join(strings.Fields(comment), ""), "+gooseup")
}

// locate returns the index of the line on which a message begins, from lines[at] on. Goose leaves out comments and empty lines
// before it and keeps everything else, variables apart.
func locate(lines []string, at int, text string) int {
	first, _, _ := strings.Cut(text, "\n")
	first = strings.TrimSpace(first)
	for i := at; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == first || line != "" && !strings.HasPrefix(line, "--") {
			return i
		}
	}
	return max(0, min(at, len(lines)-1))
}

// readBlock adds the statements in the body of a DO block, as far as they are SQL.
func (l *linter) readBlock(do *statement) {
	for _, t := range do.tokens {
		if t.Kind != sqltext.Literal {
			continue
		}
		body, err := sqltext.Tokenize(t.Text)
		if err != nil {
			continue // not SQL's kin
		}
		line := counter{text: t.Text, line: do.line + strings.Count(do.text[do.tokens[0].Pos:t.Pos], "\n")}
		for _, part := range splitAll(body, ";") {
			if part = withoutControl(part); len(part) > 0 {
				l.statements = append(l.statements, &statement{
					text: t.Text, tokens: part, block: true, line: line.of(part[0].Pos),
				})
			}
		}
	}
}

// withoutControl cuts from a statement of PL/pgSQL what stands before its SQL.
func withoutControl(part []sqltext.Token) []sqltext.Token {
	for len(part) > 0 && part[0].Kind == sqltext.Word {
		var until string
		switch part[0].Text {
		case "begin", "else", "loop", "exception":
			part = part[1:]
			continue
		case "perform": // SELECT by another name
			return part
		case "if", "elsif", "elseif", "when":
			until = "then"
		case "for", "foreach", "while":
			until = "loop"
		case "end", "declare", "raise", "return", "exit", "continue", "null", "execute":
			return nil
		default:
			return part
		}
		end := slices.IndexFunc(part, func(t sqltext.Token) bool { return t.Kind == sqltext.Word && t.Text == until })
		if end < 0 {
			return nil
		}
		part = part[end+1:]
	}
	return part
}

// inTransaction reports whether the file runs as one transaction.
func inTransaction(f *migrate.File) bool { return !f.NoTransaction }
