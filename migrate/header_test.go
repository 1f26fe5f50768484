package migrate_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
)

func TestAFileSaysWhenAndWhereItRuns(t *testing.T) {
	t.Parallel()
	set := load(t, files(
		"1_a.sql", "create table a ();",
		"2_b.sql", "-- landlord: phase=contract scope=database\n-- landlord: allow=drop-table it was never filled\ndrop table a;",
	))
	plain, said := set.Migrations()[0], set.Migrations()[1]
	require.Equal(t, migrate.PhaseExpand, plain.Phase)
	require.Equal(t, migrate.ScopeTenant, plain.Scope)
	require.Empty(t, plain.Waivers)
	require.Equal(t, migrate.PhaseContract, said.Phase)
	require.Equal(t, migrate.ScopeDatabase, said.Scope)
	require.Equal(t, "drop-table", said.Waivers[0].Rule)
	require.Equal(t, "it was never filled", said.Waivers[0].Reason)
	require.Positive(t, said.Waivers[0].Line)
}

func TestAFileThatIsMisspeltIsRefused(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"-- landlord: phase=contarct":            `phase "contarct": use expand`,
		"-- landlord: scope=fleet":               `scope "fleet": use tenant`,
		"-- landlord: fase=contract":             `"fase=contract" is not known`,
		"-- landlord: phase=expand phase=expand": "phase is said twice",
		"-- landlord: allow=drop-table":          "a waiver names a rule and the reason",
		"--landlord:":                            "nothing follows landlord",
	} {
		_, err := migrate.Load(fstest.MapFS{"1_a.sql": {Data: []byte("-- +goose Up\n" + header + "\nselect 1;\n")}})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "1_a.sql: line 2")
	}
}
