package main_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// needsConfig is a command that reads the configuration and then fails, since nothing of it is there.
var needsConfig = []string{"dev", "psql", "-c", "select 1"}

const goodConfig = `
catalog: file:secrets/catalog.dsn
keys: env:SEAL_KEYS
clusters:
  - {name: a, endpoint: "host=127.0.0.1 port=1", database: app, operator: "file:secrets/op.dsn", app: "env:A", admin: "env:B"}
`

func TestConfigurationNamesEveryWrongKey(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("landlord.yaml", `
catalogue: file:/x
keys: /run/secrets/keys
id_type: int
mode: open
clusters:
  - {name: a, endpoint: "host=h", database: app, operator: "env:O", app: "env:A", admin: "env:B", capacity: many, pool: 5}
  - {name: a, endpoint: "host=h user=u", database: app, operator: "env:O", app: "env:A"}
`)
	r := s.run(needsConfig...)
	require.Equal(t, 1, r.status)
	for _, want := range []string{
		"landlord.yaml", "\n  the file has invalid keys: catalogue\n", "\n  catalog: ", "\n  keys: ", "\n  id_type: ", "\n  mode: ",
		"\n  clusters[0].capacity cannot parse", "\n  clusters[0] has invalid keys: pool\n",
		"\n  clusters[1]: bad endpoint", "\n  clusters[1]: admin: ", `another cluster is called "a"`,
	} {
		require.Contains(t, r.stderr, want)
	}
}

func TestConfigurationErrorsDoNotRepeatCredentials(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("landlord.yaml", `
catalog: postgres://me:hunter2@db/landlord
keys: 1:hunter2
clusters:
  - {name: a, endpoint: "host=h password=hunter2", database: app, operator: "postgres://me:hunter2@h", app: hunter2, admin: hunter2}
`)
	r := s.run(needsConfig...)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "catalog: bad credential reference")
	require.NotContains(t, r.stdout+r.stderr, "hunter2")
}

func TestConfigurationThatIsNoYAMLIsAnError(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("landlord.yaml", "catalog: [")
	r := s.run(needsConfig...)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "read configuration landlord.yaml")
}

func TestConfigurationIsSoughtInOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := s.run(needsConfig...)
	require.Equal(t, 1, r.status)
	require.Contains(t, r.stderr, "landlord dev up", "what to do where there is none")

	bad := func(key string) string { return key + ": 1\n" }
	for _, step := range []struct {
		file, key string
		arrange   func()
	}{
		{file: ".landlord/landlord.yaml", key: "last"},
		{file: "landlord.yaml", key: "third"},
		{file: "b/second.yaml", key: "second", arrange: func() { s.env = append(s.env, "LANDLORD_CONFIG=b/second.yaml") }},
	} {
		s.write(step.file, bad(step.key))
		if step.arrange != nil {
			step.arrange()
		}
		require.Contains(t, s.run(needsConfig...).stderr, "has invalid keys: "+step.key)
	}
	s.write("first.yml", bad("first"))
	require.Contains(t, s.run(append(needsConfig, "--config", "first.yml")...).stderr, "has invalid keys: first")

	below := &shop{t: t, dir: filepath.Join(s.dir, "b")}
	require.Contains(t, below.run(needsConfig...).stderr, "there is no landlord.yaml", "folders above are not searched")
}

func TestRelativeReferencesStartAtTheConfiguration(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("conf/landlord.yaml", goodConfig)
	r := s.run(append(needsConfig, "--config", "conf/landlord.yaml")...)
	require.Equal(t, 1, r.status)
	folder, err := filepath.EvalSymlinks(s.dir)
	require.NoError(t, err)
	require.Contains(t, r.stderr, "file:"+filepath.Join(folder, "conf/secrets/op.dsn"))
}

func TestVariablesGoBeforeTheFile(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write("landlord.yaml", goodConfig+"mode: sealed\n")
	s.env = []string{"LANDLORD_MODE=ajar", "LANDLORD_ID_TYPE=bigint"}
	r := s.run(needsConfig...)
	require.Contains(t, r.stderr, `mode: read isolation mode "ajar"`)
	require.NotContains(t, r.stderr, "id_type")
}
