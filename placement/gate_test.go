package placement_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

// to is where the tests' gate is to stand: a contract file of version 6 behind one of version 5 that is none.
var to = placement.Gate{Contracted: 6, Needs: 5}

// gated is a catalog with a cluster, and a connection beside it.
func gated(t *testing.T) (*placement.Catalog, *pgx.Conn) {
	t.Helper()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, Actor: "tester"})
	addClusters(t, c, aCluster("a"))
	return c, connect(t, dsn)
}

func beat(t *testing.T, conn *pgx.Conn, name string, version int64) (id string, err error) {
	t.Helper()
	id = newID(t).String()
	_, err = conn.Exec(t.Context(), `select landlord.beat($1, $2, $3)`, id, name, version)
	return id, err
}

// closed is a look at the homes that finds something.
func closed(context.Context) ([]string, error) { return []string{"again"}, nil }

// tryGate tries to open the gate for somebody who has just looked at the homes.
func tryGate(t *testing.T, c *placement.Catalog) placement.GateWaits {
	t.Helper()
	seen, err := c.LogEnd(t.Context())
	require.NoError(t, err)
	w, err := c.OpenGate(t.Context(), placement.Gate{}, to, seen, closed)
	require.NoError(t, err)
	now, err := c.Gate(t.Context())
	require.NoError(t, err)
	if len(w.For) > 0 {
		require.Zero(t, now, "it stays closed")
		asked, err := c.GateWaits(t.Context(), to)
		require.NoError(t, err)
		require.Equal(t, w, asked)
	} else {
		require.Equal(t, to, now)
	}
	return w
}

func TestGateWaitsForInstancesOfTheOldShapeAndNamesThem(t *testing.T) {
	t.Parallel()
	c, conn := gated(t)
	for name, version := range map[string]int64{"old": 4, "silent": 3, "mute": 0, "new": 5, "newer": 7} {
		_, err := beat(t, conn, name, version)
		require.NoError(t, err)
	}
	exec(t, conn, `update landlord.instances set seen_at = now() - interval '2 hours' where name in ('silent', 'new')`)
	w := tryGate(t, c)
	require.False(t, w.Soon)
	require.Len(t, w.For, 3)
	for i, want := range []string{
		`^instance mute \([0-9a-f-]{36}\), which does not say for which version it is written and was last seen [0-9]+s ago: deploy one that is written for version 5$`,
		`^instance old .* is written for version 4 and .* version 5$`,
		`^instance silent .* is written for version 3 and was last seen 2h0m[0-9]+s ago: .* landlord instance forget [0-9a-f-]{36}$`,
	} {
		require.Regexp(t, want, w.For[i])
	}
	exec(t, conn, `delete from landlord.instances where name in ('silent', 'mute')`)
	require.Len(t, tryGate(t, c).For, 1)
	exec(t, conn, `select landlord.leave(id) from landlord.instances where name = 'old'`)
	require.Empty(t, tryGate(t, c).For)

	// From now on the old shape is refused.
	_, err := beat(t, conn, "old again", 4)
	require.Equal(t, pgerr.Outdated, pgerr.Code(err))
	_, err = beat(t, conn, "new again", 5)
	require.NoError(t, err)
}

func TestGateWaitsForRunsAndRunsForTheGate(t *testing.T) {
	t.Parallel()
	c, conn := gated(t)
	run, begun, err := c.BeginRun(t.Context(), placement.Run{Files: "x", Newest: 5, State: placement.RunPaused, Waves: 1}, nil)
	require.NoError(t, err)
	require.True(t, begun)
	w := tryGate(t, c)
	require.False(t, w.Soon)
	require.Len(t, w.For, 1)
	require.Contains(t, w.For[0], fmt.Sprintf("run %d, which is paused: landlord migrate resume", run.Number))
	_, err = c.GoOn(t.Context(), run, 0, placement.RunPaused)
	require.NoError(t, err)
	require.True(t, tryGate(t, c).Soon)
	exec(t, conn, `update landlord.runs set state = 'failed'`)
	require.Empty(t, tryGate(t, c).For)

	// Files that were chosen before are not begun with, nor gone on with.
	_, err = c.GoOn(t.Context(), run, 0, placement.RunFailed)
	require.ErrorIs(t, err, placement.ErrGate)
	_, _, err = c.BeginRun(t.Context(), placement.Run{Files: "x", Newest: 5, State: placement.RunRunning, Waves: 1}, nil)
	require.ErrorIs(t, err, placement.ErrGate)
	_, begun, err = c.BeginRun(t.Context(), placement.Run{Files: "y", Newest: 6, State: placement.RunRunning, Waves: 1, Contracted: 6}, nil)
	require.NoError(t, err)
	require.True(t, begun)
}

