package move_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// A sequence from which a function or the application takes numbers, and no column's default, does not begin anew at the new home, nor
// does the old one give out again what the tenant has got there.
func TestNumbersOfASequenceThatNoColumnNamesAreNotGivenOutTwice(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{schema, "a"}, place{database, "b"})
	const name = `invoice "no"`
	take := func(at placement.Home) (n int64) {
		conn := r.Super(t, at.Database)
		require.NoError(t, conn.QueryRow(t.Context(), `select nextval($1::text::regclass)`, pgx.Identifier{at.Schema, name}.Sanitize()).Scan(&n))
		return n
	}
	sequence := func(at placement.Home) {
		r.SuperExec(t, at.Database, "create sequence "+pgx.Identifier{at.Schema, name}.Sanitize())
	}
	m := r.begin(t, place{database, "b"})
	sequence(m.Source.Home)
	for range 3 {
		take(m.Source.Home)
	}
	r.drive(t, m, move.Ready)
	sequence(m.Target.Home) // as migrations would have made it
	r.drive(t, m, move.ToReversing)
	there := take(m.Target.Home)
	require.EqualValues(t, 3+1+cutover.Margin, there)
	// The target goes with the way back, so what it gives last is what it has given here.
	r.drive(t, m, move.ToReverted)
	require.Greater(t, take(m.Source.Home), there)
	r.nothingLeft(t, m)
}
