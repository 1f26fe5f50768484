package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// placed is a placement as the program prints it.
type placed struct {
	ID, Slug, State, Model, Home, Cluster, Database, Schema string
	Epoch                                                   int64
}

// openHouse starts two servers and sets an installation up on them, for one test.
func openHouse(t *testing.T) *shop {
	t.Helper()
	s := newShop(t)
	devUp(t, s)
	s.ok("init")
	return s
}

func (s *shop) add(slug, model string, args ...string) placed {
	s.t.Helper()
	return parse[placed](s.t, s.ok(append([]string{"tenant", "add", slug, "--model", model, "--json"}, args...)...))
}

// TestFromOutside is what a newcomer does first.
func TestFromOutside(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Len(t, devUpAnew(t, s).Servers, 2)

	s.ok("init")
	again := parse[initOutput](t, s.ok("init", "--json"))
	require.Zero(t, again.Changed)
	require.NotNil(t, again.Steps)

	for _, model := range []string{"shared", "schema", "database"} {
		p := s.add("t-"+model, model)
		require.EqualValues(t, 1, p.Epoch)
		require.Equal(t, model, p.Model)
		require.Equal(t, "active", p.State)
		require.Equal(t, p.Cluster+"/"+p.Database+"/"+p.Schema, p.Home)
	}

	r := s.run("dev", "psql", "--role", "app", "-c", "table orders")
	require.NotZero(t, r.status)
	require.Contains(t, r.stderr, "LL001")

	require.Contains(t, s.ok("tenant", "psql", "t-shared", "-c", "table orders"), "(0 rows)")
	s.ok("tenant", "suspend", "t-shared")
	r = s.run("tenant", "psql", "t-shared", "-c", "select 1")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "suspended")
	require.Empty(t, r.stdout)
}
