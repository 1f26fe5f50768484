package chunk_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
)

// users has a second unique key, whose values rows may pass on.
const users = `
create table users (tenant_id uuid not null default '` + tenant + `', id int, email text, primary key (tenant_id, id), unique (tenant_id, email))`

// ways are between servers and within one, to a home of its own and to one where others live.
var ways = map[string]struct {
	make           func(testing.TB, end, end) *rig
	source, target end
}{
	"between servers":                  {newRig, end{shared, users}, end{dedicated, users}},
	"between servers, to a shared one": {newRig, end{dedicated, users}, end{shared, users}},
	"in one database":                  {newRigInside, end{shared, users}, end{dedicated, users}},
	"in one database, to a shared one": {newRigInside, end{dedicated, users}, end{shared, users}},
}

// swapped makes a rig whose first row passes its email on to the last one, and takes its email, as soon as a chunk is copied.
func swapped(t *testing.T, name string) *rig {
	t.Helper()
	w := ways[name]
	r := w.make(t, w.source, w.target)
	r.Size = 5000
	source, target := r.Pairs[0].Source, r.Pairs[0].Target
	exec(t, r.source, fmt.Sprintf("insert into %s (id, email) select i, 'u' || i from generate_series(1, 100) i", source.SQL()))
	if target.Schema == shared.Schema {
		exec(t, r.target, "insert into public.users (tenant_id, id, email) select $1, i, 'u' || i from generate_series(1, 100) i", other)
	}
	done := false
	r.Progress = func(chunk.Progress) {
		if done {
			return
		}
		done = true
		for _, set := range []string{"null where id = 1", "'u1' where id = 100", "'u100' where id = 1"} {
			exec(t, r.source, fmt.Sprintf("update %s set email = %s and tenant_id = '%s'", source.SQL(), set, tenant))
		}
	}
	return r
}

// others asserts that the rows of the other tenant are as swapped has made them.
func (r *rig) others(t *testing.T) {
	t.Helper()
	if r.Pairs[0].Target.Schema == shared.Schema {
		assert.Equal(t, 100, one[int](t, r.target, "select count(*)::int from public.users where tenant_id = $1 and email = 'u' || id", other))
	}
}

func TestTableWhoseValuesPassBetweenChunksIsBegunAnew(t *testing.T) {
	t.Parallel()
	for name := range ways {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, by %d", name, workers), func(t *testing.T) {
				t.Parallel()
				r := swapped(t, name)
				r.Workers = workers
				done, err := chunk.Copy(t.Context(), r.Config)
				require.NoError(t, err)
				assert.EqualValues(t, 100, done.Rows, "what was copied twice counts once")
				r.sameRows(t)
				r.others(t)
				if workers == 1 { // several may have read all chunks before the values passed
					assert.Equal(t, 1, r.chunks(t, "users"))
				}
				_, err = chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
				require.NoError(t, err)
				again, err := chunk.Copy(t.Context(), r.Config)
				require.NoError(t, err)
				assert.Equal(t, done.Rows, again.Rows)
			})
		}
	}
}

func TestTableBegunAnewSurvivesItsCopier(t *testing.T) {
	t.Parallel()
	for name := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := swapped(t, name)
			r.Workers = 2
			budget := new(atomic.Int64)
			r.Source, r.Target = cut(r.sourceDSN, budget), cut(r.targetDSN, budget)
			target := r.Pairs[0].Target
			for allowed := int64(2000); ; allowed += 400 {
				budget.Store(allowed)
				_, err := chunk.Copy(t.Context(), r.Config)
				if err == nil {
					break
				}
				require.Less(t, allowed, int64(1e6))
				// In one statement: the server may be committing what the dead had sent.
				state := one[[]int64](t, r.target, fmt.Sprintf(`select array[(select coalesce(sum(rows), 0)::bigint from landlord.move_chunk),
					(select count(*) from %s where %s)]`, target.SQL(), target.Whose(tenant)))
				require.Equal(t, state[0], state[1], "what is in the ledger is there, and nothing else")
			}
			r.sameRows(t)
			r.others(t)
			_, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
			require.NoError(t, err)
		})
	}
}

func TestAnotherTenantsRowInTheWayIsNamed(t *testing.T) {
	t.Parallel()
	const sql = `
create table users (tenant_id uuid not null default '` + tenant + `', id int, email text, primary key (tenant_id, id));
create unique index users_email on users (email)`
	for size, many := range map[int64]bool{5000: true, 1 << 20: false} {
		for name, make := range map[string]func(testing.TB, end, end) *rig{"between servers": newRig, "in one database": newRigInside} {
			t.Run(fmt.Sprintf("%s, in many chunks: %v", name, many), func(t *testing.T) {
				t.Parallel()
				r := make(t, end{dedicated, sql}, end{shared, sql})
				r.Size = size
				exec(t, r.source, "insert into t_home.users (id, email) select i, 'u' || i from generate_series(1, 50) i")
				exec(t, r.target, "insert into public.users (tenant_id, id, email) values ($1, 1, 'u35')", other)
				_, err := chunk.Copy(t.Context(), r.Config)
				var conflict *chunk.ConflictError
				require.ErrorAs(t, err, &conflict)
				assert.Equal(t, []string{"users", "users_email"}, []string{conflict.Table, conflict.Constraint})
				assert.NotContains(t, err.Error(), "u35", "rows are nobody's business")
				assert.Equal(t, 1, one[int](t, r.target, "select count(*)::int from public.users where tenant_id = $1 and email = 'u35'", other))

				exec(t, r.target, "delete from public.users where tenant_id = $1", other)
				done, err := chunk.Copy(t.Context(), r.Config)
				require.NoError(t, err, "it goes on when the row is gone")
				assert.EqualValues(t, 50, done.Rows)
				r.sameRows(t)
			})
		}
	}
}
