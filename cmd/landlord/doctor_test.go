package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type doctorOutput struct {
	Catalog *struct {
		Version    int
		ClockAhead float64 `json:"clock_ahead_seconds"`
	}
	Clusters []struct {
		Name, Mode string
		Reachable  bool
		ClockAhead float64 `json:"clock_ahead_seconds"`
	}
	Databases []struct {
		Name, Pooler string
		Healthy      bool
	}
	Tenants  int
	Findings []struct{ Where, Problem, Fix string }
	Warnings []struct{ Where, Problem, Fix string }
	Residue  []struct{ Object, Fix string }
}

// ill runs doctor, which must find something, and returns what it found: where and what.
func (s *shop) ill() (out doctorOutput, found []string) {
	s.t.Helper()
	r := s.run("doctor", "--json")
	require.Equal(s.t, 4, r.status, r.stderr+r.stdout)
	out = parse[doctorOutput](s.t, r.stdout)
	for _, f := range out.Findings {
		require.NotEmpty(s.t, f.Fix)
		found = append(found, f.Where+": "+f.Problem)
	}
	return out, found
}

// sql runs statements as the operator of the cluster where a tenant lives, in its database, or in the catalog.
func (s *shop) sql(p placed, statement string) {
	s.t.Helper()
	s.ok("dev", "psql", "--cluster", p.Cluster, "--database", p.Database, "-c", statement)
}

func (s *shop) catalogSQL(statement string) {
	s.t.Helper()
	s.ok("dev", "psql", "--database", "landlord", "-c", statement)
}

func one(t *testing.T, found []string, want string) {
	t.Helper()
	n := 0
	for _, f := range found {
		if strings.Contains(f, want) {
			n++
		}
	}
	require.Equal(t, 1, n, "%q in %q", want, found)
}

func TestDoctorFindsNothingInAHealthyHouse(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "database")
	s.add("bank", "schema")
	s.ok("tenant", "suspend", "bank")
	out := parse[doctorOutput](t, s.ok("doctor", "--json"))
	require.Positive(t, out.Catalog.Version)
	require.Equal(t, 2, out.Tenants)
	require.NotNil(t, out.Findings)
	require.NotNil(t, out.Residue)
	require.Len(t, out.Databases, 3)
	for _, c := range out.Clusters {
		require.True(t, c.Reachable)
		require.Equal(t, "sealed", c.Mode)
	}
}

func TestDoctorFindsWhatDoesNotAgree(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	shared, schema, own := s.add("in-shared", "shared"), s.add("in-schema", "schema"), s.add("in-own", "database")
	healed := func() { s.t.Helper(); require.Contains(t, s.ok("doctor"), "nothing found") }

	require.NoError(t, os.Chmod(filepath.Join(s.dir, keyFile), 0o644))
	_, found := s.ill()
	one(t, found, "has mode 0644")
	require.NoError(t, os.Chmod(filepath.Join(s.dir, keyFile), 0o600))

	// Fences and placements.
	s.sql(shared, "update landlord.fence set epoch = 7 where slug = 'in-shared'")
	_, found = s.ill()
	one(t, found, "tenant in-shared: its home "+shared.Home+" is at epoch 7, the catalog says 1")
	s.sql(shared, "update landlord.fence set epoch = 1, state = 'suspended' where slug = 'in-shared'")
	_, found = s.ill()
	one(t, found, "its home says suspended, the catalog says active")
	s.sql(shared, "update landlord.fence set state = 'open' where slug = 'in-shared'")
	s.sql(shared, "insert into landlord.fence (tenant, home, slug, model, epoch, state) select tenant, '"+schema.Cluster+
		"/app/public', slug, model, 2, 'open' from landlord.fence where slug = 'in-shared' and home = '"+shared.Home+"' on conflict do nothing")
	if shared.Cluster != schema.Cluster {
		_, found = s.ill()
		one(t, found, "more than one home takes it in")
		s.sql(shared, "delete from landlord.fence where epoch = 2")
	}
	s.sql(schema, "delete from landlord.fence where slug = 'in-schema'")
	_, found = s.ill()
	one(t, found, "tenant in-schema: its home "+schema.Home+" has no fence row of it")
	s.catalogSQL("delete from landlord.tenants where slug = 'in-schema'")
	out, _ := s.ill()
	require.Len(t, out.Residue, 1)
	require.Contains(t, out.Residue[0].Object, "schema "+schema.Schema)
	s.sql(schema, "drop schema "+schema.Schema+" cascade")
	healed()

	// A removal, or an addition that failed and could not be undone, that was left halfway.
	half := s.add("halfway", "shared")
	s.ok("tenant", "remove", "halfway", "--confirm", "halfway", "--grace", "0s")
	s.sql(half, "delete from landlord.fence where slug = 'halfway'")
	out, found = s.ill()
	one(t, found, "tenant halfway: it is to be destroyed")
	require.Contains(t, out.Findings[0].Fix, "landlord tenant remove --due")
	s.ok("tenant", "remove", "--due")
	healed()

	// A tenant whose onboarding was forgotten.
	s.catalogSQL("update landlord.tenants set state = 'provisioning', created_at = now() - interval '2 hours' where slug = 'in-own'")
	_, found = s.ill()
	one(t, found, "provisioning for 2h")
	s.ok("tenant", "add", "in-own", "--model", "database")
	healed()

	// Databases.
	s.sql(own, "grant set on parameter backtrace_functions to \""+own.Database+"_app\"")
	_, found = s.ill()
	one(t, found, "can choose its tenant itself")
	s.sql(own, "revoke set on parameter backtrace_functions from \""+own.Database+"_app\"")
	s.sql(own, "alter role \""+own.Database+"_app\" password 'another'")
	_, found = s.ill()
	one(t, found, "cannot connect")
	require.Equal(t, 1, parse[initOutput](t, s.ok("init", "--json")).Changed)
	healed()

	s.sql(own, "update landlord.identity set stamp = gen_random_uuid()")
	_, found = s.ill()
	one(t, found, "not the one expected")
	s.ok("dev", "psql", "--cluster", own.Cluster, "--database", "postgres", "-c", "drop database \""+own.Database+"\"")
	_, found = s.ill()
	one(t, found, "does not exist any more")
}

