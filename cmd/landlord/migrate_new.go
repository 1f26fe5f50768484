package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
)

// migrationName keeps what a shell, a file system or goose could take for something else out of file names.
var migrationName = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// mostName leaves room for a version and an ending within the 255 bytes of a file name.
const mostName = 200

// newMigration is what `migrate new` writes.
type newMigration struct {
	name, dir     string
	phase         string
	scope         string
	noTransaction bool
	dryRun        bool
}

func newMigrateNewCmd(a *app) *cobra.Command {
	var m newMigration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write an empty migration with the next version",
		Long: `Write an empty migration with the next version: numbered as the folder already is, by sequence or by time, and
from 00001 where it is empty. No file is ever overwritten.`,
		Example: `  landlord migrate new add_orders_note
  landlord migrate new drop_orders_memo --phase contract
  landlord migrate new index_orders_by_note --no-transaction --dir migrations`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			m.name = args[0]
			if err := m.validate(); err != nil {
				return err
			}
			var err error
			if m.dir, err = a.migrationsDir(m.dir); err != nil {
				return err
			}
			return a.newMigration(m)
		},
	}
	cmd.Flags().StringVar(&m.dir, "dir", "", "`folder` of the migrations (default: the configuration's)")
	cmd.Flags().StringVar(&m.phase, "phase", string(migrate.PhaseExpand), "when it runs: expand, backfill, validate or contract")
	cmd.Flags().StringVar(&m.scope, "scope", string(migrate.ScopeTenant), "where it runs, once in each: tenant, database or server")
	cmd.Flags().BoolVar(&m.noTransaction, "no-transaction", false, "let it run outside a transaction, as an index built concurrently must")
	cmd.Flags().BoolVar(&m.dryRun, "dry-run", false, "only print the path")
	return cmd
}

func (m newMigration) validate() error {
	switch {
	case len(m.name) > mostName:
		return usageError("name the migration: %d bytes are too many for a file name: use at most %d", len(m.name), mostName)
	case !migrationName.MatchString(m.name):
		return usageError("name the migration: %.70q cannot be part of its file's name: use lower-case letters and digits, joined by single underscores, like add_orders_note", m.name)
	}
	phase, err := migrate.ParsePhase(m.phase)
	if err != nil {
		return usageError("--phase: %w", err)
	}
	if phase == migrate.PhaseBackfill && m.noTransaction {
		return usageError("a backfill runs in batches, each of them a transaction: leave --no-transaction out")
	}
	scope, err := migrate.ParseScope(m.scope)
	if err != nil {
		return usageError("--scope: %w", err)
	}
	if phase == migrate.PhaseBackfill && scope != migrate.ScopeTenant {
		return usageError("a backfill goes over the tables of homes: its scope is tenant")
	}
	return nil
}

// text is the file: header and empty sections.
func (m newMigration) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- landlord: phase=%s scope=%s\n", m.phase, m.scope)
	if m.noTransaction {
		b.WriteString("-- +goose NO TRANSACTION\n")
	}
	b.WriteString("-- +goose Up\n\n\n-- +goose Down\n")
	return b.String()
}

func (a *app) newMigration(m newMigration) error {
	path, err := m.write()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write a migration: there is no folder %s: make it first, or name another with --dir", m.dir)
	case err != nil:
		return fmt.Errorf("write a migration: %w", err)
	}
	return a.show(map[string]any{"path": path, "dry_run": m.dryRun}, func(w io.Writer) { fmt.Fprintln(w, path) })
}

// write writes the file, or in a dry run only says where. The folder is locked meanwhile: two that look for the next version at
// once would find the same.
func (m newMigration) write() (path string, err error) {
	folder, err := os.Open(m.dir)
	if err != nil {
		return "", err
	}
	defer folder.Close() // and with it the lock
	err = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EBADF) && !errors.Is(err, syscall.ENOLCK) {
		return "", fmt.Errorf("lock %s: %w", m.dir, err) // those are what file systems say that cannot lock a folder
	}
	version, err := migrate.NextVersion(os.DirFS(m.dir), time.Now())
	if err != nil {
		return "", err
	}
	path = filepath.Join(m.dir, version+"_"+m.name+".sql")
	if m.dryRun {
		return path, nil
	}
	return path, writeNew(path, m.text())
}

// writeNew writes a file that did not exist.
func writeNew(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(text)
	return err
}
