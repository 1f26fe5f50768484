package main_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

// warned runs doctor, which must find nothing but warnings, and returns those: where and what.
func (s *shop) warned() (found []string) {
	s.t.Helper()
	for _, f := range parse[doctorOutput](s.t, s.ok("doctor", "--json")).Warnings {
		require.NotEmpty(s.t, f.Fix)
		found = append(found, f.Where+": "+f.Problem+" → "+f.Fix)
	}
	return found
}

// at runs SQL as the operator of a cluster and returns what psql prints.
func (s *shop) at(cluster, database, sql string) string {
	s.t.Helper()
	return s.ok("dev", "psql", "--cluster", cluster, "--database", database, "-c", sql)
}

func none(t *testing.T, found []string, what string) {
	t.Helper()
	for _, f := range found {
		require.NotContains(t, f, what)
	}
}

// TestDoctorFindsWhatWeakensTheSeal plants faults of roles, of the seal and of its keys.
func TestDoctorFindsWhatWeakensTheSeal(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	own := s.add("own", "database", "--cluster", "b")
	healed := func() { s.t.Helper(); require.Contains(t, s.ok("doctor"), "nothing found") }
	healed()

	s.at("a", "app", "alter role landlord_guard login; alter role landlord_app createdb")
	s.at("b", "app", "revoke set on parameter backtrace_functions from landlord_guard; revoke landlord_owner from landlord_migrator")
	s.at("b", "app", `alter role "`+own.Database+`_app" inherit`)
	out, found := s.ill()
	require.Len(t, found, 5)
	one(t, found, "cluster a: role landlord_guard is login inherit nobypassrls, and must be nologin nobypassrls")
	one(t, found, "cluster a: role landlord_app has SUPERUSER, CREATEROLE, CREATEDB or REPLICATION")
	one(t, found, "cluster b: role landlord_guard may not write the sealed register: nobody can enter a tenant")
	one(t, found, "cluster b: role landlord_migrator is no member of landlord_owner")
	one(t, found, "cluster b: role "+own.Database+"_app is login inherit nobypassrls")
	for _, f := range out.Findings {
		if first, ok := strings.CutSuffix(f.Fix, "; then: landlord init"); ok {
			s.at("a", "app", first)
		}
	}
	s.ok("init")
	healed()

	// The seal: what enter does, and what policies read of it.
	for seal, reads := range map[string]string{"null": `""`, "set_config('backtrace_functions', 't_61', true)": `"a"`} {
		s.at("b", own.Database, `create or replace function landlord.seal(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns text
			language sql volatile return pg_catalog.`+strings.ReplaceAll(seal, "null", "lower(null)"))
		out, found = s.ill()
		require.Len(t, found, 2)
		one(t, found, "database b/"+own.Database+`: the seal does not hold: who enters tenant "landlord doctor" is `+reads+" to the policies")
		one(t, found, "database b/"+own.Database+": routines are not what landlord installs: landlord.seal")
		require.False(t, out.Databases[2].Healthy)
		s.ok("init")
		healed()
	}
	// What the test of the seal does not see is compared with what landlord installs.
	const gate = "create or replace function landlord.seal_ok(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns boolean " +
		"language sql return true"
	s.at("a", "app", gate)
	s.at("b", own.Database, "drop procedure landlord.secure_table")
	_, found = s.ill()
	one(t, found, "database a/app: routines are not what landlord installs: landlord.seal_ok")
	one(t, found, "database b/"+own.Database+": routines are not what landlord installs: landlord.secure_table")
	require.Contains(t, s.ok("init", "--dry-run"), "cluster a: would make landlord.seal_ok anew in app, which somebody has changed")
	s.ok("init")
	healed()
	require.Contains(t, s.at("b", own.Database, "select 'rows ' || count(*) from landlord.fence"), "rows 1", "the test of the seal leaves nothing")

	// Keys that have served too long. The oldest database says how old a key is.
	older := func(database string, key, days int) {
		t.Helper()
		s.at("b", database, fmt.Sprintf("update landlord.seal_key_age set known_since = now() - interval '%d days' where kid = %d", days, key))
	}
	none(t, s.warned(), "keys")
	older(own.Database, 1, 360)
	none(t, s.warned(), "keys")
	older("app", 1, 400)
	one(t, s.warned(), "keys: services have sealed with key 1 for 400 days → landlord key add; ")
	s.ok("key", "add")
	none(t, s.warned(), "keys")
	older("app", 2, 40)
	one(t, s.warned(), "keys: key 1 still opens every tenant, 40 days after key 2 was made → see that every service has the file; then: landlord key retire 1")
	s.ok("key", "retire", "1", "--grace", "0s")
	none(t, s.warned(), "keys")
}

