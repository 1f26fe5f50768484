package move_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

const (
	shared   = placement.ModelShared
	schema   = placement.ModelSchema
	database = placement.ModelDatabase
)

// transitions are all pairs of models on two clusters, and those that stay on one.
var transitions = []struct{ from, to place }{
	{place{shared, "a"}, place{database, "b"}},
	{place{shared, "a"}, place{schema, "b"}},
	{place{shared, "a"}, place{shared, "b"}},
	{place{schema, "a"}, place{shared, "b"}},
	{place{schema, "a"}, place{schema, "b"}},
	{place{schema, "a"}, place{database, "b"}},
	{place{database, "a"}, place{shared, "b"}},
	{place{database, "a"}, place{schema, "b"}},
	{place{database, "a"}, place{database, "b"}},
	{place{shared, "a"}, place{schema, "a"}}, // within one database
	{place{schema, "a"}, place{shared, "a"}}, // within one database
	{place{shared, "a"}, place{database, "a"}},
	{place{database, "a"}, place{schema, "a"}},
}

func TestTenantIsMovedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	for _, tr := range transitions {
		t.Run(tr.from.String()+" to "+tr.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, tr.from, tr.to)
			others := r.others(t)
			w := r.write(t, 2)
			w.more(t, 5)
			m := r.begin(t, tr.to)
			m = r.drive(t, m, move.ToReversing)
			require.Positive(t, m.Pause)
			require.Empty(t, m.Error)
			require.Equal(t, others, r.others(t))
			w.more(t, 5)
			m = r.drive(t, m, move.ToDone)
			w.more(t, 5)
			w.done(t)
			require.Equal(t, others, r.others(t))
			r.livesAt(t, m.Target.Home, m.Epoch+1)
			r.nothingLeft(t, m)
		})
	}
}

func TestTenantIsMovedBack(t *testing.T) {
	t.Parallel()
	for _, tr := range transitions {
		t.Run(tr.from.String()+" to "+tr.to.String(), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, tr.from, tr.to)
			others := r.others(t)
			w := r.write(t, 2)
			w.more(t, 5)
			m := r.drive(t, r.begin(t, tr.to), move.ToReversing)
			w.more(t, 20)
			m = r.drive(t, m, move.ToReverted)
			w.more(t, 5)
			w.done(t)
			require.Equal(t, others, r.others(t))
			r.livesAt(t, m.Source.Home, m.Epoch+2)
			r.nothingLeft(t, m)
		})
	}
}
