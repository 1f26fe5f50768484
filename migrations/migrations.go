// Package migrations holds landlord's SQL and nothing else: control/ makes the catalog, home/ what lies beside the data.
//
// It guarantees that the files travel inside the binary. Applying them is left to placement (control) and isolation
// (home).
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed control/*.sql
var control embed.FS

//go:embed all:home
var home embed.FS

// Control returns the goose migrations of the catalog.
func Control() fs.FS { return sub(control, "control") }

// Home returns the SQL of what lies beside the data.
func Home() fs.FS { return sub(home, "home") }

func sub(files embed.FS, dir string) fs.FS {
	fsys, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // only an invalid path: a mistake in this file
	}
	return fsys
}