func TestGateWantsAnotherLookWhenHomesCameOrMovedDuringTheLast(t *testing.T) {
	t.Parallel()
	c, conn := gated(t)
	look := func() int64 {
		seen, err := c.LogEnd(t.Context())
		require.NoError(t, err)
		return seen
	}
	again := func(seen int64, want bool) {
		t.Helper()
		exec(t, conn, `update landlord.gate set contracted = 0, needs = 0`)
		looked := false
		w, err := c.OpenGate(t.Context(), placement.Gate{}, to, seen, func(ctx context.Context) ([]string, error) {
			looked = true
			_, err := c.Tenants(ctx, placement.Filter{}) // whoever looks asks the catalog
			return nil, err
		})
		require.NoError(t, err)
		require.Empty(t, w.For)
		require.Equal(t, want, looked)
	}
	seen := look()
	lodger := place(t, c, placement.Request{Slug: "lodger"})
	require.NoError(t, c.SetState(t.Context(), lodger.Tenant, placement.StateActive))
	require.NoError(t, c.SetState(t.Context(), lodger.Tenant, placement.StateSuspended))
	again(seen, false)

	acme := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema})
	again(seen, false) // that moves the gate, and acme's home does not fit any more
	require.ErrorIs(t, c.Activate(t.Context(), acme.Tenant, 0), placement.ErrGate)
	require.NoError(t, c.Activate(t.Context(), acme.Tenant, to.Contracted))
	require.NoError(t, c.Activate(t.Context(), acme.Tenant, 0), "it is active already")
	again(seen, true)
	again(look(), false)

	seen = look()
	require.NoError(t, c.SetState(t.Context(), acme.Tenant, placement.StateMoving))
	again(seen, false)
	moved := acme
	moved.Home.Schema, moved.Epoch = "elsewhere", 2
	require.NoError(t, c.SetPlacement(t.Context(), 1, moved))
	again(seen, true)

	seen = look()
	database := placement.Database{
		Cluster: "a", Name: "app", Model: placement.ModelShared, Stamp: newID(t).String(), Mode: "plain", HomeVersion: 1, Login: "app",
	}
	require.NoError(t, c.PutDatabase(t.Context(), database))
	again(seen, true)
	again(look(), false)

	exec(t, conn, `update landlord.gate set contracted = 0, needs = 0`)
	w, err := c.OpenGate(t.Context(), placement.Gate{}, to, seen, closed)
	require.NoError(t, err)
	require.Equal(t, []string{"again"}, w.For)
	w, err = c.OpenGate(t.Context(), placement.Gate{Contracted: 3}, to, look(), closed)
	require.ErrorIs(t, err, placement.ErrGate)
	require.Empty(t, w.For)
}

