package fleet_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// ownStreet is a street of one cluster on a server of its own.
func ownStreet(t *testing.T, server *pglocal.Server) (*testhouse.House, []placement.Placement) {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, Own: server})
	return h, []placement.Placement{
		h.Add(t, "shared", placement.ModelShared, "a"), h.Add(t, "own", placement.ModelDatabase, "a"), h.Add(t, "schema", placement.ModelSchema, "a"),
	}
}

// takeLocks fills the server's table of locks.
func takeLocks(t *testing.T, h *testhouse.House) (release func()) {
	t.Helper()
	conn := h.Super(t, "postgres")
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	for i := 0; err == nil; i++ {
		_, err = tx.Exec(t.Context(), "savepoint mark; select pg_advisory_xact_lock(n) from generate_series("+strconv.Itoa(i*50)+","+strconv.Itoa(i*50+49)+") n",
			pgx.QueryExecModeSimpleProtocol)
	}
	require.True(t, pgerr.Is(err, pgerr.OutOfMemory), "%v", err)
	_, err = tx.Exec(t.Context(), "rollback to mark")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }
}

func TestAServerWithoutLocksLeftIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	h, all := ownStreet(t, server)
	h.SuperExec(t, "postgres", "alter system set max_locks_per_transaction = 10")
	h.SuperExec(t, "postgres", "alter system set max_connections = 30")
	require.NoError(t, server.Restart(t.Context()))

	greedy := `do $$ begin for i in 1..100 loop execute format('create table t_%s (tenant_id uuid, id int, primary key (tenant_id, id))', i); end loop; end $$;`
	f := newFleet(t, h, with(t, "00004_greedy.sql", addNote+greedy), func(c *fleet.Config) { c.Workers, c.Retry = 1, 300*time.Millisecond })
	release := takeLocks(t, h)
	var g errgroup.Group
	g.Go(func() error {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err == nil && s.Run.State != placement.RunDone {
			err = errors.New(s.Failures[0].Error)
		}
		return err
	})
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		return err == nil && s.Waiting > 0
	}, time.Minute, 20*time.Millisecond)
	s, err := f.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, s.LastErr, pgerr.OutOfMemory)
	release()
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, p.Home))
	}

	// A file that can never have as many as it wants fails, and is undone.
	s, err = newFleet(t, h, with(t, "00004_greedy.sql", addNote+greedy, "00005_too_much.sql", "alter table customers add column more text;"+
		`do $$ begin perform pg_advisory_xact_lock(n) from generate_series(1, 100000) n; end $$;`), func(c *fleet.Config) {
		c.Workers, c.Retry, c.Patience = 1, 100*time.Millisecond, 300*time.Millisecond
	}).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, pgerr.OutOfMemory, s.Failures[0].SQLState)
	for _, p := range all {
		require.False(t, has(t, h, p.Home, "more"))
	}
}

func TestAServerThatCrashesInTheMiddleIsComeBackTo(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	h, all := ownStreet(t, server)
	f := newFleet(t, h, with(t, "00004_note.sql", addNote+"select pg_sleep(1);",
		"00005_by_note.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently customers_by_note on customers (tenant_id, note);"))
	var g errgroup.Group
	g.Go(func() error {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err == nil {
			require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
		}
		return err
	})
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		return err == nil && s.Counts[placement.TargetLeased] == 2
	}, time.Minute, 20*time.Millisecond)
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, server.Kill(t.Context()))
	require.NoError(t, server.Restart(t.Context()))
	require.NoError(t, g.Wait())
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5}, versions(t, h, p.Home))
	}
}
