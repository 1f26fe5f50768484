package pglocal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BinEnv names the variable that points at the folder with PostgreSQL's server programs.
const BinEnv = "LANDLORD_PG_BIN"

// MinMajor is the oldest PostgreSQL that landlord supports.
const MinMajor = 15

// programs are what a local server needs; npm's and other trimmed packages ship just these.
var programs = []string{"initdb", "postgres", "pg_ctl"}

// usualFolders are where Debian, the RPM packages, Alpine, a build from source, Homebrew and Postgres.app put them.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Install is one set of PostgreSQL's server programs.
type Install struct {
	Bin     string // the folder that holds them
	Major   int    // 15
	Version string // as the server says it: "15.13 (Debian 15.13-0+deb12u1)"
}

// NotFoundError reports that no fitting server programs are on this machine. Its text says how to get them.
type NotFoundError struct {
	Major  int       // the version asked for, 0 for any
	Others []Install // what was found instead
}

func (e *NotFoundError) Error() string {
	var b strings.Builder
	want := fmt.Sprintf("%d or newer", MinMajor)
	if e.Major != 0 {
		want = strconv.Itoa(e.Major)
	}
	fmt.Fprintf(&b, "find PostgreSQL: no server programs (%s) of version %s in %s, PATH or the usual folders",
		strings.Join(programs, ", "), want, BinEnv)
	for i, in := range e.Others {
		b.WriteString([]string{"; only ", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "%d in %s", in.Major, in.Bin)
	}
	major := cmp.Or(e.Major, 17)
	debian := "postgresql"
	if e.Major != 0 {
		debian += "-" + strconv.Itoa(e.Major)
	}
	fmt.Fprintf(&b, `. Install it:
  Debian, Ubuntu  sudo apt-get install %s
  macOS           brew install postgresql@%d
  Docker          docker run -d -p 127.0.0.1:5432:5432 -e POSTGRES_PASSWORD=... postgres:%d-alpine
                  (then add it as a cluster, or name it in LANDLORD_TEST_DSN for the tests)
or set %s to the folder that holds the programs`, debian, major, major, BinEnv)
	return b.String()
}

// Find returns the server programs of the given major version, or with 0 of any that landlord supports.
// LANDLORD_PG_BIN alone counts when it is set; else PATH goes first, then the usual folders, newest first.
func Find(major int) (Install, error) {
	if dir := os.Getenv(BinEnv); dir != "" {
		in, err := inspect(dir)
		if err != nil {
			return Install{}, fmt.Errorf("find PostgreSQL: %s: %w", BinEnv, err)
		}
		if !in.fits(major) {
			return Install{}, fmt.Errorf("find PostgreSQL: %w", &NotFoundError{Major: major, Others: []Install{in}})
		}
		return in, nil
	}
	var others []Install
	for _, in := range candidates() {
		if in.fits(major) {
			return in, nil
		}
		others = append(others, in)
	}
	return Install{}, &NotFoundError{Major: major, Others: others}
}

func (in Install) fits(major int) bool {
	return in.Major == major || major == 0 && in.Major >= MinMajor
}

func (in Install) program(name string) string { return filepath.Join(in.Bin, name) }

// candidates lists what is installed: PATH's first, then the usual folders' newest first.
func candidates() []Install {
	var found []Install
	for _, pattern := range usualFolders {
		dirs, _ := filepath.Glob(pattern) // the patterns are constants and well formed
		for _, dir := range dirs {
			if in, err := inspect(dir); err == nil {
				found = append(found, in)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Install) int { return cmp.Compare(b.Major, a.Major) })
	if path, err := exec.LookPath("initdb"); err == nil {
		// A package manager may link single programs into PATH: the folder they come from has all of them.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			if in, err := inspect(filepath.Dir(real)); err == nil {
				found = slices.Insert(found, 0, in)
			}
		}
	}
	return found
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (([0-9]+)\S*.*)`)

// inspect makes sure that dir holds the server programs and asks for their version.
func inspect(dir string) (Install, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Install{}, err
	}
	for _, p := range programs {
		if fi, err := os.Stat(filepath.Join(dir, p)); err != nil {
			return Install{}, err
		} else if fi.IsDir() || fi.Mode()&0o111 == 0 {
			return Install{}, fmt.Errorf("%s is not a program", filepath.Join(dir, p))
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "-V").Output()
	if err != nil {
		return Install{}, fmt.Errorf("run %s -V: %w", filepath.Join(dir, "postgres"), err)
	}
	m := versionLine.FindStringSubmatch(strings.TrimSpace(string(out)))
	if m == nil {
		return Install{}, errors.New("read the version of " + filepath.Join(dir, "postgres"))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Install{}, fmt.Errorf("read the version of %s: %w", filepath.Join(dir, "postgres"), err)
	}
	return Install{Bin: dir, Major: major, Version: m[1]}, nil
}
