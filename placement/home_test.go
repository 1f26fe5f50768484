package placement_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestHomesAreWrittenAndRead(t *testing.T) {
	t.Parallel()
	h, err := placement.ParseHome("a/app/public")
	require.NoError(t, err)
	require.Equal(t, placement.Home{Cluster: "a", Database: "app", Schema: "public"}, h)
	require.Equal(t, "a/app/public", h.String())
}

func TestHostileHomesAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "a/app", "a/app/public/x", "A/app/public", "/app/public", "a//public", "a/app/",
		"a/template0/public", "a/template1/public", "a/app/pg_catalog", "a/app/pg_temp", "a/app/information_schema", "a/app/landlord",
		"a/app/x\x00y", "a/app/x\ny", "a/app/x\u202ey", "a/" + strings.Repeat("d", 64) + "/public", "a/app/" + strings.Repeat("é", 32),
	} {
		_, err := placement.ParseHome(s)
		require.Error(t, err, "%q", s)
	}
}

func TestHomeNamesHideTheTenantAndFit(t *testing.T) {
	t.Parallel()
	id, err := tenant.Text.Parse(strings.Repeat("a", tenant.MaxTextID))
	require.NoError(t, err)
	// Fixed for ever: names of homes that exist must not change.
	require.Equal(t, "t_1625b10684a57abd112a", placement.HomeName("9c1f9d0e-5a0b-4f1e-8a3d-0d8f4f3f2b11", id))
	require.Equal(t, "t_x_app", placement.DedicatedLogin("t_x"))
	rapid.Check(t, func(t *rapid.T) {
		a, errA := tenant.Text.Parse(rapid.String().Draw(t, "a"))
		b, errB := tenant.Text.Parse(rapid.String().Draw(t, "b"))
		if errA != nil || errB != nil {
			return
		}
		require.Regexp(t, `^t_[0-9a-f]{20}$`, placement.HomeName("i", a))
		require.Equal(t, a == b, placement.HomeName("i", a) == placement.HomeName("i", b))
		require.NotEqual(t, placement.HomeName("i", a), placement.HomeName("j", a))
	})
}

func TestEachModelHasItsHome(t *testing.T) {
	t.Parallel()
	c := aCluster("a")
	for m, want := range map[placement.Model]string{
		placement.ModelShared: "a/app/public", placement.ModelSchema: "a/app/t_1", placement.ModelDatabase: "a/t_1/public",
	} {
		h := placement.NewHome(m, c, "t_1")
		require.Equal(t, want, h.String())
		require.NoError(t, h.Validate())
	}
}
