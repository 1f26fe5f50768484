package follow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
)

// users have a second unique key, whose values they pass on, and a long value that other changes do not tell. There are 600 at first.
const (
	users = `
create table users (
    tenant_id uuid not null default '` + tenant + `', id int not null, email text, body text, primary key (tenant_id, id), unique (tenant_id, email));
alter table users alter body set storage external`
	someUsers = `insert into users (id, email, body) select i, 'own' || i, repeat('b', 2500) from generate_series(1, 600) i`
)

// pass are random transactions, one after the other, that pass emails between users who lie in different chunks.
var pass = map[string]func(r *rand.Rand) []string{
	// As long as users exchange their emails, some email is in two chunks.
	"exchange": func(r *rand.Rand) []string {
		a, b := 1+r.IntN(600), 1+r.IntN(600)
		return []string{fmt.Sprintf(`
do $$ declare x text; y text; begin
  select email into strict x from users where id = %[1]d for update; select email into strict y from users where id = %[2]d for update;
  update users set email = null where id = %[1]d; update users set email = x where id = %[2]d; update users set email = y where id = %[1]d;
end $$`, a, b)}
	},
	// Few emails are away from their owners at any time, so few copies find one twice; but of those that a user has had for a while
	// many are somebody else's by the time that a later chunk is read.
	"lend": func(r *rand.Rand) []string {
		id, away := 1+r.IntN(600), 1000+r.IntN(1000)
		take := fmt.Sprintf(`update users set email = 'lent' || %d where id = %d`, r.IntN(2000), id)
		give := fmt.Sprintf(`update users set email = 'own' || %d where id = %d`, id, id)
		switch r.IntN(5) {
		case 0: // under another key
			return []string{
				fmt.Sprintf(`update users set id = %d where id = %d`, away, id), take,
				fmt.Sprintf(`update users set id = %d, email = 'own' || %d where id = %d`, id, id, away), give,
			}
		case 1: // gone, and back
			return []string{
				take, fmt.Sprintf(`delete from users where id = %d`, id),
				fmt.Sprintf(`insert into users (id, email, body) values (%d, 'own' || %d, repeat('c', 2500))`, id, id), give,
			}
		}
		return []string{take, give}
	},
}

// passOn has writers at work until it is stopped. Each transaction is told to did, if somebody listens.
func (w *world) passOn(t *testing.T, next func(*rand.Rand) []string, did chan<- struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range uint64(3) {
		conn := dial(t, w.sourceDSN)
		_, err := conn.Exec(t.Context(), "select set_config('search_path', quote_ident($1), false)", w.pairs[0].Source.Schema)
		require.NoError(t, err)
		writers.Go(func() {
			r := rand.New(rand.NewPCG(i, 1))
			for ctx.Err() == nil {
				for _, sql := range next(r) {
					// What collides with another writer is given up.
					if _, err := conn.Exec(t.Context(), sql); err != nil && !pgerr.Is(err, "23", "40", "P0002") {
						t.Errorf("%s: %v", sql, err)
						return
					}
					select {
					case did <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	return func() {
		cancel()
		writers.Wait()
	}
}

func TestUniqueValuesThatPassBetweenChunksAllTheTimeArrive(t *testing.T) {
	t.Parallel()
	for name, next := range pass {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, back=%t", name, back), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{back: back}, users, someUsers)
				if back {
					_, err := w.target.Exec(t.Context(), `insert into users (tenant_id, id, email) select $1, i, 'own' || i from generate_series(1, 50) i`, other)
					require.NoError(t, err)
				}
				did := make(chan struct{})
				stop := w.passOn(t, next, did)
				chunks := 0
				require.NoError(t, w.tryCopy(t.Context(), 50_000, func(chunk.Progress) {
					chunks++
					for range 100 { // that much happens between two chunks
						<-did
					}
				}))
				w.load(t)
				t.Logf("%d chunks were copied, %d stand", chunks, w.count(t, "landlord.move_chunk"))
				f := w.follow(t)
				w.sync(t, f)
				stop()
				w.sync(t, f)
				w.equal(t)
				if back {
					require.Equal(t, 50, w.count(t, `users where tenant_id = '`+other+`' and email = 'own' || id`))
				}
			})
		}
	}
}

// ahead copies users in chunks, and has the first one of them, whose chunk is read, take an email, and give it to the last one before
// that one's chunk is read.
func ahead(t *testing.T) *world {
	w := newWorld(t, options{}, users, someUsers)
	first := true
	require.NoError(t, w.tryCopy(t.Context(), 100_000, func(chunk.Progress) {
		if first {
			first = false
			w.exec(t, `update users set email = 'passed' where id = 1`)
			w.exec(t, `update users set email = 'else' where id = 1`)
			w.exec(t, `update users set email = 'passed' where id = 600`)
		}
	}))
	w.load(t)
	require.Greater(t, w.count(t, "landlord.move_chunk"), 2)
	require.Equal(t, 1, w.count(t, `"t_""x".users where email = 'passed' and id = 600`))
	require.Equal(t, 1, w.count(t, `"t_""x".users where email = 'own1' and id = 1`))
	return w
}

func TestRowInTheWayOfOneThatIsAheadComesBack(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 1000} {
		t.Run(fmt.Sprintf("batch=%d", batch), func(t *testing.T) {
			t.Parallel()
			w := ahead(t)
			w.config.Batch = batch
			f := w.follow(t)
			w.sync(t, f)
			w.equal(t)
		})
	}
	t.Run("only for one that is ahead", func(t *testing.T) {
		t.Parallel()
		w := ahead(t)
		w.config.Batch = 1
		w.config.Copied = level{w.config.Copied}
		f := w.follow(t)
		var conflict *follow.ConflictError
		require.ErrorAs(t, f.fails(t), &conflict)
	})
}

// level is a copy that denies that any row is ahead.
type level struct{ follow.Copied }

func (level) Ahead(table.Pair, uint64) bool { return false }

// TestAnotherTenantsRowIsNoneThatIsAhead has a row whose email another tenant has at the target, where the key is across tenants. The
// change is from the time of the copy, so that a row of the tenant's own could be ahead of it.
func TestAnotherTenantsRowIsNoneThatIsAhead(t *testing.T) {
	t.Parallel()
	const global = `
create table users (tenant_id uuid not null default '` + tenant + `', id int not null, email text, primary key (tenant_id, id), unique (email))`
	w := newWorld(t, options{back: true}, global, `insert into users (id, email) select i, 'own' || i from generate_series(1, 600) i`)
	_, err := w.target.Exec(t.Context(), `insert into users (tenant_id, id, email) values ($1, 1, 'theirs')`, other)
	require.NoError(t, err)
	first := true
	require.NoError(t, w.tryCopy(t.Context(), 100_000, func(chunk.Progress) {
		if first {
			first = false
			w.exec(t, `update users set email = 'theirs' where id = 1`)
		}
	}))
	w.load(t)
	f := w.follow(t)
	var conflict *follow.ConflictError
	require.ErrorAs(t, f.fails(t), &conflict)
	require.Equal(t, 1, w.count(t, `users where id = 1 and tenant_id = '`+tenant+`'`), "the row is still there")
}
