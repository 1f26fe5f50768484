package migrate

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Undo takes a migration back from a target that has none after it, by its Down section, in one round trip: a transaction that
// refuses what must not be done (see landlord.begin_undo), runs the section, secures what it made and deletes the version row.
// Only files of the phase expand can be undone: see [Migration.CheckUndo]. One that the target does not have is no error; ran
// tells whether this call undid it. All else is as with [Migration.Apply].
func (m Migration) Undo(ctx context.Context, conn *pgx.Conn, t Target, by Attempt, l Limits) (ran bool, err error) {
	if m.Scope != t.Scope {
		return false, fmt.Errorf("%s: its scope is %s, the target's %s", m.File, m.Scope, t.Scope)
	}
	if err := m.CheckUndo(); err != nil {
		return false, err
	}
	sql, err := t.compile(conn)
	if err != nil {
		return false, err
	}
	return step{
		conn: conn, migration: m, target: sql, by: by, limits: l,
		begins: "begin_undo", statements: m.Down, function: m.down, indexes: m.downIndexes, undo: true,
	}.run(ctx)
}

// CheckUndo reports what keeps Undo from undoing the migration anywhere.
func (m Migration) CheckUndo() error {
	switch {
	case m.Phase != PhaseExpand:
		return fmt.Errorf("%s is a %s step, which cannot be undone: what was there before it is not kept; write a file that goes on from here",
			m.File, m.Phase)
	case m.inGo && m.down == nil:
		return fmt.Errorf("%s cannot be undone: it has no function for that", m.File)
	case m.downErr != nil:
		return fmt.Errorf("%s cannot be undone: its Down section: %w", m.File, m.downErr)
	case len(m.Down) == 0 && len(m.Statements) > 0:
		return fmt.Errorf("%s cannot be undone: it has no Down section, or an empty one", m.File)
	case !m.NoTransaction:
		return nil
	}
	if _, err := single(m.Down); err != nil {
		return fmt.Errorf("%s cannot be undone: its Down section: %w", m.File, err)
	}
	return nil
}

// Above returns, newest first, the migrations of a scope that a place which has those of have is to lose to be at the version
// to; or why the files do not fit what is applied there, as [Set.Pending] does.
func (s *Set) Above(scope Scope, have []Applied, to int64) ([]Migration, error) {
	if _, err := s.Pending(scope, have); err != nil {
		return nil, err
	}
	files := s.Scoped(scope)[:len(have)]
	files = slices.DeleteFunc(files, func(m Migration) bool { return m.Version <= to })
	slices.Reverse(files)
	return files, nil
}
