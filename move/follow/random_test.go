package follow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/follow"
)

// zoo has a column of everything that is awkward, and a table whose key is text and whose rows fill many chunks.
const zoo = `
create type mood as enum ('sad', 'so so', 'glad');
create table things (
    tenant_id uuid not null default '` + tenant + `', id bigint not null, name text, body text, n numeric, f float8, xs int[], m mood, ms mood[],
    j jsonb, b bytea, at timestamptz, span interval, number int generated always as identity, twice numeric generated always as (n * 2) stored,
    "odd ""name" varchar(20), primary key (tenant_id, id), unique (tenant_id, name));
alter table things alter body set storage external;
create table words (tenant_id uuid not null default '` + tenant + `', word text, body text, n int, primary key (tenant_id, word));
alter table words alter body set storage external`

// act is one random change.
func act(r *rand.Rand) string {
	id, to, word := r.IntN(40), r.IntN(40), fmt.Sprint("w", r.IntN(3000))
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	body := pick("null", "''", "repeat('b', 5000)", "repeat('"+fmt.Sprint(id)+"', 3000)")
	value := map[string]string{
		"name": pick("null", fmt.Sprintf("'n%d'", to)), "body": body, "n": pick("null", "1.5", "1.50", "'nan'", "-0.00", "1e30"),
		"f": pick("null", "'-0'", "0", "'infinity'", "1e-300", "0.1"), "xs": pick("null", "'{}'", "'{1,null}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'"),
		"m": pick("null", "'sad'", "'so so'"), "ms": pick("null", `'{sad,"so so",null}'`), "j": pick("null", `'{"a": [1, null]}'`, "'null'"),
		"b": pick("null", `'\x'`, `'\x00ff'`), "at": pick("null", "now()", "'infinity'", "'0044-03-15 BC'"),
		"span": pick("null", "'1 mon -2 days 03:00:00.5'"), `"odd ""name"`: pick("null", `E'\\ '' " {} , \n'`),
	}
	column := pick("name", "body", "n", "f", "xs", "m", "ms", "j", "b", "at", "span", `"odd ""name"`)
	switch r.IntN(10) {
	case 0, 1:
		return fmt.Sprintf("insert into things (id, %s, body) values (%d, %s, %s) on conflict do nothing", `"odd ""name"`, id, value[`"odd ""name"`], body)
	case 2:
		return fmt.Sprintf("delete from things where id = %d", id)
	case 3:
		return fmt.Sprintf("update things set id = %d where id = %d", to, id)
	case 4:
		return fmt.Sprintf("update things set number = default where id = %d", id)
	case 5:
		return fmt.Sprintf("insert into words (word, body, n) values ('%s', %s, %d) on conflict (tenant_id, word) do update set n = words.n + 1", word, body, id)
	case 6:
		return fmt.Sprintf("update words set word = 'x' || word where word in ('%s', 'x%s')", word, word)
	case 7:
		return fmt.Sprintf("delete from words where word = '%s'", word)
	default:
		return fmt.Sprintf("update things set %s = %s where id = %d", column, value[column], id)
	}
}

// work writes 300 transactions at random, an end being needed: with batches as small as the test's, and rows that are in each other's
// way, writers that go on are faster than the follower. What collides with another writer is given up.
func work(ctx context.Context, t *testing.T, w *world, schema string, seed uint64) {
	conn, err := connector(w.sourceDSN)(ctx)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, _ = conn.Exec(ctx, "select set_config('search_path', quote_ident($1), false)", schema)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		sql := "begin"
		for range 1 + r.IntN(4) {
			sql += "; " + act(r)
		}
		_, err := conn.Exec(ctx, sql+"; commit")
		if ctx.Err() == nil && err != nil {
			if !pgerr.Is(err, "23", "40", pgerr.FeatureNotSupported) {
				t.Errorf("%s: %v", sql, err)
				return
			}
			_, _ = conn.Exec(ctx, "rollback")
		}
	}
}

func TestRandomWorkArrivesWhateverIsKilled(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back=%t", back), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			w := newWorld(t, options{back: back}, zoo, `
insert into things (id, name, body) select g, 'n' || g, repeat('b', 5000) from generate_series(0, 20) g;
insert into words (word, body, n) select 'w' || g, repeat('c', 3000), g from generate_series(1, 2000) g`)
			w.config.Batch = 50
			var writers sync.WaitGroup
			for i := range uint64(3) {
				writers.Go(func() { work(t.Context(), t, w, w.pairs[0].Source.Schema, seed+i) })
			}
			w.copy(t, 1<<20)
			r := rand.New(rand.NewPCG(seed, 2))
			f := w.follow(t)
			killer := dial(t, w.targetDSN)
			for range 6 {
				w.sync(t, f)
				var err error
				switch r.IntN(4) {
				case 0: // the process dies
					f.end(t)
					f = w.follow(t)
				case 1: // its session at the target
					_, err = killer.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and application_name = 'landlord move'`)
				case 2: // the walsender
					_, err = killer.Exec(t.Context(), `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active`, w.slot)
				default:
				}
				require.NoError(t, err)
			}
			writers.Wait()
			w.sync(t, f)
			w.equal(t)
		})
	}
}

func TestChangesThatTheCopyHasBroughtAreLeftOut(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) *world {
		w := newWorld(t, options{}, notes, `insert into notes (id, name) values (1, 'a'), (2, 'b')`)
		w.config.Batch = 1
		w.exec(t, `update notes set name = 'c' where id = 1`)
		w.exec(t, `update notes set name = 'd' where id = 1`)
		w.exec(t, `update notes set name = 'c' where id = 2`)
		w.copy(t, 0)
		return w
	}
	t.Run("with the rule", func(t *testing.T) {
		t.Parallel()
		w := begin(t)
		f := w.follow(t)
		w.sync(t, f)
		w.equal(t)
	})
	t.Run("without it", func(t *testing.T) {
		t.Parallel()
		w := begin(t)
		w.config.Copied = nil
		f := w.follow(t)
		var conflict *follow.ConflictError
		require.ErrorAs(t, f.fails(t), &conflict)
	})
}
