package rehearsal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/migrate/rehearsal"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// files are the sample's migrations and more of them: names and the SQL of their Up.
func files(t testing.TB, more ...string) *migrate.Set {
	t.Helper()
	fsys := fstest.MapFS{}
	paths, err := filepath.Glob(filepath.Join(testhouse.SampleDir(), "*.sql"))
	require.NoError(t, err)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		fsys[filepath.Base(p)] = &fstest.MapFile{Data: text}
	}
	for i := 0; i < len(more); i += 2 {
		text := more[i+1]
		if !strings.HasPrefix(text, "--") {
			text = "-- +goose Up\n" + text
		}
		fsys[more[i]] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := migrate.Load(fsys)
	require.NoError(t, err)
	return set
}

// block is a DO block as goose wants it.
func block(body string) string {
	return "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin " + body + " end $$;\n-- +goose StatementEnd\n"
}

func newHouse(t testing.TB) *testhouse.House {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	h.Add(t, "in-schema", placement.ModelSchema, "a")
	return h
}

// rehearse rehearses what the house lacks of set, on its only cluster.
func rehearse(t testing.TB, h *testhouse.House, set *migrate.Set) rehearsal.Result {
	t.Helper()
	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: set})
	require.NoError(t, err)
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	results, err := rehearsal.Rehearse(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: set, Progress: t.Logf}, plan)
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Empty(t, scratches(t, h))
	return results[0]
}

// scratches are the house's scratch databases. Other tests of the server may have theirs at the same time.
func scratches(t testing.TB, h *testhouse.House) (names []string) {
	t.Helper()
	settings, err := h.Catalog.Settings(t.Context())
	require.NoError(t, err)
	rows, err := h.Super(t, "postgres").Query(t.Context(), `select datname::text from pg_database
		where datname like 'landlord\_rehearsal\_%' and shobj_description(oid, 'pg_database') like '%' || $1 || '%'`, settings.Installation)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}
