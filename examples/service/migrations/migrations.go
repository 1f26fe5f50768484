// Package migrations holds the tables of the service, as goose files that landlord runs in every tenant's home.
package migrations

import "embed"

// Files are the migrations, in the order of their numbers.
//
//go:embed *.sql
var Files embed.FS
