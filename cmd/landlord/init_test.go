package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
)

type initOutput struct {
	Changed int
	Steps   []string
	Mode    map[string]string
	DryRun  bool `json:"dry_run"`
}

// replace changes the text of a file.
func (s *shop) replace(name, from, to string) {
	s.t.Helper()
	text := read(s.t, s, name)
	require.Contains(s.t, text, from)
	s.write(name, strings.ReplaceAll(text, from, to))
}

const devYAML = ".landlord/landlord.yaml"

func TestInitSaysWhatItDoesAndWhichModeAndWhy(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	// The database of the catalog is made too.
	s.replace(".landlord/secrets/catalog.dsn", "/landlord?", "/the%20catalog?")

	plan := parse[initOutput](t, s.ok("init", "--dry-run", "--json"))
	require.True(t, plan.DryRun)
	require.Zero(t, plan.Changed)
	require.Contains(t, strings.Join(plan.Steps, "\n"), "would create its database")
	require.Contains(t, strings.Join(plan.Steps, "\n"), "cluster b: would create 5 roles")
	require.Equal(t, map[string]string{"a": "sealed", "b": "sealed"}, plan.Mode)
	require.NoFileExists(t, filepath.Join(s.dir, ".landlord/secrets/seal.keys"))
	require.Contains(t, s.run("tenant", "list").stderr, "landlord", "nothing was made")

	out := s.ok("init")
	require.Contains(t, out, "catalog: created database the catalog\n")
	require.Contains(t, out, "keys: made key 1 in ")
	require.Contains(t, out, "cluster a: applied 3 migrations in app\n")
	require.Contains(t, out, "cluster b: mode sealed, because the login is a superuser")
	info, err := os.Stat(filepath.Join(s.dir, ".landlord/secrets/seal.keys"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	keys := read(t, s, ".landlord/secrets/seal.keys")
	require.Equal(t, 0, parse[initOutput](t, s.ok("init", "--json")).Changed)
	require.Empty(t, parse[initOutput](t, s.ok("init", "--dry-run", "--json")).Steps)
	require.Equal(t, keys, read(t, s, ".landlord/secrets/seal.keys"))

	require.Equal(t, 2, s.run("init", "--mode", "open").status)
	own := s.add("own", "database", "--cluster", "b")
	plan = parse[initOutput](t, s.ok("init", "--mode", "plain", "--dry-run", "--json"))
	require.ElementsMatch(t, []string{
		"cluster a: would change mode of app: sealed -> plain", "cluster b: would change mode of app: sealed -> plain",
		"cluster b: would change mode of " + own.Database + ": sealed -> plain",
	}, plan.Steps)
	r := s.run("init", "--mode", "plain", "--json")
	require.Zero(t, r.status, r.stderr)
	done := parse[initOutput](t, r.stdout)
	require.Equal(t, map[string]string{"a": "plain", "b": "plain"}, done.Mode)
	require.Contains(t, done.Steps, "cluster a: changed mode of app: sealed -> plain")
	require.Contains(t, done.Steps, "cluster b: changed mode of "+own.Database+": sealed -> plain")
}

func TestInitFollowsTheConfigurationAndNewMigrations(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.replace(devYAML, "host=127.0.0.1", "host=localhost")
	s.write(".landlord/migrations/00004_notes.sql", "-- +goose Up\ncreate table notes (tenant_id uuid, id int, primary key (tenant_id, id));\n")
	plan := s.ok("init", "--dry-run")
	require.Contains(t, plan, "cluster a: would change endpoint\n")
	require.Contains(t, plan, "cluster b: would apply 1 migrations in app\n")
	require.Equal(t, []string{
		"cluster a: changed endpoint", "cluster b: changed endpoint",
		"cluster a: applied 1 migrations in app", "cluster b: applied 1 migrations in app",
	}, parse[initOutput](t, s.ok("init", "--json")).Steps)

	// What the catalog decides is not undone.
	s.ok("cluster", "set", "a", "--capacity", "7")
	require.Zero(t, parse[initOutput](t, s.ok("init", "--json")).Changed)

	s.replace(devYAML, "database: app", "database: elsewhere")
	r := s.run("init")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "keeps its shared database")
}

func TestInitGoesOnPastAClusterThatIsDown(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	operator := read(t, s, ".landlord/secrets/a.operator.dsn")
	s.write(".landlord/secrets/a.operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")

	r := s.run("init", "--json")
	require.Equal(t, 3, r.status, r.stderr)
	require.Contains(t, r.stderr, "cluster a")
	out := parse[initOutput](t, r.stdout)
	require.Equal(t, map[string]string{"b": "sealed"}, out.Mode)
	require.Contains(t, out.Steps, fmt.Sprintf("cluster b: installed home objects version %d in app", isolation.Version))

	s.write(".landlord/secrets/a.operator.dsn", operator)
	out = parse[initOutput](t, s.ok("init", "--json"))
	require.Equal(t, map[string]string{"a": "sealed", "b": "sealed"}, out.Mode)
	require.NotZero(t, out.Changed)
	require.NotContains(t, strings.Join(out.Steps, "\n"), "cluster b")
}

func TestInitDoesNotInventKeysThatComeFromAVariable(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	s.env = []string{"LANDLORD_KEYS=env:SEAL_KEYS"}
	r := s.run("init")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "env:SEAL_KEYS")
	require.Contains(t, r.stderr, "openssl rand -hex 32", "it says what to set")

	s.env = append(s.env, "SEAL_KEYS=7:"+strings.Repeat("ab", 32))
	s.ok("init")
	s.add("acme", "shared")
	require.Contains(t, s.ok("tenant", "psql", "acme", "-c", "select 'in' || 'side'"), "inside")
	r = s.run("key", "add")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "only you can change")
}