func TestDoctorSaysWhatCannotBeReached(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "shared", "--cluster", "b")
	operator := read(t, s, ".landlord/secrets/b.operator.dsn")
	s.write(".landlord/secrets/b.operator.dsn", "postgres://nobody:hunter2@127.0.0.1:1/postgres\n")
	out, found := s.ill()
	require.Len(t, found, 1, "one cause is one finding")
	one(t, found, "cluster b: connect to 127.0.0.1:1 as nobody")
	require.NotContains(t, found[0], "hunter2")
	require.True(t, out.Clusters[0].Reachable)
	require.False(t, out.Clusters[1].Reachable)
	s.write(".landlord/secrets/b.operator.dsn", operator)

	s.replace(".landlord/secrets/catalog.dsn", "/landlord?", "/nowhere?")
	out, found = s.ill()
	require.Nil(t, out.Catalog)
	require.Len(t, found, 1)
	require.Len(t, out.Clusters, 2, "those of the configuration")
}

func TestDoctorRebuildsACatalogFromItsHomes(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("shared-one", "shared", "--cluster", "a")
	s.add("schema-one", "schema", "--cluster", "b")
	own := s.add("own-one", "database", "--cluster", "b")
	before := s.ok("tenant", "list", "--json")
	require.Contains(t, s.ok("doctor", "--rebuild-catalog"), "agrees with the homes")

	// As a catalog from before they came would be.
	s.catalogSQL("delete from landlord.tenants where slug in ('shared-one', 'own-one')")
	s.catalogSQL("delete from landlord.databases where model = 'database'")
	s.sql(own, "update landlord.fence set epoch = 3")

	type report struct {
		Databases []string
		Changes   []struct{ Slug, Before, After string }
		Problems  []struct{ Problem string }
		Unread    []string
	}
	plan := parse[report](t, s.ok("doctor", "--rebuild-catalog", "--dry-run", "--json"))
	require.Equal(t, []string{"b/" + own.Database}, plan.Databases)
	require.Len(t, plan.Changes, 2)
	require.NotEqual(t, before, s.ok("tenant", "list", "--json"))

	s.write(".landlord/secrets/b.operator.bak", read(t, s, ".landlord/secrets/b.operator.dsn"))
	s.write(".landlord/secrets/b.operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")
	r := s.run("doctor", "--rebuild-catalog", "--json")
	require.Equal(t, 3, r.status, "what could not be read is said")
	part := parse[report](t, r.stdout)
	require.Len(t, part.Unread, 1)
	require.Len(t, part.Changes, 1)
	s.write(".landlord/secrets/b.operator.dsn", read(t, s, ".landlord/secrets/b.operator.bak"))

	done := parse[report](t, s.ok("doctor", "--rebuild-catalog", "--json"))
	require.Len(t, done.Changes, 1)
	require.Contains(t, done.Changes[0].After, "epoch 3")
	require.Contains(t, s.inside("own-one", "select 'in' || 'side'"), "inside")
	require.Contains(t, s.inside("shared-one", "select 'in' || 'side'"), "inside")
	require.Contains(t, s.ok("doctor"), "nothing found")

	s.sql(own, "update landlord.fence set state = 'moved'")
	r = s.run("doctor", "--rebuild-catalog")
	require.Equal(t, 4, r.status)
	require.Contains(t, r.stdout, "left to you: tenant own-one: no home is open")
}
