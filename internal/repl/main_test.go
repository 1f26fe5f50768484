package repl_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// source is a database with a publication "pub" and a slot that begins after it.
type source struct {
	dsn, slot string
	from      repl.LSN
	db        *pgx.Conn
}

// newSource runs ddl, which makes the publication, and then makes the slot.
func newSource(t *testing.T, ddl string) *source {
	t.Helper()
	return sourceAt(t, pgtest.NewDatabase(t), ddl)
}

func sourceAt(t *testing.T, dsn, ddl string) *source {
	t.Helper()
	s := &source{dsn: dsn, db: dial(t, dsn)}
	s.exec(t, ddl)
	s.slot = s.db.Config().Database + "_slot"
	c := connect(t, dsn)
	var err error
	s.from, err = c.CreateSlot(t.Context(), s.slot, patience)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	return s
}

func (s *source) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := s.db.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// ask returns the only value of a query.
func (s *source) ask(t *testing.T, sql string, args ...any) (value string) {
	t.Helper()
	require.NoError(t, s.db.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

// start opens the slot's stream.
func (s *source) start(t *testing.T) *repl.Conn {
	t.Helper()
	c := connect(t, s.dsn)
	require.NoError(t, c.Start(t.Context(), s.slot, s.from, "pub"))
	return c
}

// read returns what was streamed until now, one line a message.
func (s *source) read(t *testing.T) []string {
	t.Helper()
	return readTo(t, s.start(t), s.mark(t))
}

// mark writes a message into the log, to read up to.
func (s *source) mark(t *testing.T) string {
	return s.ask(t, `select 'here ' || pg_logical_emit_message(false, 'test', 'here')`)[len("here "):]
}

// readTo returns the messages up to the one that stands at the position given.
func readTo(t *testing.T, c *repl.Conn, mark string) (lines []string) {
	t.Helper()
	end, err := repl.ParseLSN(mark)
	require.NoError(t, err)
	for {
		msg, err := c.Receive(t.Context())
		require.NoError(t, err)
		switch msg := msg.(type) {
		case repl.Keepalive:
			continue
		case repl.Logical:
			if !msg.Transactional && msg.LSN >= end-1 {
				return lines
			}
		}
		lines = append(lines, show(msg))
	}
}

func show(msg repl.Message) string {
	name := func(r *repl.Relation) string { return r.Schema + "." + r.Name }
	switch m := msg.(type) {
	case repl.Begin:
		return "begin"
	case repl.Commit:
		return "commit"
	case *repl.Relation:
		return "relation " + name(m)
	case repl.Insert:
		return "insert " + name(m.Relation) + " " + tuple(m.New)
	case repl.Update:
		if m.Old == nil {
			return "update " + name(m.Relation) + " " + tuple(m.New)
		}
		return fmt.Sprintf("update %s %s whole=%t to %s", name(m.Relation), tuple(m.Old), m.Whole, tuple(m.New))
	case repl.Delete:
		return fmt.Sprintf("delete %s %s whole=%t", name(m.Relation), tuple(m.Old), m.Whole)
	case repl.Truncate:
		names := make([]string, len(m.Relations))
		for i, r := range m.Relations {
			names[i] = name(r)
		}
		return fmt.Sprintf("truncate %s cascade=%t restart=%t", strings.Join(names, ","), m.Cascade, m.RestartIdentity)
	case repl.Logical:
		return fmt.Sprintf("message %s=%s transactional=%t", m.Prefix, m.Content, m.Transactional)
	}
	return fmt.Sprintf("%T", msg)
}

func tuple(t repl.Tuple) string {
	out := make([]string, len(t))
	for i, v := range t {
		switch v.Kind {
		case repl.Text:
			out[i] = string(v.Text)
		case repl.Null:
			out[i] = "null"
		case repl.Unchanged:
			out[i] = "unchanged"
		}
	}
	return "(" + strings.Join(out, ",") + ")"
}

func dial(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func connect(t *testing.T, dsn string) *repl.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	c, err := repl.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}
