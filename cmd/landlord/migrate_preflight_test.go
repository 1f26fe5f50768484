package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type planOutput struct {
	UpToDate int `json:"up_to_date"`
	Targets  int
	Lint     struct{ Errors, Warnings, Infos, Waived int }

	Rehearsals []struct {
		Cluster, Skipped, Failure, Doubt string

		Steps []struct {
			File, Home, Error string
			Milliseconds      float64
		}
	}
	EstimateSeconds *float64 `json:"estimate_seconds"`
}

// plan runs `migrate plan`, which must end with this status.
func (s *shop) plan(status int, args ...string) planOutput {
	s.t.Helper()
	r := s.run(append([]string{"migrate", "plan", "--json"}, args...)...)
	require.Equal(s.t, status, r.status, r.stderr+r.stdout)
	return parse[planOutput](s.t, r.stdout)
}

// block is a DO block in a file.
func block(sql string) string {
	return "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin execute '" + strings.ReplaceAll(sql, "'", "''") + "'; end $$;\n-- +goose StatementEnd\n"
}

func TestMigrateUpBeginsNothingThatARehearsalOrTheLinterFindsFault(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	all := []string{"t-shared", "neighbour", "t-schema", "t-database"}
	const file = ".landlord/migrations/00004_x.sql"

	// What is there once: the shared home has it, and the schema beside it fails.
	s.write(file, block("create schema audit"))
	out := s.plan(4)
	require.Equal(t, 4, out.Targets)
	require.Nil(t, out.EstimateSeconds)
	require.Len(t, out.Rehearsals, 2)
	for _, r := range out.Rehearsals {
		require.Contains(t, r.Failure, "worked in the first home and failed in its sibling")
		require.Contains(t, r.Failure, "42P06")
		require.Empty(t, r.Steps[0].Error)
		require.Contains(t, r.Steps[1].Error, "42P06")
	}
	r := s.run("migrate", "plan")
	require.Equal(t, 4, r.status)
	require.Contains(t, r.stdout, "rehearsal on cluster a: failed: 00004_x.sql: statement")
	r = s.run("migrate", "up")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "nothing was touched")
	require.Contains(t, r.stderr, "00004_x.sql")
	require.Contains(t, r.stderr, "create schema audit")
	require.Contains(t, r.stderr, "--no-rehearsal")
	require.Equal(t, 1, s.run("migrate", "status").status, "there is no run")
	require.Empty(t, s.plan(0, "--no-rehearsal").Rehearsals)

	// An error of the linter. What only matters in a large table is none here.
	s.write(file, "-- +goose Up\nalter table customers rename column name to full_name;\n")
	require.Equal(t, 1, s.plan(4).Lint.Errors)
	r = s.run("migrate", "up")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "00004_x.sql:2: rename")
	require.Contains(t, r.stderr, "--allow-lint-errors")
	require.Equal(t, 4, s.columns("name", all...))
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--allow-lint-errors", "--json")).State)
	require.Equal(t, 4, s.columns("full_name", all...))

	s.write(".landlord/migrations/00005_index.sql", "-- +goose Up\ncreate index customers_by_name on customers (tenant_id, full_name);\n")
	out = s.plan(0)
	require.Zero(t, out.Lint.Errors)
	require.Equal(t, 1, out.Lint.Infos)
	require.Positive(t, *out.EstimateSeconds)
	require.Less(t, *out.EstimateSeconds, 60.0)
	require.Len(t, out.Rehearsals[0].Steps, 3)
	require.Contains(t, s.ok("migrate", "plan"), "estimate: ")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--json")).State)
	out = s.plan(0)
	require.Empty(t, out.Rehearsals, "nothing is pending")
	require.NotNil(t, out.Rehearsals)

	s.write(".landlord/migrations/00006_picky.sql", "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin if current_database() ~ 'rehearsal' then "+
		"raise exception 'no'; end if; alter table customers add column picky text; end $$;\n-- +goose StatementEnd\n")
	require.Equal(t, 1, s.run("migrate", "up").status)
	require.Zero(t, s.columns("picky", all...))
	s.ok("migrate", "up", "--no-rehearsal")
	require.Equal(t, 4, s.columns("picky", all...))
}

