package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type driftOutput struct {
	Targets int
	States  map[string]int
	Homes   []struct {
		Home, Tenant, State, Reason string
		Version                     int64
		Differences                 []struct{ Kind, Object, Change, Expected, Found string }
	}
}

// drift runs `migrate drift`, which must end with this status.
func (s *shop) drift(status int, args ...string) driftOutput {
	s.t.Helper()
	r := s.run(append([]string{"migrate", "drift", "--json"}, args...)...)
	require.Equal(s.t, status, r.status, r.stderr+r.stdout)
	return parse[driftOutput](s.t, r.stdout)
}

func TestDriftNamesWhatWasChangedInOneHome(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	for _, model := range []string{"shared", "schema", "database"} {
		s.add("t-"+model, model)
	}
	homes := 4 // two shared ones
	out := s.drift(0)
	require.Equal(t, driftOutput{Targets: homes, States: map[string]int{"in-sync": homes}, Homes: out.Homes}, out)
	require.NotNil(t, out.Homes)
	require.Empty(t, out.Homes)

	for _, slug := range []string{"t-schema", "t-database", "t-shared"} {
		s.ok("dev", "psql", "--tenant", slug, "--role", "owner", "-c", "alter table orders add x int")
		out := s.drift(4)
		require.Equal(t, map[string]int{"in-sync": homes - 1, "drifted": 1}, out.States)
		require.Len(t, out.Homes, 1)
		h := out.Homes[0]
		require.Equal(t, "drifted", h.State)
		if slug != "t-shared" {
			require.Equal(t, slug, h.Tenant)
		}
		require.Len(t, h.Differences, 1)
		require.Equal(t, "column", h.Differences[0].Kind)
		require.Equal(t, "orders.x", h.Differences[0].Object)
		require.Equal(t, "extra", h.Differences[0].Change)
		require.Equal(t, "integer", h.Differences[0].Found)
		require.Equal(t, out.Homes, s.drift(4, "--tenant", slug).Homes)
		s.ok("dev", "psql", "--tenant", slug, "--role", "owner", "-c", "alter table orders drop x")
		require.Equal(t, 1, s.drift(0, "--tenant", slug).Targets)
	}
	require.Contains(t, s.ok("doctor"), "nothing found")

	r := s.run("migrate", "drift")
	require.Zero(t, r.status)
	require.Equal(t, "4 homes: 4 in-sync\n", r.stdout)
	require.Contains(t, r.stderr, "looking at ")
}

func TestDriftTellsWhatItCouldNotLookAt(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	p := s.add("acme", "database")
	bank := s.add("bank", "schema")
	s.ok("dev", "psql", "--cluster", p.Cluster, "-c", `alter database "`+p.Database+`" rename to "`+p.Database+`_gone"`)
	out := s.drift(3)
	require.Equal(t, map[string]int{"in-sync": 3, "unknown": 1}, out.States)
	require.Equal(t, "acme", out.Homes[0].Tenant)
	require.Contains(t, out.Homes[0].Reason, "does not exist")

	s.sql(bank, `insert into landlord.schema_version (schema, version, checksum) values ('`+bank.Schema+`', 99, 'of newer files')`)
	out = s.drift(4)
	require.Equal(t, map[string]int{"in-sync": 2, "ahead": 1, "unknown": 1}, out.States)

	require.Equal(t, 1, s.run("migrate", "drift", "--tenant", "nobody").status)
	require.Equal(t, 2, s.run("migrate", "drift", "--tenant", "Not a slug").status)
	require.Equal(t, 1, s.run("migrate", "drift", "--dir", "nowhere").status)
}
