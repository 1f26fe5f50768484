package placement_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

func TestLogSaysWhoDidWhat(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	p := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema})
	require.NoError(t, c.SetState(t.Context(), p.Tenant, placement.StateActive))
	moved := p
	moved.Model, moved.Epoch = placement.ModelShared, 2
	moved.Home = placement.NewHome(moved.Model, aCluster("a"), "")
	require.NoError(t, c.SetPlacement(t.Context(), 1, moved))
	_, err := c.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error { c.Endpoint, c.Capacity = "host=new", 9; return nil })
	require.NoError(t, err)

	entries, err := c.Log(t.Context(), placement.LogFilter{Tenant: p.Tenant})
	require.NoError(t, err)
	for i := range entries {
		require.False(t, entries[i].At.IsZero())
		entries[i].At = entries[0].At
	}
	of := placement.LogEntry{At: entries[0].At, Actor: "tester", Tenant: p.Tenant, Slug: "acme", Cluster: "a"}
	want := []placement.LogEntry{of, of, of}
	want[0].Seq, want[0].Kind, want[0].Epoch, want[0].After = 2, placement.KindPlaced, 1, p.Home.String()
	want[1].Seq, want[1].Kind, want[1].Epoch, want[1].Before, want[1].After = 3, placement.KindState, 1, "provisioning", "active"
	want[2].Seq, want[2].Kind, want[2].Epoch, want[2].Before, want[2].After = 4, placement.KindMoved, 2, p.Home.String(), "a/app/public"
	require.Equal(t, want, entries)

	page, err := c.Log(t.Context(), placement.LogFilter{After: 4, Limit: 1})
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, placement.KindEndpoint, page[0].Kind)
	require.Equal(t, "host=new", page[0].After)
	require.Equal(t, placement.KindCluster, kinds(t, c)[5])
}

func TestLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	addClusters(t, c, aCluster("a"))
	conn := connect(t, dsn)
	for _, sql := range []string{
		`update landlord.placement_log set actor = 'somebody else'`, `delete from landlord.placement_log`, `truncate landlord.placement_log`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%s: %v", sql, err)
	}
	// Nor does a number of one's own choice get in: the trigger gives it.
	exec(t, conn, `insert into landlord.placement_log (seq, at, actor, kind, cluster) values (77, 'epoch', 'forger', 'cluster', 'a')`)
	entries, err := c.Log(t.Context(), placement.LogFilter{})
	require.NoError(t, err)
	require.EqualValues(t, 2, entries[1].Seq)
	require.NotZero(t, entries[1].At.Unix())
}

// A number that is given before the commit of an earlier one would let a reader's cursor pass over that one.
func TestSlowWriterHoldsBackTheNumbersOfQuickOnes(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	slow := connect(t, dsn)
	exec(t, slow, `begin`)
	exec(t, slow, `insert into landlord.placement_log (actor, kind, cluster, after) values ('slow', 'cluster', 'x', '1')`)

	quick := make(chan error, 1)
	go func() { quick <- c.AddCluster(context.WithoutCancel(t.Context()), aCluster("a")) }()
	look := connect(t, dsn)
	require.Eventually(t, func() bool {
		var waiting bool
		const q = `
select exists (select from pg_locks where locktype = 'advisory' and not granted
               and database = (select oid from pg_database where datname = current_database()))`
		require.NoError(t, look.QueryRow(t.Context(), q).Scan(&waiting))
		return waiting
	}, waitMost, waitStep)
	require.Empty(t, kinds(t, c), "nothing can be seen before the slow one commits")
	require.Empty(t, quick)

	exec(t, slow, `insert into landlord.placement_log (actor, kind, cluster, after) values ('slow', 'cluster', 'x', '2')`)
	exec(t, slow, `commit`)
	require.NoError(t, <-quick)
	entries, err := c.Log(t.Context(), placement.LogFilter{})
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, []string{"slow", "slow"}, []string{entries[0].Actor, entries[1].Actor})
	require.Equal(t, "a", entries[2].Cluster)
}
