package chunk_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
)

const (
	withID = `
create table orders (tenant_id uuid not null default '` + tenant + `', id bigint generated always as identity, note text, loud text generated always as (upper(note)) stored,
    primary key (tenant_id, id));
create table settings (tenant_id uuid primary key, value jsonb)`
	withoutID = `
create table orders (id bigint generated always as identity primary key, note text, loud text generated always as (upper(note)) stored)`
)

func TestRowsGoFromEveryKindOfHomeToEveryOther(t *testing.T) {
	t.Parallel()
	// In a home without tenant_id, a table that is keyed by it alone has no place.
	orders, _, _ := strings.Cut(withID, ";")
	ends := map[string]end{
		"shared": {shared, orders}, "dedicated": {dedicated, orders}, "plain": {dedicated, withoutID},
	}
	for from, source := range ends {
		for to, target := range ends {
			for _, inside := range []bool{false, true} {
				if inside && source.Schema == target.Schema {
					continue
				}
				t.Run(fmt.Sprintf("%s to %s, in one database: %v", from, to, inside), func(t *testing.T) {
					t.Parallel()
					make := newRig
					if inside {
						make = newRigInside
					}
					r := make(t, source, target)
					r.Size, r.Workers = 5000, 2
					exec(t, r.source, fmt.Sprintf("insert into %s (note) select 'n' || i from generate_series(1, 200) i", r.Pairs[0].Source.SQL()))
					if from == "shared" {
						exec(t, r.source, "insert into public.orders (tenant_id, note) select $1, 'theirs' from generate_series(1, 20)", other)
					}
					if to == "shared" {
						exec(t, r.target, "insert into public.orders (tenant_id, note) select $1, 'theirs too' from generate_series(1, 7)", other)
						exec(t, r.target, "insert into public.orders (tenant_id, note) select $1, 'stale' from generate_series(1, 7)", tenant)
					} else {
						exec(t, r.target, "insert into t_home.orders (note) values ('from a migration')")
					}
					done, err := chunk.Copy(t.Context(), r.Config)
					require.NoError(t, err)
					assert.EqualValues(t, 200, done.Rows)
					assert.Positive(t, done.Bytes)
					r.sameRows(t)
					assert.Greater(t, r.chunks(t, "orders"), 3)
					if to == "shared" {
						assert.Equal(t, 7, one[int](t, r.target, "select count(*)::int from public.orders where note = 'theirs too' and tenant_id = $1", other))
						assert.Equal(t, 0, one[int](t, r.target, "select count(*)::int from public.orders where note = 'theirs'"))
					}
					again, err := chunk.Copy(t.Context(), r.Config)
					require.NoError(t, err, "nothing is left to do")
					assert.Equal(t, done, again)
				})
			}
		}
	}
}

func TestEmptyTenantAndOneRowAreOneChunk(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{shared, withID})
	exec(t, r.source, `insert into settings values ($1, '{"a": 1}'), ($2, '{"a": 2}')`, tenant, other)
	exec(t, r.source, `insert into orders (tenant_id) select $1 from generate_series(1, 9)`, other)
	done, err := chunk.Copy(t.Context(), r.Config)
	require.NoError(t, err)
	assert.EqualValues(t, 1, done.Rows)
	assert.Equal(t, []int{1, 1}, []int{r.chunks(t, "orders"), r.chunks(t, "settings")})
	assert.Equal(t, 1, one[int](t, r.target, `select count(*)::int from settings`))
	assert.Equal(t, 0, one[int](t, r.target, `select count(*)::int from orders`))

	copied, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
	require.NoError(t, err)
	seen, err := copied.Seen(t.Context(), r.Pairs[1], [][]string{{}}, []uint64{copied.Until() - 1})
	require.NoError(t, err)
	assert.Len(t, seen, 1)
}