// TestDoctorLooksAtServers plants faults of what databases have in common: release, log, clock.
func TestDoctorLooksAtServers(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "schema", "--cluster", "b")
	number, err := strconv.Atoi(regexp.MustCompile(`\b\d{6}\b`).FindString(s.at("a", "app", "show server_version_num")))
	require.NoError(t, err)
	known, release := audit.Vulnerabilities(number)
	for _, w := range s.warned() {
		for _, v := range known {
			require.Contains(t, w, v.CVE+" ("+v.Risk+")")
		}
		require.Contains(t, w, "upgrade the server to PostgreSQL "+release)
	}
	require.Equal(t, len(known) > 0, len(s.warned()) == 2, "of each server")

	// Somebody's slot, which nobody reads, and one of a move that nobody works at.
	none(t, s.warned(), "slot")
	s.at("a", "app", "select pg_create_logical_replication_slot('feed', 'pgoutput')")
	one(t, s.warned(), "cluster a: slot feed, which is not landlord's, holds back ")
	one(t, s.warned(), "select pg_drop_replication_slot('feed')")
	s.ok("move", "start", "acme", "--to", "shared", "--wait")
	_, found := s.ill()
	require.Len(t, found, 1)
	require.Regexp(t, `its slot landlord_move_\w+ holds back [\d.]+ ?\w+ of the log of cluster b \(max_slot_wal_keep_size is -1: until the disk is full\)`, found[0])
	s.ok("move", "abort", "acme", "--wait")
	s.at("a", "app", "select pg_drop_replication_slot('feed')")
	none(t, s.warned(), "slot")

	// A clock that is wrong: in these databases it is, for whoever asks.
	const wrong = "create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile strict as $$ select now() %s interval '1 hour' $$"
	s.at("b", "postgres", fmt.Sprintf(wrong, "+"))
	s.at("a", "landlord", fmt.Sprintf(wrong, "-"))
	warned := s.warned()
	one(t, warned, "cluster b: its clock is 1h0m")
	one(t, warned, " ahead of this machine's")
	one(t, warned, " behind this machine's")
	none(t, warned, "cluster a: its clock")
	out := parse[doctorOutput](t, s.ok("doctor", "--json"))
	require.InDelta(t, 3600, out.Clusters[1].ClockAhead, 60)
	require.InDelta(t, -3600, out.Catalog.ClockAhead, 60)
	require.InDelta(t, 0, out.Clusters[0].ClockAhead, 60)

	s.at("a", "app", "alter system set wal_level = replica")
	s.ok("dev", "down")
	s.ok("dev", "up")
	one(t, s.warned(), "wal_level is replica: no tenant can be moved")
}

func TestDoctorProbesThePooler(t *testing.T) {
	t.Parallel()
	pgtest.NeedBouncer(t)
	s := openHouse(t)
	s.add("one", "shared", "--cluster", "a")
	s.add("two", "schema", "--cluster", "a")
	operator := read(t, s, ".landlord/secrets/a.operator.dsn")
	through := func(cfg pglocal.BouncerConfig) *pgtest.Bouncer {
		t.Helper()
		if len(cfg.Session) > 0 { // PgBouncer asks the server about those only that it has nothing to say of
			secret := strings.TrimSpace(read(t, s, ".landlord/secrets/a.admin.secret"))
			cfg.Users = map[string]string{placement.MigratorLogin: placement.DerivePassword(secret, placement.MigratorLogin)}
		}
		b := pgtest.PgBouncer(t, pgtest.Info{DSN: strings.TrimSpace(operator)}, cfg)
		s.ok("cluster", "set", "a", "--endpoint", fmt.Sprintf("host=%s port=%d sslmode=disable", b.Host, b.Port))
		return b
	}
	migrator := []string{placement.MigratorLogin}

	require.Empty(t, parse[doctorOutput](t, s.ok("doctor", "--json")).Databases[0].Pooler)
	transaction := through(pglocal.BouncerConfig{PoolSize: 2, Session: migrator})
	out := parse[doctorOutput](t, s.ok("doctor", "--json"))
	require.Empty(t, out.Findings)
	require.Equal(t, "transaction", out.Databases[0].Pooler)
	require.Empty(t, out.Databases[1].Pooler, "the other cluster has none")

	through(pglocal.BouncerConfig{PoolSize: 2, Mode: "session"})
	out = parse[doctorOutput](t, s.ok("doctor", "--json"))
	require.Equal(t, "session", out.Databases[0].Pooler)

	through(pglocal.BouncerConfig{PoolSize: 2, Mode: "statement", Session: migrator})
	out, found := s.ill()
	require.Len(t, found, 1)
	one(t, found, "database a/app: the pooler before it works in statement mode, in which no transaction holds together")
	require.Equal(t, "statement", out.Databases[0].Pooler)
	require.False(t, out.Databases[0].Healthy)
	require.Contains(t, out.Findings[0].Fix, "pool_mode = transaction")

	through(pglocal.BouncerConfig{PoolSize: 2})
	_, found = s.ill()
	require.Len(t, found, 1)
	one(t, found, "database a/app: landlord_migrator has no backend of its own behind the pooler")

	// The operator goes to the server itself.
	s.ok("cluster", "set", "a", "--endpoint", fmt.Sprintf("host=%s port=%d sslmode=disable", transaction.Host, transaction.Port))
	before, _, _ := strings.Cut(operator, "@")
	s.write(".landlord/secrets/a.operator.dsn", fmt.Sprintf("%s@%s:%d/postgres?sslmode=disable\n", before, transaction.Host, transaction.Port))
	_, found = s.ill()
	one(t, found, "cluster a: 'operator' leads through a pooler")
}
