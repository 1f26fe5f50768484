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

// What a copy that is held to a rate brings over does not depend on how the rows fall into its steps.
func TestStepsMakeNoDifference(t *testing.T) {
	t.Parallel()
	for form, column := range map[string]string{"binary": "", "text": ", price money default 1.5"} { // money has no binary form of its own
		sql := `
create table x (tenant_id uuid default '` + tenant + `', id int, a text, b bytea, c float8` + column + `, primary key (tenant_id, id))`
		for name, make := range map[string]func(testing.TB, end, end) *rig{"between servers": newRig, "in one database": newRigInside} {
			t.Run(form+" "+name, func(t *testing.T) {
				t.Parallel()
				r := make(t, end{shared, sql}, end{dedicated, sql})
				// Most rows are narrow; some are wider than a step, and they are the last ones.
				exec(t, r.source, `
insert into public.x (id, a, b, c)
select i, case i % 5 when 0 then null when 1 then '' when 2 then E'tab\t, line\n, return\r, back\\slash, \\N, \\.' else repeat('ä', i / 1900 * 5000) || i end,
       case i % 3 when 0 then null else decode(md5(i::text), 'hex') end, case i % 7 when 0 then 'NaN' when 1 then '-0' else i / 3.0 end
  from generate_series(1, 2000) i`)
				exec(t, r.source, `insert into public.x (tenant_id, id) values ($1, 1)`, other)
				exec(t, r.source, `vacuum analyze public.x`)
				r.Workers, r.Rate = 2, 4<<20
				done, err := chunk.Copy(t.Context(), r.Config)
				require.NoError(t, err)
				assert.EqualValues(t, 2000, done.Rows)
				r.sameRows(t)
				assert.Less(t, r.chunks(t, "x"), 5, "steps are no chunks")
			})
		}
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
