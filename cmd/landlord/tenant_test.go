package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type tenantOutput struct {
	placed
	RemoveAfter *time.Time `json:"remove_after"`
	Fence       struct {
		State string
		Epoch int64
	}
	FenceError string `json:"fence_error"`
	History    []struct{ Kind, Before, After string }
	Tables     []struct {
		Table, Class, File, SHA256 string
		Rows                       int
	}
}

func (s *shop) tenant(slug string) tenantOutput {
	s.t.Helper()
	return parse[tenantOutput](s.t, s.ok("tenant", "show", slug, "--json"))
}

func (s *shop) inside(slug, sql string) string {
	s.t.Helper()
	return s.ok("tenant", "psql", slug, "-c", sql)
}

// models is one tenant of each, with an order of a customer.
var models = []string{"shared", "schema", "database"}

func withTenants(t *testing.T) *shop {
	t.Helper()
	s := openHouse(t)
	for _, model := range models {
		s.add("t-"+model, model)
		s.inside("t-"+model, "insert into customers (email, name) values ('a@b', 'A''s \"shop\", '), ('b@b', 'of "+model+"')")
		s.inside("t-"+model, "insert into orders (customer_id, currency) select min(id), 'EUR' from customers")
	}
	s.add("neighbour", "shared", "--cluster", s.tenant("t-shared").Cluster)
	s.inside("neighbour", "insert into customers (email, name) values ('c@b', 'canary')")
	return s
}

func TestTenantAddRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	for line, want := range map[string]int{
		"tenant add acme":                                                 2, // no model
		"tenant add acme --model own":                                     2,
		"tenant add Acme --model shared":                                  2,
		"tenant add acme --model shared --strategy explicit":              2,
		"tenant add acme --model shared --strategy hash --cluster a":      2,
		"tenant add acme --model shared --strategy hash --dry-run":        2, // goes by an id that is not known yet
		"tenant add acme --model shared --id 7":                           2,
		"tenant add acme --model shared --cluster z":                      1,
		"tenant add acme --model shared --region moon":                    1,
		"tenant list --state asleep":                                      2,
		"tenant show":                                                     2,
		"tenant show acme --id 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21":      2,
		"tenant show --id 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21":           1,
		"tenant show acme":                                                1,
		"tenant suspend acme":                                             1,
		"tenant remove --due acme":                                        2,
		"tenant export acme":                                              2,
		"tenant export acme --to=":                                        2,
		"tenant psql acme -c x":                                           1,
		"tenant add acme --model shared --strategy least-loaded --tier x": 1,
	} {
		r := s.run(strings.Fields(line)...)
		require.Equal(t, want, r.status, "landlord %s: %s", line, r.stderr)
		require.Empty(t, r.stdout)
	}
	require.Contains(t, s.ok("tenant", "list"), "no tenants")
	require.Contains(t, s.ok("tenant", "add", "acme", "--model", "schema", "--dry-run"), "would live on cluster a as schema")
	require.Contains(t, s.ok("tenant", "list"), "no tenants")

	id := "0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21"
	plan := parse[placed](t, s.ok("tenant", "add", "acme", "--model", "shared", "--strategy", "hash", "--id", id, "--dry-run", "--json"))
	p := s.add("acme", "shared", "--strategy", "hash", "--id", strings.ToUpper(id))
	require.Equal(t, id, p.ID)
	require.Equal(t, plan.Cluster, p.Cluster)
	r := s.run("tenant", "add", "acme", "--model", "shared")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "exists already")
	require.Equal(t, 1, s.run("tenant", "add", "acme", "--model", "shared", "--dry-run").status)
}

