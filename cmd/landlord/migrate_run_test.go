package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type runOutput struct {
	Run      int
	State    string
	UpToDate int `json:"up_to_date"`
	Verified int
	Failed   int
	Pending  int
	Leased   int
	Skipped  int
	Failures []struct {
		SQLState string
		Count    int
		Homes    []string
		Tenants  []string
	}
	Skips []struct{ Home, Reason string }
}

// columns counts the homes in which customers has a column.
func (s *shop) columns(column string, slugs ...string) (n int) {
	s.t.Helper()
	for _, slug := range slugs {
		if s.run("tenant", "psql", slug, "-c", "select "+column+" from customers limit 0").status == 0 {
			n++
		}
	}
	return n
}

func TestMigrateUpReachesEveryHomeAndOneThatFailsStandsAlone(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	all := []string{"t-shared", "neighbour", "t-schema", "t-database"}
	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")

	require.Contains(t, s.ok("init", "--dry-run"), "nothing to change", "tenants live there")
	s.ok("init")
	require.Zero(t, s.columns("note", all...))
	require.Contains(t, s.ok("migrate", "plan"), "lack 00004_note.sql")
	s.ok("migrate", "up", "--dry-run")
	require.Equal(t, 1, s.run("migrate", "status").status, "there is no run")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--json")).State)
	require.Equal(t, 4, s.columns("note", all...))
	require.Equal(t, 4, parse[runOutput](t, s.ok("migrate", "up", "--json")).UpToDate)
	s.ok("migrate", "status")
	s.ok("migrate", "resume")

	// One tenant has what the next file does not stand.
	s.inside("t-schema", "insert into customers (email, name) values ('c@b', 'twin'), ('d@b', 'twin')")
	s.write("poison/00001_currencies.sql", read(t, s, ".landlord/migrations/00001_currencies.sql"))
	s.write("poison/00002_customers.sql", read(t, s, ".landlord/migrations/00002_customers.sql"))
	s.write("poison/00003_orders.sql", read(t, s, ".landlord/migrations/00003_orders.sql"))
	s.write("poison/00004_note.sql", read(t, s, ".landlord/migrations/00004_note.sql"))
	s.write("poison/00005_unique.sql", "-- +goose Up\nalter table customers add column fine text;\nalter table customers add unique (tenant_id, name);\n")
	r := s.run("migrate", "up", "--dir", "poison", "--json")
	require.Equal(t, 3, r.status, r.stderr)
	out := parse[runOutput](t, r.stdout)
	require.Equal(t, "failed", out.State)
	require.Equal(t, 1, out.Failed)
	require.Equal(t, "23505", out.Failures[0].SQLState)
	require.Equal(t, []string{s.tenant("t-schema").Home}, out.Failures[0].Homes)
	require.Equal(t, []string{"t-schema"}, out.Failures[0].Tenants)
	require.NotContains(t, r.stdout+r.stderr, "twin", "rows do not show in errors")
	require.Equal(t, 3, s.columns("fine", all...))
	require.Zero(t, s.columns("fine", "t-schema"))

	require.Equal(t, 3, s.run("migrate", "retry", "--dir", "poison").status)
	require.Equal(t, 2, s.run("migrate", "skip", "t-schema").status, "no reason")
	s.inside("t-schema", "delete from customers where email = 'd@b'")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "retry", "t-schema", "--dir", "poison", "--json")).State)
	require.Equal(t, 4, s.columns("fine", all...))
}

func TestMigrateSkipLeavesAHomeOutAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	s.inside("t-schema", "insert into customers (email, name) values ('c@b', 'twin'), ('d@b', 'twin')")
	s.write(".landlord/migrations/00004_unique.sql", "-- +goose Up\nalter table customers add unique (tenant_id, name);\n")
	require.Equal(t, 3, s.run("migrate", "up").status)
	require.Equal(t, 3, s.run("migrate", "status").status)
	s.ok("migrate", "skip", "t-schema", "--reason", "they clean up by Friday")
	out := parse[runOutput](t, s.ok("migrate", "resume", "--json"))
	require.Equal(t, "done", out.State)
	require.Equal(t, "they clean up by Friday", out.Skips[0].Reason)
	require.Equal(t, 1, out.Skipped)

	// The next run takes it up again.
	s.inside("t-schema", "delete from customers where email = 'd@b'")
	require.Equal(t, "done", parse[runOutput](t, s.ok("migrate", "up", "--json")).State)
}
