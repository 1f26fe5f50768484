package chunk_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
)

var errCut = errors.New("the process is dead")

// cut lets budget bytes through all connections together; then all of them are closed, at whatever point of the protocol. It is what
// the servers see of a process that is killed.
func cut(dsn string, budget *atomic.Int64) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, network, addr)
			return &limited{conn, budget}, err
		}
		return pgx.ConnectConfig(ctx, cfg)
	}
}

type limited struct {
	net.Conn
	budget *atomic.Int64
}

func (l *limited) Write(b []byte) (int, error) {
	if l.budget.Add(-int64(len(b))) < 0 {
		l.Close()
		return 0, errCut
	}
	return l.Conn.Write(b)
}

func (l *limited) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if l.budget.Load() < 0 {
		l.Close()
		return 0, errCut
	}
	return n, err
}

func TestCopyThatIsKilledAnywhereGoesOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(testing.TB, end, end) *rig
		rate int64
	}{"between servers": {newRig, 0}, "in one database": {newRigInside, 0}, "by steps": {newRig, 1 << 30}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.make(t, end{shared, withID}, end{dedicated, withID})
			r.Size, r.Workers, r.Rate = 5000, 3, c.rate
			exec(t, r.source, "insert into public.orders (note) select repeat('n', 50) || i from generate_series(1, 150) i")
			exec(t, r.source, "insert into public.settings values ($1, '{}')", tenant)
			budget := new(atomic.Int64)
			r.Source, r.Target = cut(r.sourceDSN, budget), cut(r.targetDSN, budget)
			// A budget that is a little greater each time ends the copy at ever other points. What one attempt has brought, the next
			// one finds.
			var deaths int
			var before int64
			for allowed := int64(1000); ; allowed += 150 {
				budget.Store(allowed)
				done, err := chunk.Copy(t.Context(), r.Config)
				if err == nil {
					assert.EqualValues(t, 151, done.Rows)
					break
				}
				deaths++
				require.Less(t, deaths, 1000)
				// In one statement: the server may be committing what the dead had sent.
				state := one[[]int64](t, r.target, `select array[(select coalesce(sum(rows), 0)::bigint from landlord.move_chunk),
					(select count(*) from t_home.orders) + (select count(*) from t_home.settings)]`)
				rows := state[0]
				require.GreaterOrEqual(t, rows, before)
				require.Equal(t, rows, state[1], "what is in the ledger is there, and nothing else")
				before = rows
			}
			assert.Greater(t, deaths, 10)
			r.sameRows(t)
			_, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
			require.NoError(t, err)
		})
	}
}

func TestCopyGoesOnAfterEveryChunk(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	r.Size = 5000
	exec(t, r.source, "insert into orders (note) select 'n' || i from generate_series(1, 100) i")
	attempts := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		r.Progress = func(chunk.Progress) { cancel() }
		_, err := chunk.Copy(ctx, r.Config)
		cancel()
		attempts++
		require.Less(t, attempts, 100)
		_, loadErr := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
		if err == nil {
			require.NoError(t, loadErr)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Greater(t, attempts, 3)
	r.sameRows(t)
}

func TestIncompleteCopyAnswersNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	r.Size, r.Workers = 5000, 1
	exec(t, r.source, "insert into orders (note) select 'n' || i from generate_series(1, 100) i")
	_, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
	require.ErrorContains(t, err, "table orders is not copied yet")
	_, err = chunk.Copy(t.Context(), r.Config)
	require.NoError(t, err)
	last := r.chunks(t, "orders") - 1
	require.Greater(t, last, 5)
	// A hole in the middle, another of several chunks, and then the end: as a process leaves it whose other workers were slower.
	for _, n := range [][]int{{2}, {3, 4}, {last}} {
		exec(t, r.target, `
with gone as (delete from landlord.move_chunk where source_table = 'orders' and n = any($1) returning lo, hi)
delete from t_home.orders o using gone where o.id > lo[1]::bigint and (hi is null or o.id <= hi[1]::bigint)`, n)
		_, err = chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
		require.ErrorContains(t, err, "table orders is not copied yet")
		_, err = chunk.Copy(t.Context(), r.Config)
		require.NoError(t, err)
		r.sameRows(t)
		_, err = chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
		require.NoError(t, err)
	}
}

func TestLastChunkOfTheDeadIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	exec(t, r.source, "insert into orders (note) select 'n' || i from generate_series(1, 10) i")
	// A copy that has sent its last word, and died before it had the answer.
	dead, err := connect(t, r.targetDSN).Begin(t.Context())
	require.NoError(t, err)
	for _, q := range []string{
		`select from landlord.fence for share`,
		`insert into t_home.orders (id, note) overriding system value select i, 'n' || i from generate_series(1, 10) i`,
		`insert into landlord.move_chunk (move, source_table, n, snapshot, rows, bytes) values ('` + r.Move + `', 'orders', 0, '1:1:', 10, 100)`,
	} {
		_, err := dead.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	finished := make(chan error, 1)
	go func() {
		_, err := chunk.Copy(t.Context(), r.Config)
		finished <- err
	}()
	require.Eventually(t, func() bool {
		return one[bool](t, r.target, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`)
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, dead.Commit(t.Context()))
	require.NoError(t, <-finished)
	r.sameRows(t)
	require.Equal(t, 1, r.chunks(t, "orders"))
}
