package preflight_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/placement"
)

func TestServersShortcomingsAreReported(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	e := newEstate(t, placement.ModelShared, testhouse.Options{Own: own})
	restart := func(settings string) {
		e.SuperExec(t, "postgres", settings)
		require.NoError(t, own.Restart(t.Context()))
	}
	// A prepared transaction, and one that goes on for long.
	for _, s := range []string{
		"alter system set max_prepared_transactions = 5", "alter system set max_replication_slots = 2",
		"alter system set max_wal_senders = 1", "alter system set max_slot_wal_keep_size = '64MB'",
	} {
		e.SuperExec(t, "postgres", s)
	}
	restart("select 1")
	e.SuperExec(t, "postgres", "select pg_create_physical_replication_slot('kept')")
	e.SuperExec(t, "postgres", "create table t (i int)")
	e.SuperExec(t, "postgres", "begin; insert into t values (1); prepare transaction 'it''s there'")
	tx, err := e.Super(t, "postgres").Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into t values (2)")
	require.NoError(t, err)

	r := e.check(t, placement.ModelSchema, func(c *preflight.Config) { c.Old = time.Nanosecond })
	assert.Equal(t, "1 are free, and the move needs 2", one(t, r.Problems, preflight.FreeSlots, "max_replication_slots").What)
	assert.Equal(t, "1 are free, and the move needs 2", one(t, r.Problems, preflight.FreeSenders, "max_wal_senders").What)
	for _, cluster := range []string{"a", "b"} {
		assert.Contains(t, one(t, r.Problems, preflight.PreparedXacts, cluster+": prepared transactions").What, "'it''s there' in database postgres")
		assert.Contains(t, one(t, r.Warnings, preflight.LongXacts, cluster+": long transactions").What, "in database postgres: open for more than 1ns")
		assert.Contains(t, one(t, r.Warnings, preflight.SlotKeepSize, cluster+": max_slot_wal_keep_size").What, "more than 67108864 bytes")
	}
	assert.Empty(t, e.check(t, placement.ModelSchema, func(c *preflight.Config) { c.Offline = true }).Problems)

	require.NoError(t, tx.Rollback(t.Context()))
	e.SuperExec(t, "postgres", "rollback prepared 'it''s there'")
	restart("alter system set wal_level = replica")
	r = e.check(t, placement.ModelSchema)
	p := one(t, r.Problems, preflight.WALLevel, "a: wal_level")
	assert.Equal(t, "it is replica, and changes cannot be followed", p.What)
	assert.Contains(t, p.Fix, "--offline")
	one(t, r.Problems, preflight.WALLevel, "b: wal_level")
}

func TestStandbyThatMayLoseTheCutoverIsReported(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	e := newEstate(t, placement.ModelShared, testhouse.Options{Own: own})
	standby(t, e.Server.DSN)
	const query = `select exists (select from pg_stat_replication where application_name = 'second' and state = 'streaming')`
	conn := e.Super(t, "postgres")
	require.Eventually(t, func() bool {
		var there bool
		return conn.QueryRow(t.Context(), query).Scan(&there) == nil && there
	}, time.Minute, 10*time.Millisecond)
	r := e.check(t, placement.ModelSchema)
	for _, cluster := range []string{"a", "b"} {
		p := one(t, r.Problems, preflight.AsyncStandby, cluster+": standbys")
		assert.Contains(t, p.What, "second (async)")
		assert.Contains(t, p.Fix, "--allow-async")
	}
	r = e.check(t, placement.ModelSchema, func(c *preflight.Config) { c.AllowAsync = true })
	assert.Empty(t, r.Problems)
	assert.Len(t, r.Warnings, 2)
}

// standby takes the server's WAL, as a standby does, and says nothing of it.
func standby(t *testing.T, dsn string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.RuntimeParams["replication"], cfg.RuntimeParams["application_name"] = "true", "second"
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	var at string
	{
		sql, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		require.NoError(t, sql.QueryRow(t.Context(), `select pg_current_wal_lsn()::text`).Scan(&at))
		require.NoError(t, sql.Close(t.Context()))
	}
	conn.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + at})
	require.NoError(t, conn.Frontend().Flush())
	for {
		msg, err := conn.Frontend().Receive()
		require.NoError(t, err)
		if _, ok := msg.(*pgproto3.CopyBothResponse); ok {
			return
		}
	}
}

