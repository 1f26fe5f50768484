package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// manifestFile is written last: a folder without it is no export.
const manifestFile = "manifest.json"

// manifest says what an export holds.
type manifest struct {
	placementView
	ExportedAt time.Time      `json:"exported_at"`
	Format     string         `json:"format"`
	Tables     []exportedFile `json:"tables"`
	DryRun     bool           `json:"dry_run,omitempty"`
}

type exportedFile struct {
	Table  string `json:"table"`
	Class  string `json:"class"` // tenant or reference
	File   string `json:"file"`
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256,omitempty"`
}

func newTenantExportCmd(a *app) *cobra.Command {
	var id, to string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "export SLUG --to DIR",
		Short: "Write a tenant's rows and the reference tables to CSV files",
		Long: `Write a tenant's rows and the reference tables of its home to CSV files, one for each table, as they are at
one moment, and a manifest.json with row counts and SHA-256 sums. A suspended tenant can be exported too.
The folder is made, or must be empty. It holds the tenant's data in clear: only its owner may read it.`,
		Example: `  landlord tenant export acme --to ./acme
  jq -r '.tables[] | "\(.sha256)  \(.file)"' ./acme/manifest.json | (cd ./acme && sha256sum -c)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			if to == "" {
				return usageError("--to is empty: name a folder for the files")
			}
			return a.exportTenant(cmd.Context(), w, to, dryRun)
		},
	}
	idFlag(cmd, &id)
	cmd.Flags().StringVar(&to, "to", "", "`folder` for the files")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count what would be written")
	_ = cmd.MarkFlagRequired("to") // fails only for a flag that does not exist
	return cmd
}

func (a *app) exportTenant(ctx context.Context, w whose, folder string, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := h.tenant(ctx, w)
	if err != nil {
		return err
	}
	if err := checkEmpty(folder); err != nil {
		return fmt.Errorf("export tenant %s: %w", t.Slug, err)
	}
	m := manifest{
		placementView: viewPlacement(t.Placement()), ExportedAt: time.Now().UTC(), Tables: []exportedFile{}, DryRun: dryRun,
		Format: "CSV with a header line, UTF-8, NULL as an empty field without quotes",
	}
	x := export{folder: folder, tenant: t, dryRun: dryRun, manifest: &m, progress: a.progress}
	if err := h.atHome(ctx, t, func(conn *pgx.Conn) error { return x.run(ctx, conn) }); err != nil {
		return fmt.Errorf("export tenant %s: %w", t.Slug, errors.Join(err, x.undo()))
	}
	return a.show(m, func(w io.Writer) {
		fmt.Fprintln(w, "TABLE\tCLASS\tROWS\tFILE")
		for _, f := range m.Tables {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", f.Table, f.Class, f.Rows, filepath.Join(folder, f.File))
		}
	})
}

// checkEmpty refuses a folder in which there is anything.
func checkEmpty(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: name another folder", folder)
	}
	return nil
}

// export is one export under way.
type export struct {
	folder   string
	tenant   placement.Tenant
	dryRun   bool
	manifest *manifest
	written  []string // what undo takes away
	progress func(string, ...any)
}

func (x *export) run(ctx context.Context, conn *pgx.Conn) error {
	tables, err := homeTables(ctx, conn, x.tenant)
	if err != nil {
		return err
	}
	if !x.dryRun {
		if err := os.MkdirAll(x.folder, 0o700); err != nil {
			return err
		}
	}
	err = readHome(ctx, conn, func(tx pgx.Tx) error {
		if err := x.checkHome(ctx, tx); err != nil {
			return err
		}
		for _, table := range tables {
			f, err := x.table(ctx, tx, table)
			if err != nil {
				return fmt.Errorf("table %s: %w", table.name, err)
			}
			x.manifest.Tables = append(x.manifest.Tables, f)
		}
		return nil
	})
	if err != nil || x.dryRun {
		return err
	}
	text, err := json.MarshalIndent(x.manifest, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(x.folder, manifestFile)
	x.written = append(x.written, file)
	return replaceFile(file, string(text)+"\n")
}

// checkHome refuses a home which the tenant has left, or where it is not yet, in the snapshot that is read.
func (x *export) checkHome(ctx context.Context, tx pgx.Tx) error {
	fence, err := findFence(ctx, tx.Conn(), x.tenant)
	if err != nil {
		return err
	}
	if fence == nil || fence.Epoch != x.tenant.Epoch || fence.State == string(isolation.Moved) || fence.State == string(isolation.Importing) {
		return fmt.Errorf("its home %s does not say that it lives there: try again, or see 'landlord doctor'", x.tenant.Home)
	}
	return nil
}

func (x *export) table(ctx context.Context, tx pgx.Tx, table homeTable) (exportedFile, error) {
	// A name may hold anything; escaped it is one file in this folder.
	out := exportedFile{Table: table.name, Class: table.class, File: url.PathEscape(table.name) + ".csv"}
	if x.dryRun {
		return out, tx.QueryRow(ctx, `select count(*) from (`+table.query(x.tenant)+`) all_rows`).Scan(&out.Rows)
	}
	x.progress("exporting %s", table.name)
	path := filepath.Join(x.folder, out.File)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return out, err
	}
	x.written = append(x.written, path)
	sum := sha256.New()
	q := "copy (" + table.query(x.tenant) + ") to stdout with (format csv, header, encoding 'UTF8')"
	tag, err := tx.Conn().PgConn().CopyTo(ctx, io.MultiWriter(file, sum), q)
	if err = errors.Join(err, file.Close()); err != nil {
		return out, err
	}
	out.Rows, out.SHA256 = tag.RowsAffected(), hex.EncodeToString(sum.Sum(nil))
	return out, nil
}

// undo takes away what a failed export has written, so that it can be repeated.
func (x *export) undo() error {
	var errs []error
	for _, file := range x.written {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