func TestTenantsAreListedAndShown(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	list := func(args ...string) (slugs []string) {
		out := parse[struct{ Tenants []placed }](t, s.ok(append([]string{"tenant", "list", "--json"}, args...)...))
		for _, p := range out.Tenants {
			slugs = append(slugs, p.Slug)
		}
		return slugs
	}
	require.Equal(t, []string{"neighbour", "t-database", "t-schema", "t-shared"}, list())
	require.Equal(t, []string{"neighbour", "t-shared"}, list("--model", "shared"))
	s.ok("tenant", "suspend", "t-schema", "--dry-run")
	require.Empty(t, list("--state", "suspended"))

	id := s.tenant("t-schema").ID
	s.ok("tenant", "suspend", "--id", id)
	require.Equal(t, []string{"t-schema"}, list("--state", "suspended"))
	require.Contains(t, s.ok("tenant", "suspend", "t-schema"), "already")
	shown := s.tenant("t-schema")
	require.Equal(t, "suspended", shown.Fence.State)
	require.EqualValues(t, 1, shown.Fence.Epoch)
	require.Len(t, shown.History, 3)
	require.Equal(t, "placed", shown.History[0].Kind)
	require.Contains(t, s.ok("tenant", "show", "t-schema"), "suspended at epoch 1")
	s.ok("tenant", "resume", "t-schema")
	require.Equal(t, "open", s.tenant("t-schema").Fence.State)
	require.Contains(t, s.inside("t-schema", "table customers"), "of schema")

	// Where a tenant lives is told also when its home cannot be asked.
	for _, c := range []string{"a", "b"} {
		s.write(".landlord/secrets/"+c+".operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")
	}
	require.NotEmpty(t, s.tenant("t-schema").FenceError)
}

func TestTenantPsqlShowsTheTenantAndNobodyElse(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	for _, model := range models {
		slug := "t-" + model
		out := s.inside(slug, "select name from customers order by id")
		require.Contains(t, out, "of "+model)
		require.Contains(t, out, "(2 rows)")
		require.True(t, strings.HasPrefix(out, " "), "nothing before the command's own result: %q", out)

		r := s.run("tenant", "psql", slug, "-c", "insert into customers (email, name) values ('lost@b', '')", "-c", "select 1/0")
		require.Equal(t, 1, r.status)
		require.Contains(t, r.stderr, "22012")
		require.NotContains(t, s.inside(slug, "table customers"), "lost@b", "all or nothing")

		r = s.run("tenant", "psql", slug, "-c", "rollback", "-c", "table customers")
		require.Equal(t, 1, r.status)
		require.Contains(t, r.stderr, "LL001", "outside the transaction there is no tenant")
		r = s.run("tenant", "psql", slug, "-c", "insert into customers (tenant_id, email, name) values ('"+s.tenant("neighbour").ID+"', 'x@b', '')")
		require.Equal(t, 1, r.status)
		require.Contains(t, r.stderr, "42501")
	}
	require.Contains(t, s.inside("neighbour", "select name from customers"), "canary")

	cmd := s.command("tenant", "psql", "t-schema")
	cmd.Stdin = strings.NewReader("insert into customers (email, name) values ('piped@b', '');\nselect count(*) from customers;\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), " 3\n")
	require.Contains(t, s.inside("t-schema", "table customers"), "piped@b", "committed at the end of the input")
}

func TestTenantPsqlKeepsItsTokenToItself(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "shared")
	cmd := s.command("tenant", "psql", "acme", "-c", "select pg_sleep(60)")
	require.NoError(t, cmd.Start())
	var seen []string
	require.Eventually(t, func() bool {
		out, err := exec.Command("ps", "axww", "-o", "args").Output()
		require.NoError(t, err)
		seen = nil
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "pg_sleep(60)") && strings.Contains(line, "ON_ERROR_STOP") {
				seen = append(seen, line)
			}
		}
		return len(seen) > 0
	}, time.Minute, 20*time.Millisecond)
	require.NotContains(t, strings.Join(seen, ""), "enter")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
}

// TestTheTokenOfTenantPsqlOpensNothingElsewhere presents what other sessions of the same login can see, while it is fresh.
func TestTheTokenOfTenantPsqlOpensNothingElsewhere(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "shared", "--cluster", "a")
	s.ok("dev", "psql", "--cluster", "a", "-c", "alter role landlord_app set log_statement = 'all'")
	s.inside("acme", "select 1")
	status := parse[devStatus](t, s.ok("dev", "status", "--json"))
	log, err := os.ReadFile(filepath.Join(filepath.Dir(status.Servers[0].DataDir), "log"))
	require.NoError(t, err)
	calls := regexp.MustCompile(`select landlord\.enter\(convert_from.*\)`).FindAllString(string(log), -1)
	require.NotEmpty(t, calls)
	for _, call := range calls {
		r := s.run("dev", "psql", "--role", "app", "--cluster", "a", "-c", "begin", "-c", call, "-c", "table customers")
		require.Equal(t, 1, r.status)
		require.Contains(t, r.stderr, "LL005")
	}
}