func TestOperatorsMissingPrivilegesAreNamedWithTheirGrants(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	e := newEstate(t, placement.ModelShared, testhouse.Options{Own: own})
	e.SuperExec(t, "postgres", "create role weak login password 'weak'")
	cfg, err := pgx.ParseConfig(e.Server.DSN)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "weak")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "host=%s port=%d user=weak password=weak dbname=postgres sslmode=disable", cfg.Host, cfg.Port), 0o600))
	for _, cluster := range []string{"a", "b"} {
		e.SuperExec(t, e.shared(t, cluster), `grant connect on database "`+e.shared(t, cluster)+`" to weak; grant usage on schema landlord, public to weak;
			grant select on all tables in schema landlord, public to weak; grant execute on all functions in schema landlord to weak`)
		_, err := e.Catalog.UpdateCluster(t.Context(), cluster, func(c *placement.Cluster) error { c.Operator = placement.Ref("file:" + file); return nil })
		require.NoError(t, err)
	}
	r := e.check(t, placement.ModelShared)
	for _, cluster := range []string{"a", "b"} {
		p := one(t, r.Problems, preflight.Privileges, cluster+": the operator weak")
		for _, what := range []string{"REPLICATION", "BYPASSRLS", "membership of landlord_owner", "CREATE on the database", "SET on session_replication_role"} {
			assert.Contains(t, p.What, what)
		}
		assert.Contains(t, p.Fix, `grant set on parameter session_replication_role to "weak"`)
	}
	// What cannot be looked at for lack of them is said, and the rest is looked at all the same.
	assert.Contains(t, one(t, r.Problems, preflight.Unchecked, "how much there is to copy").What, "could not be checked")

	e.SuperExec(t, "postgres", "alter role weak replication bypassrls; grant landlord_owner to weak; grant set on parameter session_replication_role to weak")
	for _, cluster := range []string{"a", "b"} {
		e.SuperExec(t, "postgres", `grant create on database "`+e.shared(t, cluster)+`" to weak`)
	}
	assert.Empty(t, e.check(t, placement.ModelShared).Problems)
}

func TestDatabasesThatDifferAreReported(t *testing.T) {
	t.Parallel()
	e := newEstate(t, placement.ModelShared, testhouse.Options{})
	ctx := t.Context()
	source := e.Super(t, e.shared(t, "a"))
	var locale, extension string
	require.NoError(t, source.QueryRow(ctx, `select datcollate from pg_database where datname = current_database()`).Scan(&locale))
	other := map[bool]string{true: "C.UTF-8", false: "C"}[locale == "C"]
	b, err := e.Catalog.Cluster(ctx, "b")
	require.NoError(t, err)
	for name, like := range map[string]string{
		"encoded": "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'",
		"ordered": fmt.Sprintf("encoding 'UTF8' lc_collate '%[1]s' lc_ctype '%[1]s'", other),
	} {
		c := b
		c.Name, c.SharedDatabase = name, name+"_"+e.tenant.Tenant.String()
		quoted := pgx.Identifier{c.SharedDatabase}.Sanitize()
		e.SuperExec(t, "postgres", "create database "+quoted+" template template0 "+like)
		t.Cleanup(func() { e.SuperExec(t, "postgres", "drop database "+quoted+" with (force)") })
		require.NoError(t, e.Catalog.AddCluster(ctx, c))
		r := e.check(t, placement.ModelShared, func(cfg *preflight.Config) { cfg.Cluster = name })
		if name == "encoded" {
			assert.Equal(t, "its encoding is LATIN1, the source's UTF8", one(t, r.Problems, preflight.Encoding, c.SharedDatabase).What)
		} else {
			assert.Contains(t, one(t, r.Problems, preflight.Collation, c.SharedDatabase).What, "its locale is "+other)
		}
		one(t, r.Problems, preflight.Unchecked, "schema versions")
		assert.Contains(t, one(t, r.Problems, preflight.TargetHome, "/public").What, "landlord's own objects are not there")
	}

	err = source.QueryRow(ctx, `select name from pg_available_extensions where name <> 'plpgsql' and not exists (select from pg_extension where extname = name)
		order by name = 'citext' desc, name limit 1`).Scan(&extension)
	if err != nil {
		t.Skip("the server has no extension to try with")
	}
	_, err = source.Exec(ctx, "create extension "+pgx.Identifier{extension}.Sanitize()+" schema extensions")
	require.NoError(t, err)
	for _, to := range models {
		assert.Contains(t, one(t, e.check(t, to).Problems, preflight.Extension, "extension "+extension).What, "the target's has not")
	}
	e.SuperExec(t, e.shared(t, "b"), "create extension "+pgx.Identifier{extension}.Sanitize()+" schema extensions; update pg_extension set extversion = '0' where extname = '"+extension+"'")
	r := e.check(t, placement.ModelShared)
	assert.Empty(t, r.Problems)
	assert.Contains(t, one(t, r.Warnings, preflight.Extension, "extension "+extension).What, "it has version 0")
}
