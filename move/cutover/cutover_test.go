package cutover_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/verify"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// A tenant goes from one home to the other and back while sixteen writers go on, through a router whose catalog has fallen silent
// before: nothing is lost, nothing is doubled, nobody sees an error.
func TestATenantIsPassedOnAndBackUnderItsWriters(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a", "b"}})
	for _, c := range []struct {
		from, to placement.Model
		cluster  string
	}{
		{placement.ModelShared, placement.ModelDatabase, "b"},
		{placement.ModelDatabase, placement.ModelSchema, "b"},
		{placement.ModelSchema, placement.ModelShared, "b"},
		{placement.ModelShared, placement.ModelSchema, "a"},
		{placement.ModelShared, placement.ModelShared, "b"},
	} {
		t.Run(string(c.from)+" to "+string(c.to)+" at "+c.cluster, func(t *testing.T) {
			m := begin(t, h, c.from, c.to, c.cluster)
			proxy := faultnet.New(t, h.Server.Addr())
			dsn, err := proxy.Rewrite(h.CatalogDSN)
			require.NoError(t, err)
			r := h.Router(t, func(cfg *router.Config) { cfg.Catalog = h.OpenCatalog(t, dsn) })
			db := r.Tenant(m.from.Tenant)
			_, err = db.Exec(t.Context(), "select 1")
			require.NoError(t, err)
			// The router has been at both clusters.
			_, err = r.Tenant(h.Add(t, "neighbour-of-"+string(m.from.Slug), placement.ModelShared, "b").Tenant).Exec(t.Context(), "select 1")
			require.NoError(t, err)
			proxy.Blackhole()
			defer proxy.Restore()

			stop := m.follow(t)
			l := write(t, db, 16)
			l.some(t, 200)
			for _, way := range []string{"forward", "back"} {
				before, after, err := m.cutover(t).Snapshots(t.Context())
				require.NoError(t, err)
				pairs := m.pairs
				if m.back {
					pairs = reversed(pairs)
				}
				report, err := verify.Compare(t.Context(), before, after, pairs, verify.Options{})
				require.NoError(t, err)
				require.NoError(t, report.Err())
				require.Positive(t, report.Rows)
				require.NoError(t, before.Close(t.Context()))
				require.NoError(t, after.Close(t.Context()))

				result, err := m.cutover(t).Run(t.Context())
				require.NoError(t, err)
				require.True(t, result.Committed && result.Opened)
				l.some(t, 50)
				report, err = verify.Compare(t.Context(), result.Before, result.After, pairs, verify.Options{})
				require.NoError(t, err)
				require.NoError(t, report.Err())
				t.Logf("%s: writers paused %v, of which %v to drain, in attempt %d", way, result.Pause, result.Drain, result.Attempts)
				stop()
				m.turn(t, result)
				if way == "forward" {
					require.Equal(t, isolation.Moved, m.fence(t, m.from).State)
					require.Equal(t, isolation.Open, m.fence(t, m.to).State)
					stop = m.follow(t)
					l.some(t, 200)
				}
			}
			l.end()
			require.Empty(t, l.errs)
			require.ElementsMatch(t, l.acked, m.at(t, m.from))
			require.Equal(t, isolation.Open, m.fence(t, m.from).State)
			require.Equal(t, isolation.Moved, m.fence(t, m.to).State)
			t.Logf("longest gap between two of %d commits: %v", len(l.acked), l.gap())
		})
	}
}
