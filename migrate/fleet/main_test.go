package fleet_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var models = []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}

// with returns the sample's migrations and more of them: names and the SQL of their Up.
func with(t testing.TB, more ...string) *migrate.Set {
	t.Helper()
	set, err := migrate.Load(sample(t, more...))
	require.NoError(t, err)
	return set
}

// withGo returns the sample's migrations and some in Go.
func withGo(t testing.TB, inGo ...migrate.GoMigration) *migrate.Set {
	t.Helper()
	set, err := migrate.Load(sample(t), inGo...)
	require.NoError(t, err)
	return set
}

func sample(t testing.TB, more ...string) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{}
	names, err := os.ReadDir(testhouse.SampleDir())
	require.NoError(t, err)
	for _, n := range names {
		text, err := os.ReadFile(testhouse.SampleDir() + "/" + n.Name())
		require.NoError(t, err)
		fsys[n.Name()] = &fstest.MapFile{Data: text}
	}
	for i := 0; i < len(more); i += 2 {
		text := more[i+1]
		if !strings.HasPrefix(text, "--") {
			text = "-- +goose Up\n" + text
		}
		fsys[more[i]] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

const addNote = "alter table customers add column note text;"

// newFleet returns a fleet of a house that does not look for drift, with short leases. change may alter its configuration.
func newFleet(t testing.TB, h *testhouse.House, set *migrate.Set, change ...func(*fleet.Config)) *fleet.Fleet {
	t.Helper()
	cfg := fleet.Config{Catalog: h.Catalog, Set: set, Lease: 2 * time.Second, Workers: 2, AllowDrift: true}
	for _, c := range change {
		c(&cfg)
	}
	f, err := fleet.New(cfg)
	require.NoError(t, err)
	return f
}

// street is a house with n tenants of the schema model on each cluster, and one of each other model.
func street(t testing.TB, n int, clusters ...string) (*testhouse.House, []placement.Placement) {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{Clusters: clusters})
	var all []placement.Placement
	for _, c := range h.Clusters {
		all = append(all, h.Add(t, "shared-"+c, placement.ModelShared, c), h.Add(t, "own-"+c, placement.ModelDatabase, c))
		for i := range n {
			all = append(all, h.Add(t, fmt.Sprintf("schema-%s-%03d", c, i), placement.ModelSchema, c))
		}
	}
	return h, all
}

// versions are those that a home has, each as often as it stands there.
func versions(t testing.TB, h *testhouse.House, home placement.Home) []int64 {
	t.Helper()
	rows, err := h.Super(t, home.Database).Query(t.Context(), `select version from landlord.schema_version where schema = $1 order by 1`, home.Schema)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return all
}

// inHome runs SQL in a home as the superuser.
func inHome(t testing.TB, h *testhouse.House, home placement.Home, sql string) {
	t.Helper()
	h.SuperExec(t, home.Database, "set search_path = "+pgx.Identifier{home.Schema}.Sanitize()+", extensions;"+sql)
}

// has tells whether the home's table customers has a column.
func has(t testing.TB, h *testhouse.House, home placement.Home, column string) bool {
	t.Helper()
	const q = `select exists (select from information_schema.columns where table_schema = $1 and table_name = 'customers' and column_name = $2)`
	var found bool
	require.NoError(t, h.Super(t, home.Database).QueryRow(t.Context(), q, home.Schema, column).Scan(&found))
	return found
}
