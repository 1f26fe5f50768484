package chunk_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
)

func TestCopyIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	const rate = 256 << 10
	for name, make := range map[string]func(testing.TB, end, end) *rig{"between servers": newRig, "in one database": newRigInside} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := make(t, end{shared, withID}, end{dedicated, withID})
			exec(t, r.source, `insert into public.orders (tenant_id, note) select $1, repeat('n', 1000) from generate_series(1, 400)`, tenant)
			exec(t, r.source, `vacuum analyze public.orders`) // which tells how wide a row is
			r.Workers, r.Rate = 3, rate
			began := time.Now()
			done, err := chunk.Copy(t.Context(), r.Config)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, time.Since(began).Seconds(), 0.9*float64(done.Bytes)/rate, "but for what goes before the first pause")
			assert.Greater(t, done.Bytes, int64(400*1000))
			assert.Greater(t, r.chunks(t, "orders"), 2, "none takes longer than a moment")
			r.sameRows(t)
		})
	}
}

// A pause that would take minutes is over as soon as there is nothing to wait for.
func TestPauseOfACopyEndsWithIt(t *testing.T) {
	t.Parallel()
	const rate = 1 << 10
	const bytes = 2_000_000 // half an hour's worth
	const patience = 2 * time.Minute
	const copying = ` from pg_stat_activity where datname = current_database() and query like 'copy % from stdin%' and state = 'active'`
	for name, stop := range map[string]func(*testing.T, *rig, context.CancelFunc){
		"the context": func(_ *testing.T, _ *rig, cancel context.CancelFunc) { cancel() },
		"the target": func(t *testing.T, r *rig, _ context.CancelFunc) {
			t.Helper()
			exec(t, r.target, "select pg_terminate_backend(pid)"+copying)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, end{shared, withID}, end{dedicated, withID})
			exec(t, r.source, `insert into public.orders (tenant_id, note) values ($1, $2)`, tenant, strings.Repeat("n", bytes))
			r.Rate = rate
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := chunk.Copy(ctx, r.Config)
				ended <- err
			}()
			require.Eventually(t, func() bool {
				return one[bool](t, r.target, "select exists (select"+copying+")")
			}, patience, 20*time.Millisecond)
			stop(t, r, cancel)
			select {
			case err := <-ended:
				require.Error(t, err)
			case <-time.After(patience):
				require.Fail(t, "the copy waits on")
			}
		})
	}
}