func TestPsqlConnectsAsTheEndpointSays(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	yaml := read(t, s, devYAML)
	port := regexp.MustCompile(`port=(\d+)`).FindStringSubmatch(yaml)[1]
	whole := regexp.MustCompile(`endpoint: .*port=` + port + `.*`).FindString(yaml)
	require.NotEmpty(t, whole)
	s.add("acme", "shared", "--cluster", "a")
	for endpoint, want := range map[string]string{
		"host=127.0.0.1 port=" + port: "inside", // the server has no TLS, and need not have
		"host='127.0.0.1,127.0.0.1' port=1," + port + " connect_timeout = 5 statement_timeout=7000":              "inside",
		"postgres://127.0.0.1:" + port + "/?sslmode=prefer&statement_timeout=7s&target_session_attrs=read-write": "inside",
		"host=127.0.0.1 port=" + port + " sslmode=require":                                                       "does not support SSL",
	} {
		s.write(devYAML, strings.ReplaceAll(yaml, whole, `endpoint: "`+endpoint+`"`))
		r := s.run("dev", "psql", "--role", "app", "-c", "select 'in' || 'side', current_setting('statement_timeout')")
		require.Contains(t, r.stdout+r.stderr, want, endpoint)
		if strings.Contains(endpoint, "statement_timeout") {
			require.Contains(t, r.stdout, "7s")
		}
		if want == "inside" {
			s.ok("init")
			require.Contains(t, s.inside("acme", "select 'in' || 'side'"), "inside", endpoint)
		}
	}
}

func TestTenantRemoveAsksForTheSlugTwice(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	for _, args := range [][]string{{"t-shared"}, {"t-shared", "--confirm", "t-schema"}, {"t-shared", "--confirm", "t-shared", "--grace", "-1h"}} {
		require.Equal(t, 2, s.run(append([]string{"tenant", "remove"}, args...)...).status)
	}
	require.Contains(t, s.run("tenant", "remove", "t-shared").stderr, "landlord tenant remove t-shared --confirm t-shared")
	require.Equal(t, "active", s.tenant("t-shared").State)

	for _, model := range models {
		slug := "t-" + model
		plan := parse[tenantOutput](t, s.ok("tenant", "remove", slug, "--dry-run", "--json"))
		rows := map[string]int{}
		for _, table := range plan.Tables {
			rows[table.Table] = table.Rows
		}
		require.Equal(t, map[string]int{"customers": 2, "orders": 1, "order_lines": 0}, rows)

		s.ok("tenant", "remove", slug, "--confirm", slug)
		gone := s.tenant(slug)
		require.Equal(t, "removing", gone.State)
		require.Equal(t, "suspended", gone.Fence.State)
		require.WithinRange(t, *gone.RemoveAfter, time.Now().Add(167*time.Hour), time.Now().Add(169*time.Hour))
		s.ok("tenant", "resume", slug)
		require.Contains(t, s.inside(slug, "table customers"), "of "+model)
		s.ok("tenant", "remove", slug, "--confirm", slug)
	}
	require.Contains(t, s.ok("tenant", "remove", "--due"), "no tenant's grace is over")
	for _, model := range models {
		s.ok("tenant", "remove", "t-"+model, "--confirm", "t-"+model, "--grace", "0s")
	}
	r := s.run("tenant", "resume", "t-schema")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "grace period is over")
	r = s.run("tenant", "psql", "t-schema", "-c", "select 1")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord tenant remove --due")
	require.NotContains(t, r.stderr, "resume")

	type purged struct{ Removed, Failed []placed }
	require.Len(t, parse[purged](t, s.ok("tenant", "remove", "--due", "--dry-run", "--json")).Removed, 3)
	require.Len(t, parse[purged](t, s.ok("tenant", "remove", "--due", "--json")).Removed, 3)
	require.Contains(t, s.ok("doctor"), "nothing found")
	require.Contains(t, s.inside("neighbour", "table customers"), "canary", "others stay")
	require.Equal(t, 1, s.run("tenant", "show", "t-shared").status)
	require.EqualValues(t, 1, s.add("t-shared", "shared").Epoch, "the slug is free again")
	require.Contains(t, s.inside("t-shared", "table customers"), "(0 rows)")
}

