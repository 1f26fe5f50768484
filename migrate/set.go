// Package migrate turns goose files into what a fleet of homes is built from.
//
// A Set is one directory of goose SQL files, compiled once through goose itself: for every version
// it holds exactly the statements that goose would send, so that a home costs a few messages and
// no parsing. Load refuses what could not be run safely in somebody's home: holes and duplicates
// in the versions, files that control the transaction or change the search path or the role,
// COPY from the client, names that say in which schema something is made or changed, and sources
// of migrations in Go that the program does not bring along as a [GoMigration].
//
// Build brings one new home to the version of the set, in one transaction together with the rows
// of landlord.schema_version that say so and with the securing of every table that it made. A
// home is therefore at a version or is not; there is no state in between to repair. Files marked
// NO TRANSACTION are the exception that PostgreSQL forces; see [Set.Build].
//
// Who is built where, and the roles and schemas that must exist before, are left to the callers.
package migrate

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// Migration is one goose file, compiled.
type Migration struct {
	Version  int64
	File     string // base name, for messages
	Checksum string // SHA-256 of the file as it lies there, in hexadecimal

	// Statements are what goose sends, in order, one message each: annotations resolved, variables
	// of ENVSUB sections replaced by the environment of the process that loaded the set. One of
	// them may hold several SQL statements, since goose ends a statement at a line's last semicolon.
	Statements []string

	// Down are those of the Down section, for [Migration.Undo]. None: it has no such section.
	Down []string

	Phase   Phase
	Scope   Scope
	Waivers []Waiver // rules of the linter that the file may break

	// NoTransaction says that the file is marked NO TRANSACTION.
	NoTransaction bool

	// write is the statement of a backfill.
	write sqltext.Write

	// indexes are what the file makes with CREATE INDEX CONCURRENTLY, and downIndexes what its Down section makes.
	indexes, downIndexes []string
	downErr              error // what is wrong with the Down section: it matters to who wants to undo the file

	// What a migration in Go has instead of statements.
	inGo     bool
	up, down GoFunc
}

// Set is a directory of migrations in ascending order of version. It does not change once loaded
// and may be used by any number of goroutines.
type Set struct {
	migrations []Migration
}

// Load compiles the goose files in the root of fsys, and puts migrations in Go among them by their versions. A set without
// files is valid and builds nothing. Errors name the file, and the statement where it is one.
func Load(fsys fs.FS, inGo ...GoMigration) (*Set, error) {
	files, err := readFiles(fsys)
	if err == nil {
		files, err = register(files, inGo)
	}
	if err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	findHoles(files)
	s := &Set{}
	for _, f := range files {
		if f.Err == nil {
			f.Err = f.inspect()
		}
		if f.Err != nil {
			return nil, fmt.Errorf("load migrations: %s: %w", f.Name, f.Err)
		}
		s.migrations = append(s.migrations, f.Migration)
	}
	return s, nil
}

// Migrations returns the compiled files in ascending order of version.
func (s *Set) Migrations() []Migration { return slices.Clone(s.migrations) }

// Versions returns the versions of the set in ascending order.
func (s *Set) Versions() []int64 {
	versions := make([]int64, len(s.migrations))
	for i, m := range s.migrations {
		versions[i] = m.Version
	}
	return versions
}
