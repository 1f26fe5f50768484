package migrate_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/migrate"
)

func TestHealthIsJudgedByTheWorstSign(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lag     time.Duration
		wal     int64
		behind  int64
		waiting int
		tended  bool
		want    migrate.Advice
		why     string
	}{
		{want: migrate.Go},
		{lag: 4 * time.Second, wal: 1 << 29, behind: 1 << 29, waiting: 2, want: migrate.Go},
		{lag: 5 * time.Second, want: migrate.Slow, why: "a standby lags behind by 5s"},
		{lag: 30 * time.Second, want: migrate.Stop, why: "a standby lags behind by 30s"},
		{wal: 1 << 30, want: migrate.Slow, why: "a replication slot holds back 1024 MB of WAL"},
		{wal: 8 << 30, waiting: 3, want: migrate.Stop, why: "a replication slot holds back 8192 MB of WAL"},
		{behind: 1 << 30, want: migrate.Slow, why: "a standby has 1024 MB of WAL to replay"},
		{lag: 6 * time.Second, behind: 8 << 30, want: migrate.Stop, why: "a standby has 8192 MB of WAL to replay"},
		{waiting: 3, want: migrate.Slow, why: "3 sessions wait for locks"},
		{lag: 6 * time.Second, waiting: 20, want: migrate.Stop, why: "20 sessions wait for locks"},
		{tended: true, want: migrate.Slow, why: "the table is being vacuumed or the like"},
	} {
		advice, why := migrate.Health{}.Judge(c.lag, c.wal, c.behind, c.waiting, c.tended)
		require.Equal(t, c.want, advice, "%+v", c)
		require.Equal(t, c.why, why)
	}
	advice, _ := migrate.Health{LagStop: -1, LagSlow: -1, WALStop: -1, WALSlow: -1, WaitingStop: -1, WaitingSlow: -1}.Judge(time.Hour, 1<<40, 1<<40, 99, false)
	require.Equal(t, migrate.Go, advice)
	advice, _ = migrate.Health{WALSlow: 10, WALStop: 20}.Judge(0, 15, 0, 0, false)
	require.Equal(t, migrate.Slow, advice)
}

// The migrator is no superuser: what it may see has to be enough.
func TestHealthIsSeenByTheMigrator(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	m, _ := shapes["partitions"].prepare(t, conn)
	super := superuser(t, conn)
	b := open(t, m, conn, 1, small)
	calm := migrate.Health{WALSlow: -1, WALStop: -1} // the tests' server is not ours alone
	look := func(h migrate.Health) (migrate.Advice, string) {
		advice, why, err := b.Health(t.Context(), h)
		require.NoError(t, err)
		return advice, why
	}
	advice, why := look(calm)
	require.Equal(t, migrate.Go, advice, why)

	// Somebody tends a partition.
	_, err := super.Exec(t.Context(), "begin; lock table t_1 in share update exclusive mode")
	require.NoError(t, err)
	advice, why = look(calm)
	require.Equal(t, migrate.Slow, advice, why)
	require.Contains(t, why, "vacuumed")
	_, err = super.Exec(t.Context(), "rollback")
	require.NoError(t, err)

	// Two wait for a row.
	_, err = super.Exec(t.Context(), "begin; update t set n = n")
	require.NoError(t, err)
	waited := make(chan error)
	for range 2 {
		waiter := superuser(t, conn)
		go func() {
			_, err := waiter.Exec(context.WithoutCancel(t.Context()), "update t set n = n")
			waited <- err
		}()
	}
	crowded := calm
	crowded.WaitingSlow, crowded.WaitingStop = 1, 2
	require.Eventually(t, func() bool { advice, why = look(crowded); return advice == migrate.Stop }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, "2 sessions wait for locks", why)
	_, err = super.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.NoError(t, <-waited)
	require.NoError(t, <-waited)
	advice, _ = look(crowded)
	require.Equal(t, migrate.Go, advice)

	// A slot that nobody reads.
	_, err = super.Exec(t.Context(), "select pg_create_physical_replication_slot('landlord_test_health', true)")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = super.Exec(context.WithoutCancel(t.Context()), "select pg_drop_replication_slot('landlord_test_health')")
	})
	_, err = super.Exec(t.Context(), "select pg_logical_emit_message(true, 'test', repeat('x', 3000000))")
	require.NoError(t, err)
	held := calm
	held.WALSlow, held.WALStop = 1<<21, 1<<50
	advice, why = look(held)
	require.Equal(t, migrate.Slow, advice)
	require.Contains(t, why, "of WAL")

	_, _, err = finish(t.Context(), b)
	require.NoError(t, err)
	advice, _ = look(crowded)
	require.Equal(t, migrate.Go, advice)
}
