package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type keyList struct {
	File []struct {
		Key   int
		Seals bool
	}
	Databases []struct {
		Cluster, Database string
		Keys              []struct {
			Key  int
			Ends *string
		}
	}
}

const keyFile = ".landlord/secrets/seal.keys"

func TestKeysRotateWithoutShuttingAnybodyOut(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	s.add("acme", "database")
	inside := func() result { return s.run("tenant", "psql", "acme", "-c", "select 'in' || 'side'") }
	first := read(t, s, keyFile)

	r := s.run("key", "retire", "1")
	require.Equal(t, 1, r.status, "the only key stays")
	require.Contains(t, r.stderr, "landlord key add")

	require.Contains(t, s.ok("key", "add", "--dry-run"), "would make key 2")
	require.Equal(t, first, read(t, s, keyFile))
	require.Contains(t, s.ok("key", "add"), "key 2 is known to 3 databases")
	both := read(t, s, keyFile)
	require.True(t, strings.HasPrefix(both, first))
	info, err := os.Stat(filepath.Join(s.dir, keyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.Contains(t, inside().stdout, "inside", "sealed with key 2")
	s.write(keyFile, first)
	require.Contains(t, inside().stdout, "inside", "a service with the old file goes on")
	s.write(keyFile, both)

	require.Equal(t, 1, s.run("key", "retire", "2").status, "the newest key stays")
	require.Equal(t, 2, s.run("key", "retire", "two").status)
	require.Equal(t, 1, s.run("key", "retire", "9").status)
	s.ok("key", "retire", "1", "--grace", "1h", "--dry-run")
	require.Equal(t, both, read(t, s, keyFile))
	require.Contains(t, s.ok("key", "retire", "1", "--grace", "0s"), "key 1 ends at ")
	require.Contains(t, s.ok("key", "retire", "1"), "had ended in every database already")
	require.Contains(t, inside().stdout, "inside")
	after := read(t, s, keyFile)
	s.write(keyFile, first)
	refused := inside()
	require.Equal(t, 1, refused.status)
	require.Contains(t, refused.stderr, "LL005")
	require.Contains(t, s.run("doctor").stdout, "does not accept seal key 1")
	s.write(keyFile, after)

	list := parse[keyList](t, s.ok("key", "list", "--json"))
	require.Len(t, list.File, 1)
	require.Equal(t, 2, list.File[0].Key)
	require.True(t, list.File[0].Seals)
	require.Len(t, list.Databases, 3)
	for _, db := range list.Databases {
		require.Len(t, db.Keys, 2)
		require.NotNil(t, db.Keys[0].Ends)
		require.Nil(t, db.Keys[1].Ends)
	}
	require.Contains(t, s.ok("key", "list"), "ended ")
	require.Zero(t, parse[initOutput](t, s.ok("init", "--json")).Changed, "init does not bring a retired key back")
	require.Contains(t, s.ok("key", "add"), "key 3 ", "no number comes back")
}

func TestKeyThatADatabaseCannotLearnIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	s := openHouse(t)
	keys := read(t, s, keyFile)
	operator := read(t, s, ".landlord/secrets/b.operator.dsn")
	s.write(".landlord/secrets/b.operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")
	r := s.run("key", "add")
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "nothing was changed")
	require.Equal(t, keys, read(t, s, keyFile))
	require.Equal(t, 3, s.run("key", "list").status)
	s.write(".landlord/secrets/b.operator.dsn", operator)

	s.ok("key", "add")
	s.write(".landlord/secrets/b.operator.dsn", "postgres://nobody@127.0.0.1:1/postgres\n")
	r = s.run("key", "retire", "1", "--grace", "0s")
	require.Equal(t, 3, r.status, "one database has ended it, the other not")
	require.Contains(t, read(t, s, keyFile), keys, "so it stays in the file")
}
