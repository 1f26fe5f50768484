package migrate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// StatementError is an error of one statement of a file.
type StatementError struct {
	Excerpt string // its beginning, on one line
	Err     error
}

func (e *StatementError) Error() string { return fmt.Sprintf("statement %q: %v", e.Excerpt, e.Err) }
func (e *StatementError) Unwrap() error { return e.Err }

// Watch applies the migration as [Migration.Apply] does, one statement after the other, and calls watch within the transaction:
// before each statement with its place in the file, from 0, and its text, and once more at the end, with the number of
// statements and no text. An error of watch ends it, and one of a statement is a [StatementError]; the target is as it was then.
//
// It is for a copy that nobody else uses: each statement is a round trip in which locks are held. Not every migration is
// [Migration.Watchable].
func (m Migration) Watch(ctx context.Context, conn *pgx.Conn, t Target, by Attempt, l Limits, watch func(next int, text string) error) error {
	if m.Scope != t.Scope {
		return fmt.Errorf("%s: its scope is %s, the target's %s", m.File, m.Scope, t.Scope)
	}
	if !m.Watchable() {
		return fmt.Errorf("%s: it is in Go or marked NO TRANSACTION, and cannot be watched", m.File)
	}
	sql, err := t.compile(conn)
	if err != nil {
		return err
	}
	statements, err := m.split()
	if err == nil {
		err = m.step(conn, sql, by, l).watch(ctx, statements, watch)
	}
	if err != nil {
		leave(ctx, conn)
		return fmt.Errorf("%s: %w", m.File, err)
	}
	return nil
}

// Watchable tells whether the migration is a file whose statements run in one transaction.
func (m Migration) Watchable() bool { return !m.NoTransaction && !m.inGo }

func (s step) watch(ctx context.Context, statements []string, watch func(next int, text string) error) error {
	if err := exec(ctx, s.conn, s.begin()+s.beginStep(false)); err != nil {
		return err
	}
	for i, text := range statements {
		if err := watch(i, text); err != nil {
			return err
		}
		if err := exec(ctx, s.conn, text); err != nil {
			return &StatementError{sqltext.Excerpt(text), err}
		}
	}
	if err := watch(len(statements), ""); err != nil {
		return err
	}
	return exec(ctx, s.conn, s.end())
}

// split returns the file's statements, one by one.
func (m Migration) split() (statements []string, err error) {
	for _, message := range m.Statements {
		tokens, err := sqltext.Tokenize(message)
		if err != nil {
			return nil, err
		}
		for _, s := range sqltext.Split(tokens) {
			statements = append(statements, message[s[0].Pos:s[len(s)-1].End])
		}
	}
	return statements, nil
}