func TestTenantIDsHaveTheTypeThatInitWasGiven(t *testing.T) {
	t.Parallel()
	for idType, id := range map[string]string{"bigint": "42", "text": "Größe & Söhne"} {
		t.Run(idType, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			devUp(t, s)
			for _, file := range []string{"00002_customers.sql", "00003_orders.sql"} {
				s.replace(".landlord/migrations/"+file, "uuid", idType)
			}
			s.env = []string{"LANDLORD_ID_TYPE=" + idType}
			s.ok("init")

			r := s.run("tenant", "add", "no-id", "--model", "shared", "--json")
			if idType == "bigint" {
				require.Equal(t, 2, r.status)
				require.Contains(t, r.stderr, "--id")
			} else {
				require.Equal(t, "no-id", parse[placed](t, r.stdout).ID)
			}
			require.Equal(t, 2, s.run("tenant", "add", "bad-id", "--model", "shared", "--id", " 07").status)
			p := s.add("acme", "schema", "--id", id)
			require.Equal(t, id, p.ID)
			require.Equal(t, p, parse[placed](t, s.ok("tenant", "show", "--id", id, "--json")))
			insert := "insert into customers (email, name) values ('a@b', 'A') returning tenant_id"
			require.Contains(t, s.ok("tenant", "psql", "acme", "-c", insert), id)
			s.ok("tenant", "export", "--id", id, "--to", "out")
			require.Contains(t, read(t, s, "out/customers.csv"), id+",1,a@b,A,")

			s.env = []string{"LANDLORD_ID_TYPE=uuid"}
			require.Contains(t, s.run("init").stderr, "the type is chosen once")
			require.Contains(t, s.run("doctor").stdout, "set id_type: "+idType)
		})
	}
}

func TestTablesWhoseTenantIDHasAnotherTypeAreFound(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	s.env = []string{"LANDLORD_ID_TYPE=bigint"} // the sample's tables have uuid
	r := s.run("init")
	require.Equal(t, 3, r.status)
	require.Contains(t, r.stderr, "table customers of the shared database app of cluster a has a tenant_id of type uuid")
	_, found := s.ill()
	one(t, found, "database b/app: tenant_id of table customers is uuid, and tenant ids are bigint")
}
