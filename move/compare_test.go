package move_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// What the comparison of both homes as they were at the cutover has found stays on record until the end: nobody need have been
// watching.
func TestDifferenceAtTheCutoverIsOnRecord(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{shared, "b"})
	m := r.begin(t, place{shared, "b"})
	r.stay(t, m)
	r.await(t, m, move.Verified)
	r.SuperExec(t, m.Target.Home.Database,
		"update customers set name = 'changed by somebody' where email = 'seed1@example.com' and tenant_id = '"+m.Tenant.String()+"'")
	r.ask(t, m, placement.AskCutover)
	m = r.await(t, m, move.Reversing)
	const found = "after the cutover: compare the homes: they differ: table customers"
	require.Contains(t, m.Error, found)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.Contains(t, m.Error, found)
	r.nothingLeft(t, m)
}
