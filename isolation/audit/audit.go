// Package audit reads the catalog of a database that holds tenants and names what could let one tenant see or touch another's
// rows, with the SQL that mends it.
//
// It guarantees to change nothing while it looks: one query, in a read-only transaction. A policy counts as landlord's own only
// if PostgreSQL writes it back as the template of landlord.secure_table and it depends on nothing but its table and
// landlord.tenant(), whose body must be the one of this release. Only what landlord itself would make is mended ([Fix]): no row
// is touched, and nothing of the application's is dropped.
//
// It knows one database at a time. Which there are, which tenants live there and what is allowed there is left to others.
package audit

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
)

// Home is a schema with tables of the application.
type Home struct {
	Schema string
	Tenant string // canonical id; "": a shared home
}

// Database says what a database ought to be.
type Database struct {
	Login string // the application's login there
	Mode  isolation.Mode
	Homes []Home
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Rule     string
	Severity Severity
	Object   string   // as PostgreSQL names it, with its schema
	Detail   string   // what is so; may be empty
	Risk     string   // what can happen, in one sentence
	SQL      []string // what mends it; empty: nothing that could be run
	Safe     bool     // [Fix] runs SQL
	Server   bool     // it is the same in every database of the server
}

// Check looks at conn's database and returns what it finds, the gravest first; nothing is no error. conn's login must be able to
// read landlord.identity, and is taken for somebody with business here: it should be the one that made the homes.
func Check(ctx context.Context, conn *pgx.Conn, db Database) ([]Finding, error) {
	schemas, tenants := make([]string, len(db.Homes)), make([]string, len(db.Homes))
	for i, h := range db.Homes {
		schemas[i], tenants[i] = h.Schema, h.Tenant
	}
	release, err := isolation.ReadRelease(db.Mode)
	if err != nil {
		return nil, fmt.Errorf("audit the database: %w", err)
	}
	names, sums := release.Sums()
	var findings []Finding
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// What is written back is qualified where pg_catalog alone is searched. Nothing says how many rows the sets of the query
		// have, and to join two of them row by row would take minutes. To compile the query would take longer than to run it.
		const set = `set local search_path = pg_catalog; set local enable_nestloop = off; set local jit = off; set local work_mem = '64MB'`
		if _, err := tx.Exec(ctx, set); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, query, pgx.QueryExecModeExec, db.Login, schemas, tenants, string(db.Mode), names, sums, release.Checksum)
		if err != nil {
			return err
		}
		findings, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit the database: %w", err)
	}
	slices.SortFunc(findings, compare)
	return findings, nil
}

func scan(row pgx.CollectableRow) (f Finding, err error) {
	var detail *string
	if err := row.Scan(&f.Rule, &f.Object, &detail, &f.SQL); err != nil {
		return f, err
	}
	if detail != nil {
		f.Detail = *detail
	}
	rule, ok := byName[f.Rule]
	if !ok {
		return f, fmt.Errorf("the query found %q, which is no rule", f.Rule)
	}
	f.Severity, f.Risk, f.Safe, f.Server = rule.Severity, rule.Risk, rule.Safe(), rule.Server
	return f, nil
}

// compare orders findings by severity, rule and object.
func compare(a, b Finding) int {
	if d := slices.Index(Severities, a.Severity) - slices.Index(Severities, b.Severity); d != 0 {
		return d
	}
	return strings.Compare(a.Rule+"\x00"+a.Object+"\x00"+a.Detail, b.Rule+"\x00"+b.Object+"\x00"+b.Detail)
}

//go:embed queries/*.sql
var queries embed.FS

// query is all rules as one statement: base.sql names what they look at, each other file holds some of them.
var query = func() string {
	var rules []string
	for _, name := range []string{"tables", "policies", "relations", "routines", "database", "landlord", "roles"} {
		rules = append(rules, read(name))
	}
	text := strings.NewReplacer("{fixed releases}", fixedReleases(), "{sum}", isolation.SumSQL).Replace(strings.Join(rules, "union all\n"))
	return "with recursive\n" + read("base") + "finding as (\n" + text +
		")\nselect rule, object, detail, fix from finding"
}()

func read(name string) string {
	text, err := queries.ReadFile("queries/" + name + ".sql")
	if err != nil {
		panic(err) // it is compiled in
	}
	return string(text)
}
