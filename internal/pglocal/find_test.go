package pglocal_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
)

func TestOnlyTheFolderThatTheVariableNamesCounts(t *testing.T) {
	in, err := pglocal.Find(0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, in.Major, pglocal.MinMajor)

	t.Setenv(pglocal.BinEnv, in.Bin)
	same, err := pglocal.Find(in.Major)
	require.NoError(t, err)
	require.Equal(t, in, same)

	t.Setenv(pglocal.BinEnv, t.TempDir())
	_, err = pglocal.Find(0)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, pglocal.BinEnv)
}

func TestWhoHasNoPostgreSQLIsToldHowToGetIt(t *testing.T) {
	const absent = 99
	t.Setenv(pglocal.BinEnv, "")
	for range 2 {
		_, err := pglocal.Find(absent)
		notFound := &pglocal.NotFoundError{}
		require.ErrorAs(t, err, &notFound)
		require.Equal(t, absent, notFound.Major)
		require.NotEmpty(t, notFound.Others)
		require.ErrorContains(t, err, "apt-get install postgresql-99")
		require.ErrorContains(t, err, "brew install postgresql@99")
		require.ErrorContains(t, err, "docker run")
		t.Setenv(pglocal.BinEnv, oldInstall(t)) // and for one who named a folder
	}
}

func TestPostgreSQLOlderThanSupportedIsNotUsed(t *testing.T) {
	t.Setenv(pglocal.BinEnv, oldInstall(t))
	_, err := pglocal.Find(0)
	require.ErrorContains(t, err, "only 9 in ")
}

// oldInstall is a folder with programs that say they are of 2016.
func oldInstall(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{"initdb", "pg_ctl", "postgres"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, p), []byte(script), 0o700))
	}
	return dir
}