// everything is a table of values that are easily spoilt on their way.
const everything = `
create type mood as enum ('sad', 'glad');
create type pair as (a int, b mood);
create domain positive as int check (value > 0);
create table things (
    tenant_id uuid default '` + tenant + `', id int generated always as identity, n numeric, f float8, s text, empty text, nothing text, b bytea,
    j json, jb jsonb, m mood, ms mood[], p pair, ps pair[], dom positive, words tsvector, rel regclass, ts timestamptz, d date, iv interval,
    mr int4multirange, txt text[], money money, x xml, bits bit varying, ip inet, big text, twice numeric generated always as (n * 2) stored,
    primary key (tenant_id, id));
insert into things (n, f, s, empty, nothing, b, j, jb, m, ms, p, ps, dom, words, rel, ts, d, iv, mr, txt, money, x, bits, ip, big) values
    (1.50, '-0', E'tab\tline\nback\\slash ''quote'' \\N', '', null, '\x00ff', '{"a":  1.50}', '{"b": null}', 'glad', '{sad,NULL}', '(1,sad)', '{"(2,glad)"}', 7,
     'a:1 b:2A', 'pg_class', 'infinity', '4713-01-01 BC', '-1 mon +2 days -00:00:00.000001', '{[1,3),[5,6)}', '{{a,"b c"},{NULL,"{}"}}', 12.34, '<a/>text',
     B'0101', '::1/64', repeat('ä', 100000)),
    ('NaN', 'NaN', 'ü€😀', '', null, '', 'null', '[]', null, '{}', null, '{}', null, null, null, '-infinity', 'infinity', null, '{}', '{}', null, null, '', null, null),
    ('123456789012345678901234567890.123456789', 0.1::float4, '', '', null, null, null, null, 'sad', null, '(,)', null, 1, '', 'pg_type', '2026-03-29 02:30:00.123456+01',
     '2026-02-28', '1 year', null, null, -0.01, null, null, '10.0.0.1', 'x')`

func TestValuesArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	tables, _, _ := strings.Cut(everything, "insert into")
	source, target := end{shared, everything}, end{dedicated, tables}
	for name, c := range map[string]struct {
		make func(testing.TB, end, end) *rig
		rate int64
	}{"between servers": {newRig, 0}, "in one database": {newRigInside, 0}, "by steps": {newRig, 8 << 20}, "in one database by steps": {newRigInside, 8 << 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.make(t, source, target)
			r.Rate = c.rate
			// Neither database writes money and xml down as the other sessions do: the copy's own settings count.
			for _, conn := range []*pgx.Conn{r.source, r.target} {
				name := pgx.Identifier{conn.Config().Database}.Sanitize()
				exec(t, conn, "alter database "+name+" set lc_monetary = 'C.utf8'")
				exec(t, conn, "alter database "+name+" set xmloption = document")
			}
			exec(t, r.target, `alter table t_home.things add check (current_setting('lc_monetary') = 'C')`)
			_, err := chunk.Copy(t.Context(), r.Config)
			require.NoError(t, err)
			list := func(conn *pgx.Conn, schema string) []string {
				rows, err := conn.Query(t.Context(), fmt.Sprintf(
					`select to_jsonb(t)::text from %s.things t order by id`, schema))
				require.NoError(t, err)
				texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				return texts
			}
			exec(t, r.source, "set search_path = public")
			exec(t, r.target, "set search_path = t_home")
			want := list(r.source, "public")
			require.Len(t, want, 3)
			assert.Equal(t, want, list(r.target, "t_home"))
			assert.Equal(t, "-0", one[string](t, r.target, `select f::text from t_home.things where id = 1`))
			assert.Equal(t, `{"a":  1.50}`, one[string](t, r.target, `select j::text from t_home.things where id = 1`))
		})
	}
}

func TestPartitionsAndInheritedTablesAreCopiedOnce(t *testing.T) {
	t.Parallel()
	const sql = `
create table parent (tenant_id uuid default '` + tenant + `', id int, primary key (tenant_id, id));
create table child (primary key (tenant_id, id)) inherits (parent);
create table parts (tenant_id uuid default '` + tenant + `', id int, primary key (tenant_id, id)) partition by range (id);
create table parts_1 partition of parts for values from (0) to (50);
create table parts_2 partition of parts for values from (50) to (1000)`
	r := newRig(t, end{shared, sql}, end{dedicated, sql})
	r.Size = 5000
	exec(t, r.source, "insert into parent (id) select generate_series(1, 10)")
	exec(t, r.source, "insert into child (id) select generate_series(5, 20)")
	exec(t, r.source, "insert into parts (id) select generate_series(1, 100)")
	done, err := chunk.Copy(t.Context(), r.Config)
	require.NoError(t, err)
	assert.EqualValues(t, 10+16+100, done.Rows)
	r.sameRows(t)
	assert.Greater(t, r.chunks(t, "parts"), 1)
}

