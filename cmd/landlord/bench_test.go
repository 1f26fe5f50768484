package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
)

type benchReport struct {
	Machine  map[string]any
	Sections []benchSection
}

type benchSection struct {
	Mode, Model, Tenant, Network, PostgreSQL string

	Asked    float64 `json:"round_trip_asked_us"`
	Achieved float64 `json:"round_trip_achieved_us"`
	Ways     []struct {
		Name    string
		Count   int
		Median  float64 `json:"median_us"`
		P99     float64 `json:"p99_us"`
		Against string
		Ratio   float64
	}
}

// against requires that everything was timed, and returns what was timed against what.
func (s benchSection) against(t *testing.T) map[string]string {
	t.Helper()
	pairs := map[string]string{}
	for _, way := range s.Ways {
		require.Positive(t, way.Count, way.Name)
		require.Positive(t, way.Median, way.Name)
		require.GreaterOrEqual(t, way.P99, way.Median, way.Name)
		if way.Against != "" {
			require.Positive(t, way.Ratio, way.Name)
			pairs[way.Name] = way.Against
		}
	}
	return pairs
}

// benchPairs are those of every tenant.
var benchPairs = map[string]string{
	"statement: landlord":        "statement: pgx",
	"statement: four calls":      "statement: landlord",
	"transaction of 3: landlord": "transaction of 3: pgx",
}

func TestALocalBenchTimesEveryModelAndTakesItsServersAway(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.env = []string{"TMPDIR=" + s.dir}
	out := s.ok("bench", "--local", "--for", "200ms", "--mode", "plain", "--delay", "0", "--json")
	report := parse[benchReport](t, out)
	for _, fact := range []string{"cpu", "cores", "kernel", "go", "pgx"} {
		require.NotEmpty(t, report.Machine[fact], fact)
	}
	models := map[string][]string{}
	for _, section := range report.Sections {
		require.Equal(t, "plain", section.Mode)
		require.NotEmpty(t, section.PostgreSQL)
		network, _, _ := strings.Cut(section.Network, " PgBouncer") // its version follows
		models[network] = append(models[network], section.Model)
		if section.Tenant == "" {
			require.Len(t, section.against(t), 2)
		} else {
			require.Equal(t, benchPairs, section.against(t))
		}
	}
	require.Equal(t, []string{"shared", "schema", "database", "50 schemas in turn"}, models["loopback"])
	left, err := filepath.Glob(filepath.Join(s.dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
	t.Run("through PgBouncer too", func(t *testing.T) {
		pgtest.NeedBouncer(t)
		require.Equal(t, []string{"shared", "schema", "database"}, models["through"])
	})
}

func TestALocalBenchSaysWhatIsMissingForPgBouncer(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.env = []string{"TMPDIR=" + s.dir, pglocal.BouncerEnv + "=" + s.dir + "/none", pglocal.BinEnv + "=" + s.dir} // nor is there a server
	r := s.run("bench", "--local")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "the network through PgBouncer is left out: ")
	require.Contains(t, r.stderr, "apt-get install pgbouncer")
}

func TestABenchGoesPastOnesOwnPoolerOnThePlainSide(t *testing.T) {
	t.Parallel()
	pgtest.NeedBouncer(t)
	s := newShop(t)
	devUp(t, s)
	s.ok("init")
	s.ok("tenant", "add", "acme", "--model", "schema", "--cluster", "a")
	operator, err := os.ReadFile(filepath.Join(s.dir, ".landlord", "secrets", "a.operator.dsn"))
	require.NoError(t, err)
	b := pgtest.PgBouncer(t, pgtest.Info{DSN: strings.TrimSpace(string(operator))}, pglocal.BouncerConfig{PoolSize: 2})
	s.ok("cluster", "set", "a", "--endpoint", fmt.Sprintf("host=%s port=%d sslmode=disable", b.Host, b.Port))

	report := parse[benchReport](t, s.ok("bench", "--tenant", "acme", "--for", "50ms", "--delay", "1ms", "--json", "--sql", "select count(*) from customers"))
	require.Len(t, report.Sections, 2)
	for _, section := range report.Sections {
		require.Contains(t, section.Network, "landlord through a pooler, pgx without it")
		require.Equal(t, benchPairs, section.against(t))
	}
}

func TestABenchTimesOnesOwnStatementIfItOnlyReads(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	s.ok("init")
	s.ok("tenant", "add", "acme", "--model", "schema")
	s.ok("tenant", "psql", "acme", "-c", "insert into customers (email, name) values ('a@example.com', 'a')")

	own := []string{"bench", "--tenant", "acme", "--for", "50ms"}
	out := s.ok(append(own, "--delay", "1ms", "--json",
		"--sql", "select name from customers where email = $1", "--arg", "a@example.com",
		"--raw-sql", "select name from customers where tenant_id = $1 and email = $2")...)
	report := parse[benchReport](t, out)
	require.Len(t, report.Sections, 2)
	for _, section := range report.Sections {
		require.Equal(t, "acme", section.Tenant)
		require.Equal(t, benchPairs, section.against(t))
	}
	require.Zero(t, report.Sections[0].Asked)
	require.InDelta(t, 1000, report.Sections[1].Asked, 0)
	require.Positive(t, report.Sections[1].Achieved)
	require.Contains(t, s.ok("bench", "--for", "10ms"), "| statement: landlord |", "by default it needs no table")

	for sql, status := range map[string]int{
		"delete from customers": 2,
		"; select 1":            2,
		"selection":             2,
		"with gone as (delete from customers returning 1) select * from gone": 1,
		"select name into taken from customers":                               1,
		"select nextval(pg_get_serial_sequence('customers', 'id'))":           1,
		"select 1; delete from customers":                                     1,
	} {
		r := s.run(append(own, "--sql", sql)...)
		require.Equal(t, status, r.status, "%s: %s", sql, r.stderr)
	}
	r := s.run(append(own, "--sql", "with gone as (delete from customers returning 1) select * from gone")...)
	require.Contains(t, r.stderr, "only a statement that reads is timed")
	require.Contains(t, s.ok("tenant", "psql", "acme", "-c", "select 'left: ' || count(*) from customers"), "left: 1")
	r = s.run(append(own, "--sql", "select 1 from customers where email = 'nobody'")...)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "returns no row")
}

func TestABenchWithWrongFlagsIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, flags := range [][]string{
		{"--local", "--mode", "open"},
		{"--mode", "plain"},
		{"--local", "--tenant", "acme"},
		{"--local", "--sql", "select 1"},
		{"--arg", "1"},
		{"--raw-sql", "select 1"},
		{"--for", "0s"},
		{"--local", "--delay", "-1ms"},
		{"--sql", "truncate customers"},
		{"--sql", "select 1", "--raw-sql", "drop table customers"},
		{"extra"},
	} {
		r := s.run(append([]string{"bench"}, flags...)...)
		require.Equal(t, 2, r.status, "%v: %s", flags, r.stderr)
		require.Empty(t, r.stdout)
	}
}