func TestTenantExportHoldsTheTenantAndNobodyElse(t *testing.T) {
	t.Parallel()
	s := withTenants(t)
	s.ok("tenant", "suspend", "t-schema")
	for _, model := range models {
		slug, dir := "t-"+model, "out/"+model
		s.ok("tenant", "export", slug, "--to", dir, "--dry-run")
		require.NoDirExists(t, filepath.Join(s.dir, dir))
		m := parse[tenantOutput](t, s.ok("tenant", "export", slug, "--to", dir, "--json"))
		require.Equal(t, m, parse[tenantOutput](t, read(t, s, dir+"/manifest.json")))
		rows := map[string]int{}
		for _, table := range m.Tables {
			rows[table.Class+" "+table.Table] = table.Rows
			sum := sha256.Sum256([]byte(read(t, s, dir+"/"+table.File)))
			require.Equal(t, hex.EncodeToString(sum[:]), table.SHA256)
		}
		require.Equal(t, map[string]int{"tenant customers": 2, "tenant orders": 1, "tenant order_lines": 0, "reference currencies": 4}, rows)
		customers := read(t, s, dir+"/customers.csv")
		require.Contains(t, customers, `"A's ""shop"", "`)
		require.Contains(t, customers, "of "+model)
		require.NotContains(t, customers, "canary")
		info, err := os.Stat(filepath.Join(s.dir, dir, "customers.csv"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	before := read(t, s, "out/shared/manifest.json")
	r := s.run("tenant", "export", "neighbour", "--to", "out/shared")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "not empty")
	require.Equal(t, before, read(t, s, "out/shared/manifest.json"))
}

func TestExportOfHostileNamesStaysInItsFolder(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.write(".landlord/migrations/00004_odd.sql", "-- +goose Up\n"+
		`create table "../../it's ""odd""; x" (tenant_id uuid, id int, primary key (tenant_id, id));`+"\n"+
		"create table whole (id int);\n")
	s.ok("init")
	s.add("acme", "schema")
	s.inside("acme", `insert into "../../it's ""odd""; x" (id) values (1)`)
	s.inside("acme", `insert into whole values (5), (6)`)
	m := parse[tenantOutput](t, s.ok("tenant", "export", "acme", "--to", "a/b/out", "--json"))
	files := map[string]int{}
	for _, table := range m.Tables {
		require.FileExists(t, filepath.Join(s.dir, "a/b/out", table.File))
		require.Equal(t, table.File, filepath.Base(table.File))
		files[table.Table] = table.Rows
	}
	require.Equal(t, 1, files[`../../it's "odd"; x`])
	require.Equal(t, 2, files["whole"], "a table of a schema of one's own needs no tenant_id")
}

// TestManyProcessesShareAServerWithFewConnections: each needs a connection to the catalog and one to a home, and there are
// far more processes than connections.
func TestManyProcessesShareAServerWithFewConnections(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.ok("cluster", "set", "a", "--capacity", "45", "--connections", "15")
	s.ok("dev", "psql", "--database", "postgres", "-c", "alter system set max_connections = 20")
	s.ok("dev", "down")
	s.ok("dev", "up")

	const processes = 50
	var wg sync.WaitGroup
	results := make([]result, processes)
	for i := range processes {
		wg.Go(func() {
			cmd := s.command("tenant", "add", fmt.Sprintf("t-%d", i), "--model", models[i%2], "--cluster", "a", "--json")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			results[i] = result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
		})
	}
	wg.Wait()
	added := 0
	for _, r := range results {
		if r.status == 0 {
			added++
			require.Equal(t, "active", parse[placed](t, r.stdout).State)
			continue
		}
		require.Contains(t, r.stderr, "45 of 45 tenants")
	}
	require.Equal(t, 45, added)
	require.Contains(t, s.ok("doctor"), "nothing found")
}