func TestOneHugeRowPasses(t *testing.T) {
	t.Parallel()
	const sql = `create table files (tenant_id uuid default '` + tenant + `', id int, body bytea, primary key (tenant_id, id))`
	r := newRig(t, end{shared, sql}, end{dedicated, sql})
	exec(t, r.source, `insert into files (id, body) values (1, 'x'), (2, convert_to(repeat('0123456789', 5000000), 'UTF8')), (3, 'y')`)
	for _, rate := range []int64{0, 100 << 20} {
		r.Move, r.Rate = uuid.NewString(), rate
		done, err := chunk.Copy(t.Context(), r.Config)
		require.NoError(t, err)
		assert.Greater(t, done.Bytes, int64(50_000_000))
		assert.Equal(t, "50000000 2", one[string](t, r.target, `select length(body) || ' ' || id from t_home.files order by length(body) desc limit 1`))
		r.sameRows(t)
	}
}

func TestWhoIsFencedOffWritesNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"taken over": `update landlord.fence set owner = gen_random_uuid()`,
		"open":       `update landlord.fence set state = 'open'`,
		"gone":       `delete from landlord.fence`,
	} {
		for where, make := range map[string]func(testing.TB, end, end) *rig{"between servers": newRig, "in one database": newRigInside} {
			t.Run(name+" "+where, func(t *testing.T) {
				t.Parallel()
				r := make(t, end{shared, withID}, end{dedicated, withID})
				r.Size = 5000
				exec(t, r.source, "insert into public.orders (note) select 'n' || i from generate_series(1, 100) i")
				exec(t, r.target, "insert into t_home.orders (note) select 'old' from generate_series(1, 3) i")

				// Before it begins: not even what was there before is taken away.
				taken := r.Config
				taken.Fence.Owner = uuid.NewString()
				_, err := chunk.Copy(t.Context(), taken)
				require.ErrorIs(t, err, chunk.ErrFencedOff)
				assert.Equal(t, 3, one[int](t, r.target, `select count(*)::int from t_home.orders`))

				// In its middle: what was copied stays, and nothing is added.
				var at chunk.Progress
				r.Progress = func(p chunk.Progress) {
					if at.Rows == 0 {
						exec(t, r.target, change)
					}
					at = p
				}
				done, err := chunk.Copy(t.Context(), r.Config)
				require.ErrorIs(t, err, chunk.ErrFencedOff)
				assert.Equal(t, at, done)
				assert.EqualValues(t, done.Rows, one[int](t, r.target, `select count(*)::int from t_home.orders`))
				assert.Less(t, done.Rows, int64(100))
			})
		}
	}
}

func TestProgressRisesToTheWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	r.Size, r.Workers = 5000, 3
	exec(t, r.source, "insert into public.orders (note) select 'n' || i from generate_series(1, 100) i")
	var seen []chunk.Progress
	r.Progress = func(p chunk.Progress) { seen = append(seen, p) }
	done, err := chunk.Copy(t.Context(), r.Config)
	require.NoError(t, err)
	require.NotEmpty(t, seen)
	assert.IsNonDecreasing(t, rowsOf(seen))
	assert.Equal(t, done, seen[len(seen)-1])
	assert.EqualValues(t, 100, done.Rows)
}

func rowsOf(list []chunk.Progress) (rows []int64) {
	for _, p := range list {
		rows = append(rows, p.Rows)
	}
	return rows
}

func TestNothingToCopyIsNoError(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, ""}, end{shared, ""})
	done, err := chunk.Copy(t.Context(), r.Config)
	require.NoError(t, err)
	assert.Zero(t, done)
}

func TestCancelledCopySaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := chunk.Copy(ctx, r.Config)
	require.ErrorIs(t, err, context.Canceled)
}
