package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type gateOutput struct{ Contract, Waits []string }

const dropName = "-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column name;\n"

func TestMigrateUpSaysWhatContractFilesWaitForAndRunsThemWhenNothingDoes(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("t-schema", "schema", "--cluster", "a")
	s.add("t-shared", "shared", "--cluster", "a")
	s.write(".landlord/migrations/00004_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	s.write(".landlord/migrations/00005_drop_name.sql", dropName)
	s.catalogSQL("select landlord.beat('0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21', 'web-1', 3)")

	// Where no tenant lives, init builds what all others have.
	require.Contains(t, s.ok("init", "--dry-run"), "cluster b: would apply 1 migrations")
	require.Contains(t, s.ok("init"), "cluster b: applied 1 migrations")
	require.Contains(t, s.ok("init", "--dry-run"), "nothing to change")

	const waits = "00005_drop_name.sql (contract) waits for: instance web-1 (0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21), which is written for version 3"
	plan := parse[gateOutput](t, s.ok("migrate", "plan", "--json"))
	require.Len(t, plan.Waits, 2)
	require.Contains(t, plan.Waits[0], "lack 00004_note.sql")
	require.Contains(t, s.ok("migrate", "up"), waits)
	out := parse[gateOutput](t, s.ok("migrate", "up", "--json"))
	require.Equal(t, []string{"00005_drop_name.sql"}, out.Contract)
	require.Len(t, out.Waits, 1)
	require.Contains(t, s.ok("migrate", "plan"), waits)
	require.Contains(t, s.ok("migrate", "status"), waits)
	s.add("newcomer", "database", "--cluster", "b")
	require.Equal(t, 3, s.columns("name", "t-schema", "t-shared", "newcomer"))

	s.catalogSQL("select landlord.leave('0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21')")
	require.Contains(t, s.ok("migrate", "up", "--expand-only"), "00005_drop_name.sql (contract) comes next")
	require.Equal(t, 3, s.columns("name", "t-schema", "t-shared", "newcomer"))
	done := s.ok("migrate", "up", "--json")
	require.Equal(t, "done", parse[runOutput](t, done).State)
	require.Equal(t, gateOutput{[]string{}, []string{}}, parse[gateOutput](t, done))
	require.Zero(t, s.columns("name", "t-schema", "t-shared", "newcomer"))
	require.Equal(t, 3, s.columns("note", "t-schema", "t-shared", "newcomer"))

	// A folder that cannot be read keeps nobody from looking at the run.
	s.write(".landlord/migrations/00007_hole.sql", dropName)
	require.Equal(t, 1, s.run("migrate", "up").status)
	s.ok("migrate", "status")
}

func TestInitBuildsANewInstallationFromContractFilesToo(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	devUp(t, s)
	s.write(".landlord/migrations/00004_drop_name.sql", dropName)
	s.write(".landlord/migrations/00005_note.sql", "-- +goose Up\nalter table customers add column note text;\n")
	require.Contains(t, s.ok("init"), "cluster a: applied 5 migrations in app\n")
	require.Contains(t, s.ok("init", "--dry-run"), "nothing to change")

	// As long as there are no tenants it goes on so.
	s.write(".landlord/migrations/00006_drop_note.sql", "-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column note;\n")
	s.write(".landlord/migrations/00007_more.sql", "-- +goose Up\nalter table customers add column more text;\n")
	s.write(".landlord/migrations/00008_drop_more.sql", "-- landlord: phase=contract\n-- +goose Up\nalter table customers drop column more;\n")
	require.Contains(t, s.ok("init", "--dry-run"), "cluster a: would apply 3 migrations")
	steps := parse[initOutput](t, s.ok("init", "--json")).Steps
	require.Equal(t, []string{
		"cluster a: applied 2 migrations in app", "cluster b: applied 2 migrations in app",
		"cluster a: applied 1 migrations in app", "cluster b: applied 1 migrations in app",
	}, steps)
	require.Zero(t, parse[initOutput](t, s.ok("init", "--json")).Changed)
	s.add("acme", "schema")
	require.Zero(t, s.columns("more", "acme")+s.columns("name", "acme"))
	require.Contains(t, s.ok("migrate", "up"), "up to date")
}
