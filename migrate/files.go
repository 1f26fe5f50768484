package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// File is one file of a directory of migrations, as far as it could be read.
type File struct {
	Migration
	Name string // base name, also where Migration is empty
	Text string

	// Err is why the file cannot be part of a set, and Line where it says so; 0 means the file as a whole.
	Err  error
	Line int
}

// Files reads every file in the root of fsys and goes on where [Load] stops, in ascending order of version. What single
// statements must not say is left to Load. An error means that fsys itself cannot be read.
func Files(fsys fs.FS) ([]File, error) {
	files, err := readFiles(fsys)
	findHoles(files)
	return files, err
}

func readFiles(fsys fs.FS) ([]File, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if e.IsDir() || ext != ".sql" && ext != ".go" || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		version, err := goose.NumericComponent(e.Name())
		f := File{Name: e.Name(), Migration: Migration{Version: version, File: e.Name()}}
		switch {
		case err != nil && ext == ".go":
			continue // a helper or an embed directive beside the files
		case err != nil:
			f.Err = errName
		case ext == ".go":
			f.Err = ErrGo
		default:
			if err := f.read(fsys); err != nil {
				return nil, err
			}
		}
		files = append(files, f)
	}
	sortFiles(files)
	return files, nil
}

func sortFiles(files []File) {
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Version, b.Version) })
}

// ErrGo reports the source of a migration in Go that the program does not bring along.
var ErrGo = errors.New("a migration in Go is run by a program that brings it along: write one that hands it to " +
	"migrate.Load(folder, migrations...) and calls fleet.New and Up with that set; or write it as SQL")

var (
	errName = errors.New("the name does not start with a version and an underscore, so goose would leave it out: " +
		"rename it, like 00001_customers.sql")
	errMark = errors.New("the file starts with a byte order mark, which hides its first line: save it as UTF-8 without one")
	errNull = errors.New("the line holds a zero byte, which no server takes: save the file as UTF-8, not as UTF-16 or binary")
)

// read fills f. What is wrong with the text is f's own error.
func (f *File) read(fsys fs.FS) error {
	text, err := fs.ReadFile(fsys, f.Name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	f.Text, f.Checksum = string(text), hex.EncodeToString(sum[:])
	if strings.HasPrefix(f.Text, "\ufeff") {
		f.Err, f.Line = errMark, 1
		return nil
	}
	if before, _, found := strings.Cut(f.Text, "\x00"); found {
		f.Err, f.Line = errNull, 1+strings.Count(before, "\n")
		return nil
	}
	h, err := readHeader(f.Text)
	f.Phase, f.Scope, f.Waivers = h.phase, h.scope, h.waivers
	if at, ok := errors.AsType[*lineError](err); ok {
		f.Err, f.Line = err, at.line
	}
	c, err := compile(context.Background(), fsys, f.Name, true)
	f.Statements, f.NoTransaction = c.statements, c.noTransaction
	f.Err = cmp.Or(f.Err, err)
	if err == nil {
		c, f.downErr = compile(context.Background(), fsys, f.Name, false)
		f.Down = c.statements
	}
	return nil
}

// firstTimestamp parts the two ways to number goose files: what is smaller is a sequence, in which
// a missing number is a missing file.
const firstTimestamp = 19700101000000

// findHoles marks files that cannot follow the one before them.
func findHoles(files []File) {
	for i := 1; i < len(files); i++ {
		before, f := files[i-1], &files[i]
		switch {
		case f.Err != nil || errors.Is(before.Err, errName):
		case f.Version == before.Version:
			f.Err = fmt.Errorf("version %d exists twice: %s and %s", f.Version, before.Name, f.Name)
		case f.Version < firstTimestamp && f.Version != before.Version+1:
			f.Err = fmt.Errorf("no file for version %d between %s and %s", before.Version+1, before.Name, f.Name)
		}
	}
}

// NextVersion returns the version of a file that is to follow those in the root of fsys, as its name begins: numbered as they
// are, by sequence or by time, and from 00001 where there are none.
func NextVersion(fsys fs.FS, now time.Time) (string, error) {
	files, err := Files(fsys)
	if err != nil {
		return "", err
	}
	var last int64
	if len(files) > 0 {
		last = files[len(files)-1].Version
	}
	next := last + 1
	if next >= firstTimestamp {
		stamp, err := strconv.ParseInt(now.UTC().Format("20060102150405"), 10, 64)
		if err != nil {
			return "", err
		}
		next = max(next, stamp)
	}
	return fmt.Sprintf("%05d", next), nil
}
