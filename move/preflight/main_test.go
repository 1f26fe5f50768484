package preflight_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// estate is a house with a tenant in it that somebody wants to move.
type estate struct {
	*testhouse.House
	tenant placement.Placement
}

func newEstate(t *testing.T, model placement.Model, opts testhouse.Options) estate {
	t.Helper()
	e := estate{House: testhouse.New(t, opts)}
	e.tenant = e.Add(t, "acme", model, "a")
	return e
}

// shared is the name of a cluster's shared database.
func (e estate) shared(t *testing.T, cluster string) string {
	t.Helper()
	c, err := e.Catalog.Cluster(t.Context(), cluster)
	require.NoError(t, err)
	return c.SharedDatabase
}

// sql runs statements as a superuser in a home's schema.
func (e estate) sql(t *testing.T, home placement.Home, sql string) {
	t.Helper()
	e.SuperExec(t, home.Database, fmt.Sprintf("set search_path = %s, extensions; %s", home.Schema, sql))
}

// there is the shared home of cluster b.
func (e estate) there(t *testing.T) placement.Home {
	t.Helper()
	return placement.Home{Cluster: "b", Database: e.shared(t, "b"), Schema: placement.SharedSchema}
}

// check looks at a move of the tenant to cluster b.
func (e estate) check(t *testing.T, model placement.Model, change ...func(*preflight.Config)) preflight.Report {
	t.Helper()
	who, err := e.Catalog.Tenant(t.Context(), e.tenant.Tenant)
	require.NoError(t, err)
	cfg := preflight.Config{Catalog: e.Catalog, Tenant: who, Model: model, Cluster: "b"}
	for _, c := range change {
		c(&cfg)
	}
	r, err := preflight.Check(t.Context(), cfg)
	require.NoError(t, err)
	for _, p := range append(r.Problems, r.Warnings...) {
		assert.NotEmpty(t, p.Object, p.Code)
		assert.NotEmpty(t, p.What, p.Code)
		assert.NotEmpty(t, p.Fix, p.Code)
		assert.NotContains(t, p.What, "%!", p.Code)
	}
	return r
}

// one returns the only problem of a code about an object, whose name ends so.
func one(t *testing.T, list []table.Problem, code table.Code, object string) table.Problem {
	t.Helper()
	var found []table.Problem
	for _, p := range list {
		if p.Code == code && strings.HasSuffix(p.Object, object) {
			found = append(found, p)
		}
	}
	require.Len(t, found, 1, "%s of %s among %+v", code, object, list)
	return found[0]
}