func TestMigrateUpLeavesHomesThatHaveDriftedAsTheyAre(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	all := []string{"t-shared", "neighbour", "t-schema", "t-database"}
	s.ok("dev", "psql", "--tenant", "t-schema", "--role", "owner", "-c", "alter table orders add x int")
	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	r := s.run("migrate", "up")
	require.Equal(t, 3, r.status)
	require.Contains(t, r.stdout, "drifted: extra column orders.x (landlord migrate drift shows all)")
	require.Contains(t, r.stdout, s.tenant("t-schema").Home)
	require.Equal(t, 3, s.columns("note", all...))
	r = s.run("migrate", "retry")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "--allow-drift")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--allow-drift", "--json")).State)
	require.Equal(t, 4, s.columns("note", all...))
}

func TestLintTracesInAScratchDatabase(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "schema")
	s.inside("acme", "insert into customers (email, name) values ('a@b', 'x')")
	require.Contains(t, s.ok("migrate", "lint", "--trace"), "nothing found")

	s.write(".landlord/migrations/00004_quiet.sql", block("alter table orders add column token uuid default gen_random_uuid()"))
	s.write(".landlord/migrations/00005_lock.sql", block("alter table orders add column a int; alter table customers add column b int"))
	s.write(".landlord/migrations/00006_waived.sql", "-- landlord: allow=traced-lock nobody works at night\n"+
		block("alter table orders add column c int; alter table customers add column d int"))
	require.Contains(t, s.ok("migrate", "lint"), "nothing found", "the text does not show it")
	r := s.run("migrate", "lint", "--trace", "--json")
	require.Equal(t, 4, r.status, r.stderr)
	out := parse[lintOutput](t, r.stdout)
	var found []string
	for _, f := range out.Findings {
		found = append(found, fmt.Sprintf("%s:%d %s %s %t", f.File[strings.LastIndex(f.File, "/")+1:], f.Line, f.Severity, f.Rule, f.Waived))
	}
	require.Equal(t, []string{
		"00004_quiet.sql:3 info traced-rewrite false", // no home has many orders
		"00005_lock.sql:3 warning traced-lock false",
		"00006_waived.sql:4 warning traced-lock true",
	}, found)
	require.Equal(t, 1, out.Count)

	// A file that fails is an error, and what was seen before it is shown.
	s.write(".landlord/migrations/00007_wrong.sql", "-- +goose Up\nalter table orders add column total numeric(12, 2);\nalter table nowhere add column e int;\n")
	r = s.run("migrate", "lint", "--trace")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, `statement "alter table nowhere add column e int"`)
	require.Contains(t, r.stdout, "traced-lock")
	s.write(".landlord/migrations/00007_wrong.sql", "-- +goose Up\nset role a;\n")
	r = s.run("migrate", "lint", "--trace")
	require.Equal(t, 4, r.status)
	require.Contains(t, r.stdout, "changes-role")
	require.Contains(t, r.stderr, "nothing is traced")

	// What a killed rehearsal has left is found by doctor and dropped by the next one.
	made := time.Now().Add(-2 * time.Hour).Unix()
	left := fmt.Sprintf("landlord_rehearsal_%08x00000000", made)
	installation := parse[struct{ Catalog struct{ Installation string } }](t, s.ok("doctor", "--json")).Catalog.Installation
	s.ok("dev", "psql", "--cluster", "a", "-c", "create database "+left+" owner landlord_owner")
	s.ok("dev", "psql", "--cluster", "a", "-c", fmt.Sprintf("comment on database %s is 'landlord: rehearsal of %s made %d'", left, installation, made))
	r = s.run("doctor")
	require.Equal(t, 4, r.status)
	require.Contains(t, r.stdout, "database "+left)
	s.write(".landlord/migrations/00007_wrong.sql", "-- +goose Up\nselect 1;\n")
	s.ok("migrate", "plan")
	require.Contains(t, s.ok("doctor"), "nothing found")

	r = newShop(t).run("migrate", "lint", "--trace", "--dir", s.dir+"/.landlord/migrations")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.stderr, "no configuration")
}

func TestAPlanSaysWhenARunCanOnlyFail(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	const first = ".landlord/migrations/00003_*.sql"
	names, err := filepath.Glob(filepath.Join(s.dir, first))
	require.NoError(t, err)
	require.Len(t, names, 1)
	text, err := os.ReadFile(names[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(names[0], append(text, "-- edited\n"...), 0o600))
	r := s.run("migrate", "plan")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord migrate up can only fail")
	require.Contains(t, r.stderr, "was changed after it was applied")
	require.Contains(t, r.stdout, "wave 1: 4 targets")
	require.NoError(t, os.WriteFile(names[0], text, 0o600))
	s.plan(0)

	s.write("empty/README.md", "")
	r = s.run("migrate", "plan", "--dir", "empty")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "the files know no such version")
}
