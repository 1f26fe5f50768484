// Package migrate turns goose files into what a fleet of homes is built from.
//
// A Set is one directory of goose SQL files, compiled once through goose itself: for every version
// it holds exactly the statements that goose would send, so that a home costs a few messages and
// no parsing. Load refuses what could not be run safely in somebody's home: holes and duplicates
// in the versions, files that control the transaction or change the search path or the role,
// COPY from the client, Go migrations, names that say in which schema something is made or changed.
//
// Build brings one new home to the version of the set, in one transaction together with the rows
// of landlord.schema_version that say so and with the securing of every table that it made. A
// home is therefore at a version or is not; there is no state in between to repair. Files marked
// NO TRANSACTION are the exception that PostgreSQL forces; see [Set.Build].
//
// Who is built where, and the roles and schemas that must exist before, are left to the callers.
package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
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

	Phase   Phase
	Scope   Scope
	Waivers []Waiver // rules of the linter that the file may break

	// NoTransaction says that the file is marked NO TRANSACTION.
	NoTransaction bool

	// indexes are what the file makes with CREATE INDEX CONCURRENTLY.
	indexes []string
}

// Set is a directory of migrations in ascending order of version. It does not change once loaded
// and may be used by any number of goroutines.
type Set struct {
	migrations []Migration
}

// Load compiles the goose files in the root of fsys. A set without files is valid and builds
// nothing. Errors name the file, and the statement where it is one.
func Load(fsys fs.FS) (*Set, error) {
	files, err := list(fsys)
	if err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	if len(files) == 0 {
		return &Set{}, nil
	}
	if err := noHoles(files); err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	compiled, err := compile(context.Background(), fsys)
	if err != nil {
		return nil, fmt.Errorf("load migrations: %w", err)
	}
	if len(compiled) != len(files) {
		return nil, fmt.Errorf("load migrations: goose ran %d of %d files", len(compiled), len(files))
	}
	s := &Set{migrations: files}
	for i := range s.migrations {
		m, c := &s.migrations[i], compiled[i]
		if m.Version != c.version {
			return nil, fmt.Errorf("load migrations: %s: goose ran version %d in its place", m.File, c.version)
		}
		m.Statements, m.NoTransaction = c.statements, c.noTransaction
		if err := m.inspect(); err != nil {
			return nil, fmt.Errorf("load migrations: %s: %w", m.File, err)
		}
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

// list reads which migrations there are, what they weigh and what they say of themselves.
func list(fsys fs.FS) ([]Migration, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var files []Migration
	for _, e := range entries {
		name, ext := e.Name(), path.Ext(e.Name())
		if e.IsDir() || ext != ".sql" && ext != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		version, err := goose.NumericComponent(name)
		switch {
		case err != nil && ext == ".go":
			continue // a helper or an embed directive beside the files
		case err != nil:
			return nil, fmt.Errorf("%s: the name does not start with a version and an underscore, so goose would leave it out: rename it, like 00001_customers.sql", name)
		case ext == ".go":
			return nil, fmt.Errorf("%s: Go migrations cannot be compiled into a set: write it as SQL", name)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		h, err := readHeader(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		sum := sha256.Sum256(text)
		files = append(files, Migration{
			Version: version, File: name, Checksum: hex.EncodeToString(sum[:]),
			Phase: h.phase, Scope: h.scope, Waivers: h.waivers,
		})
	}
	slices.SortFunc(files, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	return files, nil
}

// firstTimestamp parts the two ways to number goose files: what is smaller is a sequence, in which
// a missing number is a missing file.
const firstTimestamp = 19700101000000

func noHoles(files []Migration) error {
	for i := 1; i < len(files); i++ {
		before, m := files[i-1], files[i]
		switch {
		case m.Version == before.Version:
			return fmt.Errorf("version %d exists twice: %s and %s", m.Version, before.File, m.File)
		case m.Version < firstTimestamp && m.Version != before.Version+1:
			return fmt.Errorf("no file for version %d between %s and %s", before.Version+1, before.File, m.File)
		}
	}
	return nil
}
