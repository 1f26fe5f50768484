package chunk_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/table"
)

// keyTypes are tables by the keys they have, and SQL that makes the key's values from the number i.
var keyTypes = map[string]struct{ columns, key, values string }{
	"int":        {"a int", "a", "i - 100"},
	"bigint":     {"a bigint", "a", "i::bigint * 1000000000000"},
	"uuid":       {"a uuid", "a", "md5(i::text)::uuid"},
	"text":       {"a text", "a", "case i % 5 when 0 then 'B' when 1 then 'a''\\' when 2 then 'ä' when 3 then '' else '_' end || i"},
	"bytes":      {`a text collate "C"`, "a", "case i % 5 when 0 then 'B' when 1 then 'a''\\' when 2 then 'ä' when 3 then '' else '_' end || i"},
	"collated":   {`a varchar(20) collate "und-x-icu"`, "a", "case i % 4 when 0 then 'B' when 1 then 'a-' when 2 then 'Ä' else 'b' end || i"},
	"time":       {"a timestamptz", "a", "timestamptz '2026-03-29 00:00+00' + i * interval '1 second 1 microsecond'"},
	"composite":  {"a text, b int, c uuid", "a, b, c", "(i % 3)::text, i % 7 - 3, md5(i::text)::uuid"},
	"composed":   {`a text collate "C", b int`, "a, b", "(i % 3)::text, i"},
	"numeric":    {"a numeric(10, 2)", "a", "i * 1.25"},
	"enum":       {"a letter, b int", "a, b", "(enum_range(null::letter))[i % 2 + 1], i"},
	"bytea":      {"a bytea", "a", "decode(md5(i::text), 'hex')"},
	"domain":     {"a whole", "a", "i"},
	"double":     {"a float8", "a", "i / 3.0::float8"},
	"fixed text": {"a char(8)", "a", "i::text"},
}

func TestKeysOfEveryKindAreDividedAndFoundAgain(t *testing.T) {
	t.Parallel()
	for name, k := range keyTypes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sql := fmt.Sprintf(`
create type letter as enum ('z', 'a'); create domain whole as int;
create table x (tenant_id uuid default '%s', %s, filler text default repeat('x', 100), primary key (tenant_id, %s))`, tenant, k.columns, k.key)
			r := newRig(t, end{shared, sql}, end{shared, sql})
			r.Size, r.Workers = 10_000, 3
			for _, who := range []string{tenant, other} {
				exec(t, r.source, fmt.Sprintf(`insert into x (tenant_id, %s) select '%s', %s from generate_series(1, 200) i`, k.key, who, k.values))
			}
			_, err := chunk.Copy(t.Context(), r.Config)
			require.NoError(t, err)
			r.sameRows(t)
			chunks := r.chunks(t, "x")
			require.Greater(t, chunks, 4)

			// Let only the third chunk have seen transaction 5: the keys that it has seen are those that lie there.
			exec(t, r.target, `update landlord.move_chunk set snapshot = case when n = 2 then '10:10:' else '5:10:5,7' end::pg_snapshot`)
			copied, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
			require.NoError(t, err)
			assert.EqualValues(t, 10, copied.Until())
			assert.Equal(t, []bool{true, false}, []bool{copied.Ahead(r.Pairs[0], 5), copied.Ahead(r.Pairs[0], 10)})
			lo, hi := one[[]string](t, r.target, `select lo from landlord.move_chunk where n = 2`), one[[]string](t, r.target, `select hi from landlord.move_chunk where n = 2`)
			p := r.Pairs[0]
			rows, err := r.source.Query(t.Context(), fmt.Sprintf(
				`select array[%s], (%s) > (%s) and (%s) <= (%s) from x where tenant_id = '%s'`,
				strings.ReplaceAll(k.key, ",", "::text,")+"::text", k.key, row(p, lo), k.key, row(p, hi), tenant))
			require.NoError(t, err)
			var keys [][]string
			var want []bool
			var key []string
			var in bool
			_, err = pgx.ForEachRow(rows, []any{&key, &in}, func() error {
				keys, want = append(keys, key), append(want, in)
				return nil
			})
			require.NoError(t, err)
			require.Len(t, keys, 200)
			require.Contains(t, want, true)
			seen, err := copied.Seen(t.Context(), p, keys, slices.Repeat([]uint64{5}, len(keys)))
			require.NoError(t, err)
			assert.Equal(t, want, seen)
			xids := make([]uint64, len(keys)) // each of its own transaction
			for i := range xids {
				xids[i] = 4 + uint64(i%3)
				want[i] = want[i] || xids[i] != 5
			}
			seen, err = copied.Seen(t.Context(), p, keys, xids)
			require.NoError(t, err)
			assert.Equal(t, want, seen)
			copied.Close(t.Context())

			for xid, all := range map[uint64]bool{4: true, 6: true, 8: true, 10: false, 1 << 40: false} {
				seen, err := copied.Seen(t.Context(), p, keys, slices.Repeat([]uint64{xid}, len(keys)))
				require.NoError(t, err)
				assert.NotContains(t, seen, !all, "transaction %d", xid)
			}
			copied.Close(t.Context())
		})
	}
}

func row(p table.Pair, values []string) string {
	terms := make([]string, len(values))
	for i, v := range values {
		c, _ := p.Source.Column(p.SourceKey[i])
		terms[i] = table.Literal(v) + "::" + c.Cast
	}
	return strings.Join(terms, ", ")
}

