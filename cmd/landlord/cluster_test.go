package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type clusterOutput struct {
	Name, State, Tier, Region, Database, Endpoint, Operator, Mode string
	Tenants, Capacity, Connections, Granted, Processes            int
	Databases                                                     []struct{ Name, Model, Mode, Login string }
	Residents                                                     []placed
}

func (s *shop) cluster(name string) clusterOutput {
	s.t.Helper()
	return parse[clusterOutput](s.t, s.ok("cluster", "show", name, "--json"))
}

func TestClustersComeAndGo(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	add := []string{
		"cluster", "add", "c", "--endpoint", s.cluster("b").Endpoint, "--database", "of_c",
		// Relative to the current folder; the catalog holds the whole path.
		"--operator", "file:.landlord/secrets/b.operator.dsn", "--app", "file:.landlord/secrets/b.app.secret",
		"--admin", "file:.landlord/secrets/b.admin.secret", "--region", "eu", "--tier", "gold", "--capacity", "2",
	}
	require.Contains(t, s.ok(append(add, "--dry-run")...), "would create the shared database of_c")
	require.Equal(t, 1, s.run("cluster", "show", "c").status)
	require.Equal(t, "sealed", parse[clusterOutput](t, s.ok(append(add, "--json")...)).Mode)
	s.ok(add...) // goes on where it stopped, which was the end
	other := append([]string{}, add...)
	other[len(other)-1] = "9"
	r := s.run(other...)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "other values of capacity")

	// Two clusters on one server.
	_, found := s.ill()
	one(t, found, "cluster b and c: routers may open 160 connections, and the server has 97 for them")
	require.Contains(t, s.ok("cluster", "set", "c", "--connections", "10"), "changed connections")
	for _, args := range [][]string{{"0"}, {"0", "--dry-run"}} {
		require.Contains(t, s.run(append([]string{"cluster", "set", "c", "--connections"}, args...)...).stderr, "bad connections")
	}

	c := s.cluster("c")
	require.Equal(t, 10, c.Connections)
	s.catalogSQL("insert into landlord.connection_shares values ('c', 'p', 9, 4, 4, now() + interval '1 hour'), " +
		"('c', 'q', 9, 3, 3, now() + interval '1 hour'), ('c', 'expired', 9, 3, 3, now())")
	require.Contains(t, s.ok("cluster", "show", "c"), "10, of which 7 are granted to 2 processes")
	require.Equal(t, []int{7, 2}, []int{s.cluster("c").Granted, s.cluster("c").Processes})
	require.Equal(t, s.cluster("b").Operator, c.Operator)
	require.Len(t, c.Databases, 1)
	require.Equal(t, "landlord_app", c.Databases[0].Login)

	require.Equal(t, "c", s.add("one", "shared", "--region", "eu").Cluster)
	require.Equal(t, "c", s.add("two", "schema", "--tier", "gold").Cluster)
	r = s.run("tenant", "add", "three", "--model", "shared", "--region", "eu")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "2 of 2 tenants")
	require.Contains(t, s.ok("cluster", "list"), "2 of 2")

	require.Contains(t, s.ok("cluster", "set", "c", "--capacity", "3", "--state", "full", "--dry-run"), "would change capacity, state")
	require.Equal(t, c.Capacity, s.cluster("c").Capacity)
	s.ok("cluster", "set", "c", "--capacity", "3", "--state", "full")
	require.Equal(t, "full", s.cluster("c").State)
	require.Equal(t, 2, s.run("cluster", "set", "c").status)
	require.Equal(t, 2, s.run("cluster", "set", "c", "--state", "draining").status)
	require.Equal(t, 1, s.run("cluster", "set", "c", "--endpoint", "host=h password=x").status)

	require.Contains(t, s.ok("cluster", "drain", "c", "--stay", "--dry-run"), "would be draining")
	drained := parse[clusterOutput](t, s.ok("cluster", "drain", "c", "--stay", "--json"))
	require.Equal(t, "draining", drained.State)
	require.Len(t, drained.Residents, 2)
	require.Contains(t, s.run("tenant", "add", "three", "--model", "shared", "--cluster", "c").stderr, "draining")

	r = s.run("cluster", "remove", "c")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "2 tenants live there")
	for _, slug := range []string{"one", "two"} {
		s.ok("tenant", "remove", slug, "--confirm", slug, "--grace", "0s")
	}
	s.ok("tenant", "remove", "--due")
	require.Contains(t, s.ok("cluster", "remove", "c", "--dry-run"), "would forget")
	s.ok("cluster", "remove", "c")
	require.Equal(t, 1, s.run("cluster", "remove", "c").status)
	s.ok(append(add, "--connections", "17")...) // takes up again what is on the server
	require.Contains(t, s.ok("doctor"), "nothing found")
}

func TestClusterAddNamesEveryMistake(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Equal(t, 2, s.run("cluster", "add", "c").status, "required flags")
	r := s.run("cluster", "add", "C!", "--endpoint", "host=h user=u", "--operator", "secret", "--app", "env:A", "--admin", "env:B", "--capacity", "-1", "--connections", "-1")
	require.Equal(t, 2, r.status)
	for _, want := range []string{"bad cluster name", "bad endpoint", "operator: bad credential reference", "bad capacity", "bad connections"} {
		require.Contains(t, r.stderr, want)
	}
}

func TestClusterThatCannotBeReachedStaysForTheNextTry(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.env = []string{"OPERATOR=postgres://nobody@127.0.0.1:1/postgres", "SECRET=secret"}
	add := []string{"cluster", "add", "c", "--endpoint", "host=127.0.0.1 port=1", "--operator", "env:OPERATOR", "--app", "env:SECRET", "--admin", "env:SECRET"}
	require.Equal(t, 1, s.run(append(add, "--dry-run")...).status)
	r := s.run(add...)
	require.Equal(t, 3, r.status)
	require.Contains(t, r.stderr, "do this again")
	require.NotContains(t, r.stderr, "secret")
	require.Equal(t, 4, s.run("doctor").status)
	s.ok("cluster", "remove", "c")
	require.Contains(t, s.ok("doctor"), "nothing found")
}
