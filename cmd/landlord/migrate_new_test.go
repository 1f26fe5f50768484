package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func (s *shop) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	require.NoError(s.t, err)
	return string(text)
}

func TestNewMigrationsFollowEachOther(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/README.md", "")
	require.Equal(t, "m/00001_orders.sql\n", s.ok("migrate", "new", "orders", "--dir", "m"))
	require.Equal(t, "m/00002_drop_memo.sql\n", s.ok("migrate", "new", "drop_memo", "--dir", "m", "--phase", "contract", "--scope", "database", "--no-transaction"))
	require.Equal(t, "-- landlord: phase=expand scope=tenant\n-- +goose Up\n\n\n-- +goose Down\n", s.read("m/00001_orders.sql"))
	require.Equal(t, "-- landlord: phase=contract scope=database\n-- +goose NO TRANSACTION\n-- +goose Up\n\n\n-- +goose Down\n", s.read("m/00002_drop_memo.sql"))
	require.Contains(t, s.ok("migrate", "lint", "--dir", "m"), "nothing found", "what is written can be read")
}

func TestNewMigrationsAreNumberedAsTheFolderIs(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("stamps/20240102030405_a.sql", "-- +goose Up\n")
	require.Regexp(t, `^stamps/20\d{12}_b\.sql\n$`, s.ok("migrate", "new", "b", "--dir", "stamps"))
	s.write("future/29991231235959_a.sql", "-- +goose Up\n")
	require.Equal(t, "future/29991231235960_b.sql\n", s.ok("migrate", "new", "b", "--dir", "future"), "never below what there is")
	s.write("short/9_a.sql", "-- +goose Up\nbroken")
	require.Equal(t, "short/00010_b.sql\n", s.ok("migrate", "new", "b", "--dir", "short"))
}

func TestNewMigrationIsNotWrittenInADryRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\n")
	out := parse[struct {
		Path   string
		DryRun bool `json:"dry_run"`
	}](t, s.ok("migrate", "new", "b", "--dir", "m", "--dry-run", "--json"))
	require.Equal(t, "m/00002_b.sql", out.Path)
	require.True(t, out.DryRun)
	require.NoFileExists(t, filepath.Join(s.dir, out.Path))
}

func TestNewMigrationRefusesWhatIsNoName(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\n")
	for _, name := range []string{
		"", " ", "../evil", "a/b", `a\b`, "a b", "A", "a-b", "-- x", ".hidden", "a.sql", "a\nb", "été", "_a", "a_", "a__b", "$(rm)", strings.Repeat("a", 201),
	} {
		r := s.run("migrate", "new", "--dir", "m", "--", name)
		require.Equal(t, 2, r.status, "%q", name)
		require.Contains(t, r.stderr, "name the migration", "%q", name)
	}
	for _, args := range [][]string{
		{"a", "--phase", "later"},
		{"a", "--scope", "fleet"},
		{"a", "--phase", "backfill", "--no-transaction"},
		{"a", "--phase", "backfill", "--scope", "database"},
		{},
		{"a", "b"},
	} {
		require.Equal(t, 2, s.run(append([]string{"migrate", "new", "--dir", "m"}, args...)...).status, "%v", args)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "m"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestNewMigrationNeedsAFolder(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := s.run("migrate", "new", "a", "--dir", "nowhere")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "make it first")
	r = s.run("migrate", "new", "a")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.stderr, "--dir")
}

func TestNewMigrationsThatAreWrittenAtOnceGetVersionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("m/00001_a.sql", "-- +goose Up\n")
	const writers = 12
	var g errgroup.Group
	for i := range writers {
		g.Go(func() error {
			out, err := s.command("migrate", "new", fmt.Sprintf("n%d", i/2), "--dir", "m").CombinedOutput() // two of each name
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	entries, err := os.ReadDir(filepath.Join(s.dir, "m"))
	require.NoError(t, err)
	require.Len(t, entries, writers+1)
	for i, e := range entries {
		require.Equal(t, fmt.Sprintf("%05d", i+1), e.Name()[:5])
	}
}
