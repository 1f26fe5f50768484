package main_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type statusOutput struct {
	runOutput
	Targets []struct {
		Home, Tenant, Scope, State, Error string
		Wave                              int
		Version                           *int64
	}
}

// status runs `migrate status`, which must end with this exit status.
func (s *shop) status(status int) statusOutput {
	s.t.Helper()
	r := s.run("migrate", "status", "--json")
	require.Equal(s.t, status, r.status, r.stderr)
	return parse[statusOutput](s.t, r.stdout)
}

// versions are those that the last run's targets have, each once.
func (o statusOutput) versions(t *testing.T) (all []int64) {
	t.Helper()
	for _, target := range o.Targets {
		require.NotNil(t, target.Version, target.Home)
		all = append(all, *target.Version)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestMigrateFromOutside is the session of testdata/README.md: no folder is named but where it is new.
func TestMigrateFromOutside(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.NoError(t, os.CopyFS(s.dir+"/testdata", os.DirFS("../../testdata")))
	r := s.run("migrate", "lint", "--dir", "testdata/unsafe", "--json")
	require.Equal(t, 4, r.status, "no server and no configuration: %s", r.stderr)
	require.Positive(t, parse[lintOutput](t, r.stdout).Count)

	devUp(t, s)
	s.ok("init")
	for _, model := range []string{"shared", "schema", "database"} {
		s.add("t-"+model, model)
	}
	// Killed while its files are rehearsed, it is begun by what goes on, as it was asked for.
	early := s.command("migrate", "up", "--dir", "testdata/fleet", "--wave", "1")
	require.NoError(t, early.Start())
	time.Sleep(time.Second)
	require.NoError(t, early.Process.Kill())
	require.Error(t, early.Wait())
	r = s.run("migrate", "resume", "--dir", "testdata/unsafe")
	require.Equal(t, 1, r.status, r.stdout)
	require.Contains(t, r.stderr, "not the same any more")
	killed := s.command("migrate", "resume")
	require.NoError(t, killed.Start())
	require.Eventually(t, func() bool {
		r := s.run("migrate", "status", "--json")
		return r.status == 3 && parse[runOutput](t, r.stdout).Leased > 0
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, killed.Process.Kill())
	require.Error(t, killed.Wait())
	require.Equal(t, "running", s.status(3).State, "it was killed in the middle")
	s.ok("migrate", "resume")
	out := s.status(0)
	require.Equal(t, "done", out.State)
	require.Len(t, out.Targets, 4)
	require.Equal(t, []int64{6}, out.versions(t))

	r = s.run("migrate", "up", "--dir", "testdata/poison")
	require.Equal(t, 3, r.status, r.stderr)
	require.Contains(t, r.stdout, "1 failed with 23505")
	require.Contains(t, r.stdout, "put the rows right")
	require.Contains(t, r.stderr, "landlord migrate retry")
	out = s.status(3)
	require.Equal(t, "failed", out.State)
	require.Equal(t, 1, out.Failed)
	require.Equal(t, 3, out.Verified)
	require.Equal(t, []int64{7, 8}, out.versions(t))
	for _, target := range out.Targets {
		require.Equal(t, target.Tenant == "t-schema", target.State == "failed")
		require.Equal(t, target.Tenant == "t-schema", *target.Version == 7)
		require.Equal(t, target.Tenant == "t-schema", target.Error != "")
	}

	s.ok("dev", "psql", "--tenant", "t-schema", "--role", "owner", "-c", "alter table orders add x int")
	found := s.drift(4)
	require.Equal(t, map[string]int{"in-sync": 3, "drifted": 1}, found.States)
	require.Equal(t, "orders.x", found.Homes[0].Differences[0].Object)

	// Put right, the same run ends well.
	s.ok("dev", "psql", "--tenant", "t-schema", "-c", "delete from currencies where code = 'eur'")
	s.ok("dev", "psql", "--tenant", "t-schema", "--role", "owner", "-c", "alter table orders drop x")
	s.ok("migrate", "retry", "t-schema")
	require.Equal(t, []int64{8}, s.status(0).versions(t))
	require.Equal(t, 4, s.drift(0).States["in-sync"])
}

func TestARunOfAFolderThatIsGoneSaysWhereItWas(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	require.NoError(t, os.CopyFS(s.dir+"/other", os.DirFS(s.dir+"/.landlord/migrations")))
	s.write("other/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	require.Equal(t, 3, s.run("migrate", "up", "--dir", "other", "--tenant", "t-schema", "--wave", "1").status)
	require.NoError(t, os.Rename(s.dir+"/other", s.dir+"/another"))
	r := s.run("migrate", "resume")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, s.dir+"/other")
	s.ok("migrate", "resume", "--dir", "another")
}