// TestEveryChangeIsEitherCopiedOrFollowed has writers at work while rows are copied in tiny chunks, and then plays what they did
// again, but for what the copy is said to have seen. Each change must find exactly what it found when it was made.
func TestEveryChangeIsEitherCopiedOrFollowed(t *testing.T) {
	t.Parallel()
	const sql = `
create table x (tenant_id uuid default '` + tenant + `', id int, v int not null, primary key (tenant_id, id))`
	const log = `
create table log (n bigint generated always as identity, xid xid8 default pg_current_xact_id(), op text, id int, v int);
comment on table log is 'landlord: global';
create function note() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' and (tg_op = 'DELETE' or new.id <> old.id) then insert into public.log (op, id) values ('delete', old.id); end if;
    if tg_op = 'UPDATE' and new.id = old.id then insert into public.log (op, id, v) values ('update', new.id, new.v);
    elsif tg_op <> 'DELETE' then insert into public.log (op, id, v) values ('insert', new.id, new.v); end if;
    return null;
end $$;
create trigger note after insert or update or delete on x for each row execute function note()`
	for name, make := range map[string]func(testing.TB, end, end) *rig{"between servers": newRig, "in one database": newRigInside} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := make(t, end{shared, sql}, end{dedicated, sql})
			exec(t, r.source, `insert into public.x (id, v) select i, 0 from generate_series(1, 2000) i`)
			exec(t, r.source, "set search_path = public;"+log)
			r.Size, r.Workers = 10_000, 2 // 20 rows of unknown width

			stop := r.write(t, 4)
			r.Since = one[uint64](t, r.source, `select pg_snapshot_xmax(pg_current_snapshot())::text::numeric`)
			// Who began before the stream did may go on: the copy waits for them, and what they wrote is in all chunks.
			_, err := chunk.Copy(t.Context(), r.Config)
			require.NoError(t, err)
			stop()
			require.Greater(t, r.chunks(t, "x"), 50)

			copied, err := chunk.Load(t.Context(), r.target, r.Move, r.Pairs, r.Source)
			require.NoError(t, err)
			type change struct {
				XID uint64
				Op  string
				ID  int
				V   *int
			}
			rows, err := r.source.Query(t.Context(), `select xid::text::numeric::bigint, op, id, v from public.log where xid >= $1::text::xid8 order by n`, strconv.FormatUint(r.Since, 10))
			require.NoError(t, err)
			changes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
			require.NoError(t, err)
			var skipped, applied int
			for _, c := range changes {
				seen, err := copied.Seen(t.Context(), r.Pairs[0], [][]string{{strconv.Itoa(c.ID)}}, []uint64{c.XID})
				require.NoError(t, err)
				if seen[0] {
					skipped++
					continue
				}
				applied++
				var n int64
				switch c.Op {
				case "insert":
					tag, err := r.target.Exec(t.Context(), `insert into t_home.x (id, v) values ($1, $2)`, c.ID, c.V)
					require.NoError(t, err)
					n = tag.RowsAffected()
				case "update":
					tag, err := r.target.Exec(t.Context(), `update t_home.x set v = $2 where id = $1 and v < $2`, c.ID, c.V)
					require.NoError(t, err)
					n = tag.RowsAffected()
				case "delete":
					tag, err := r.target.Exec(t.Context(), `delete from t_home.x where id = $1`, c.ID)
					require.NoError(t, err)
					n = tag.RowsAffected()
				}
				require.EqualValues(t, 1, n, "%+v finds what it found", c)
			}
			assert.Positive(t, skipped)
			assert.Positive(t, applied)
			r.sameRows(t)
		})
	}
}

// write starts writers that change rows of x until they are stopped. v only rises.
func (r *rig) write(t *testing.T, writers int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	begun := make(chan struct{}, writers)
	for w := range writers {
		conn := connect(t, r.sourceDSN)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 0; ctx.Err() == nil; i++ {
				if i == 5 {
					begun <- struct{}{}
				}
				id, into := random.IntN(3000), random.IntN(3000)
				_ = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error { // some collide, and leave no trace
					for _, q := range []string{
						`update public.x set v = v + 1 where id = $1`,
						`update public.x set id = $2, v = v + 1 where id = $1`,
						`delete from public.x where id = $1`,
						`insert into public.x (id, v) values ($1, $2)`,
					}[random.IntN(4):] {
						args := []any{id, into}
						if !strings.Contains(q, "$2") {
							args = args[:1]
						}
						if _, err := tx.Exec(t.Context(), q, args...); err != nil {
							return err
						}
						if random.IntN(2) == 0 {
							break
						}
					}
					return nil
				})
			}
		})
	}
	for range writers {
		<-begun
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// queries counts statements that begin with a text.
type queries struct {
	text string
	met  chan struct{}
}

func (q queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, q.text) {
		select {
		case q.met <- struct{}{}:
		default:
		}
	}
	return ctx
}

func (queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestWhatBeganBeforeTheStreamIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, end{shared, withID}, end{dedicated, withID})
	tx, err := connect(t, r.sourceDSN).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `insert into public.orders (note) values ('early')`)
	require.NoError(t, err)
	r.Since = one[uint64](t, tx.Conn(), `select pg_current_xact_id()::text::numeric + 1`)
	looked := queries{"select pg_current_snapshot()", make(chan struct{})}
	r.Source = func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(r.sourceDSN)
		if err != nil {
			return nil, err
		}
		cfg.Tracer = looked
		return pgx.ConnectConfig(ctx, cfg)
	}
	finished := make(chan error, 1)
	go func() {
		_, err := chunk.Copy(t.Context(), r.Config)
		finished <- err
	}()
	for range 3 { // it looks again and again
		select {
		case <-looked.met:
		case err := <-finished:
			t.Fatalf("it did not wait: %v", err)
		}
	}
	assert.Equal(t, 0, r.chunks(t, "orders"))
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-finished)
	r.sameRows(t)
	assert.Equal(t, 1, one[int](t, r.target, `select count(*)::int from t_home.orders`))
}