func TestALookThatTakesLongKeepsNobodyFromBeingPlaced(t *testing.T) {
	t.Parallel()
	c := open(t, placement.Config{DSN: catalogDSN(t), Actor: "tester", Retry: 4 * time.Second})
	addClusters(t, c, aCluster("a"))
	acme := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema})
	require.NoError(t, c.Activate(t.Context(), acme.Tenant, 0))
	w, err := c.OpenGate(t.Context(), placement.Gate{}, to, 0, func(ctx context.Context) ([]string, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	require.NoError(t, err)
	require.Len(t, w.For, 1)
	require.Contains(t, w.For[0], "took longer than 2s")
	place(t, c, placement.Request{Slug: "next"})
	now, err := c.Gate(t.Context())
	require.NoError(t, err)
	require.Zero(t, now)
}

func TestGateOpensOnceForAllWhoTryAndNobodyBeginsMeanwhile(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, Actor: "tester"})
	var g errgroup.Group
	var old atomic.Int32 // instances of the old shape that were let in
	for i := range 4 {
		opener := open(t, placement.Config{DSN: dsn, Actor: "tester"})
		g.Go(func() error {
			for old.Load() < 20 {
				time.Sleep(time.Millisecond)
			}
			for {
				w, err := opener.OpenGate(t.Context(), placement.Gate{}, to, 0, closed)
				if err != nil || len(w.For) == 0 {
					return err
				}
			}
		})
		conn := connect(t, dsn)
		g.Go(func() error {
			for n := range 200 {
				id, err := beat(t, conn, fmt.Sprintf("%d-%d", i, n), 4)
				if pgerr.Is(err, pgerr.Outdated) {
					return nil
				}
				if err != nil {
					return err
				}
				old.Add(1)
				// While it is there, the gate is closed.
				var contracted int64
				if err := conn.QueryRow(t.Context(), `select contracted from landlord.gate`).Scan(&contracted); err != nil || contracted != 0 {
					return fmt.Errorf("open to %d while an old instance is alive: %w", contracted, err)
				}
				if _, err := conn.Exec(t.Context(), `select landlord.leave($1)`, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	now, err := c.Gate(t.Context())
	require.NoError(t, err)
	require.Equal(t, to, now)

	// Who is late finds it open, and never lowers it.
	w, err := c.OpenGate(t.Context(), placement.Gate{}, placement.Gate{Contracted: 3, Needs: 2}, 0, closed)
	require.NoError(t, err)
	require.Empty(t, w.For)
	require.NoError(t, c.RaiseGate(t.Context(), placement.Gate{Contracted: 4, Needs: 9}))
	now, err = c.Gate(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.Gate{Contracted: 6, Needs: 9}, now)
}

func TestGateWaitsForWhatIsNotCommittedYet(t *testing.T) {
	t.Parallel()
	for want, sql := range map[string]string{
		"again": `
select landlord.lock_placement();
insert into landlord.placement_log (actor, kind, cluster) values ('somebody', 'endpoint', 'a')`,
		"instance web": `select landlord.beat(gen_random_uuid(), 'web', 4)`,
	} {
		c, conn := gated(t)
		seen, err := c.LogEnd(t.Context())
		require.NoError(t, err)
		exec(t, conn, "begin;"+sql)
		done := make(chan placement.GateWaits, 1)
		var g errgroup.Group
		g.Go(func() error {
			w, err := c.OpenGate(t.Context(), placement.Gate{}, to, seen, closed)
			done <- w
			return err
		})
		select {
		case w := <-done:
			require.Fail(t, "it did not wait", "for %s: %v", want, w)
		case <-time.After(200 * time.Millisecond):
		}
		exec(t, conn, "commit")
		require.NoError(t, g.Wait())
		w := <-done
		require.Len(t, w.For, 1)
		require.Contains(t, w.For[0], want)
	}
}

func TestARunIsNotBegunWhileTheGateOpens(t *testing.T) {
	t.Parallel()
	c, conn := gated(t)
	exec(t, conn, "begin; update landlord.gate set contracted = 6")
	done := make(chan error, 1)
	go func() {
		_, _, err := c.BeginRun(t.Context(), placement.Run{Files: "x", Newest: 5, State: placement.RunRunning, Waves: 1}, nil)
		done <- err
	}()
	select {
	case err := <-done:
		require.Fail(t, "it did not wait", "%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	exec(t, conn, "commit")
	require.ErrorIs(t, <-done, placement.ErrGate)
}
