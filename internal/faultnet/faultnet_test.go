package faultnet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestBytesPassUnchangedUntilTheCut(t *testing.T) {
	t.Parallel()
	p, dsn := proxied(t)
	conn := connect(t, dsn)
	var n int
	// Larger than what is under way at once.
	require.NoError(t, conn.QueryRow(t.Context(), `select length($1)`, strings.Repeat("a", 8<<20)).Scan(&n))
	require.Equal(t, 8<<20, n)

	p.Cut()
	require.Error(t, conn.Ping(t.Context()))
	require.True(t, conn.IsClosed())
	_, err := pgx.Connect(t.Context(), dsn)
	require.Error(t, err)

	p.Restore()
	require.NoError(t, connect(t, dsn).Ping(t.Context()))
}

func TestABlackHoleHoldsEverythingAndLosesNothing(t *testing.T) {
	t.Parallel()
	p, dsn := proxied(t)
	conn := connect(t, dsn)

	p.Blackhole()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := pgx.Connect(ctx, dsn)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	answer := make(chan error, 1)
	go func() { answer <- conn.Ping(t.Context()) }()
	select {
	case err := <-answer:
		require.Fail(t, "an answer came through the black hole", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.Restore()
	require.NoError(t, <-answer)
}

func TestHeldRepliesLeaveTheClientInDoubtOfWorkThatWasDone(t *testing.T) {
	t.Parallel()
	p, dsn := proxied(t)
	direct := connect(t, dsn)
	_, err := direct.Exec(t.Context(), `create table t (a int)`)
	require.NoError(t, err)
	conn, watcher := connect(t, dsn), connect(t, p.direct)

	p.HoldReplies()
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `insert into t values (1)`)
		answer <- err
	}()
	require.Eventually(t, func() bool {
		var n int
		return watcher.QueryRow(t.Context(), `select count(*) from t`).Scan(&n) == nil && n == 1
	}, 10*time.Second, 5*time.Millisecond)
	p.Cut()
	require.Error(t, <-answer)
}

func TestADelayIsAddedInEachDirection(t *testing.T) {
	t.Parallel()
	p, dsn := proxied(t)
	conn := connect(t, dsn)

	p.Delay(60 * time.Millisecond)
	start := time.Now()
	require.NoError(t, conn.Ping(t.Context()))
	require.GreaterOrEqual(t, time.Since(start), 120*time.Millisecond) // a lower bound holds on any machine
}

func TestADeadServerLooksDeadThroughTheProxy(t *testing.T) {
	t.Parallel()
	p := faultnet.New(t, "127.0.0.1:1")
	dsn, err := p.Rewrite("postgres://u@127.0.0.1:1/db?sslmode=disable")
	require.NoError(t, err)
	_, err = pgx.Connect(t.Context(), dsn)
	require.Error(t, err)
}

type proxy struct {
	*faultnet.Proxy
	direct string
}

func proxied(t *testing.T) (proxy, string) {
	t.Helper()
	info := pgtest.Server(t)
	direct := pgtest.NewDatabase(t)
	p := faultnet.New(t, info.Addr())
	dsn, err := p.Rewrite(direct)
	require.NoError(t, err)
	return proxy{p, direct}, dsn
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
