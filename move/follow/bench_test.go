package follow_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pairs/race"
	"github.com/landlord-go/landlord/internal/pgtest"
)

// Of the backlog that each round applies: half are updates, a quarter each inserts and deletes. There are rows enough for all rounds.
const (
	backlog      = 60_000
	rounds, warm = 5, 1
	atFirst      = 2 * (rounds + warm) * backlog / 4
)

// BenchmarkApply applies a backlog of small transactions to a table of 180,000 rows, by as many changes in each transaction as the name
// says, and by turns has a subscription of PostgreSQL's own apply the same to a table of a third database.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 20} {
		b.Run(fmt.Sprintf("changes-per-transaction=%d", size), func(b *testing.B) {
			r := newRivals(b, size)
			race.Run(b, pairs.Config{Rounds: rounds, WarmUp: warm}, backlog, "changes",
				pairs.Way{Name: "subscription", Before: r.ready(b, 0), Do: r.subscribe},
				pairs.Way{Name: "landlord", Against: "subscription", Before: r.ready(b, 1), Do: func(context.Context) error { return r.apply(b) }},
			)
			require.NoError(b, r.rest())
			r.equal(b)
			columns, home := "id, name, price, at, note", r.pairs[0].Source
			require.Equal(b, rows(b, r.source, columns, home, home.Whose(tenant)), rows(b, r.peer, columns, home, "true"))
		})
	}
}

// rivals are a source with backlogs, and two targets that lack them.
type rivals struct {
	*world
	size    int
	peer    *pgx.Conn
	made    int          // backlogs at the source
	applied [2]int       // of these, by the subscription and by landlord
	rest    func() error // ends what ran last
}

func newRivals(b *testing.B, size int) *rivals {
	b.Helper()
	const items = `
create table items (tenant_id uuid not null default '` + tenant + `', id bigint, name text, price numeric(12, 2),
    at timestamptz default '2026-01-01', note text, primary key (tenant_id, id));
create index on items (tenant_id, name)`
	fill := fmt.Sprintf(`
insert into items (id, name, price, note) select g, 'name ' || g, g / 7.0, repeat('n', 100) from generate_series(1, %d) g;
analyze items`, atFirst)
	r := &rivals{world: newWorld(b, options{}, items, fill), size: size, peer: dial(b, pgtest.NewDatabase(b)), rest: func() error { return nil }}
	r.copy(b, 0)
	r.config.Copied = nil
	slot := "peer_" + strings.ReplaceAll(uuid.NewString()[:8], "-", "")
	r.exec(b, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	ctx := context.WithoutCancel(b.Context())
	for _, q := range []string{items, fill, fmt.Sprintf(`
create subscription peer connection '%s' publication pub with (create_slot = false, copy_data = false, enabled = false, slot_name = %s)`,
		r.sourceDSN, slot)} {
		_, err := r.peer.Exec(ctx, q)
		require.NoError(b, err)
	}
	b.Cleanup(func() { // the database cannot be dropped before
		_, err := r.peer.Exec(ctx, "alter subscription peer disable; alter subscription peer set (slot_name = none); drop subscription peer")
		require.NoError(b, err)
	})
	r.exec(b, `create procedure work(made int, backlog int, size int, existing int) language plpgsql as $$
declare n int;
begin
  for i in 1 .. backlog loop
    n := made * backlog + i;
    case i % 4
      when 0 then insert into public.items (id, name, price, note) values (existing + n, 'new ' || n, n / 3.0, repeat('o', 100));
      when 1 then delete from public.items where tenant_id = '`+tenant+`' and id = 1 + n / 4;
      else update public.items set price = price + 1, note = repeat('p', 100)
            where tenant_id = '`+tenant+`' and id = existing - (n::bigint * 13) % (existing / 2);
    end case;
    if i % size = 0 then commit; end if;
  end loop;
end $$`)
	return r
}

// ready makes the next backlog, unless there is one that the rival has not applied.
func (r *rivals) ready(b *testing.B, rival int) func(context.Context) error {
	return func(context.Context) error {
		if err := r.rest(); err != nil {
			return err
		}
		if r.applied[rival] == r.made {
			r.exec(b, fmt.Sprintf(`call work(%d, %d, %d, %d)`, r.made, backlog, r.size, atFirst))
			r.made++
		}
		r.applied[rival]++
		return nil
	}
}

// apply has landlord apply a backlog.
func (r *rivals) apply(b *testing.B) error {
	f := r.follow(b)
	r.sync(b, f)
	r.rest = func() error {
		f.end(b)
		r.rest = func() error { return nil }
		return nil
	}
	if n := f.Stats().Changes; n != backlog {
		return fmt.Errorf("%d changes of %d were applied", n, backlog)
	}
	return nil
}

// subscribe has PostgreSQL apply a backlog: its last change is an insert.
func (r *rivals) subscribe(ctx context.Context) error {
	r.rest = func() error {
		if _, err := r.peer.Exec(ctx, "alter subscription peer disable"); err != nil {
			return err
		}
		return until(ctx, r.peer, `select not exists (select from pg_stat_subscription where subname = 'peer' and pid is not null)`)
	}
	if _, err := r.peer.Exec(ctx, "alter subscription peer enable"); err != nil {
		return err
	}
	const q = `select exists (select from items where tenant_id = '` + tenant + `' and id = $1)`
	return until(ctx, r.peer, q, atFirst+r.applied[0]*backlog)
}

// until waits for a query to say true.
func until(ctx context.Context, conn *pgx.Conn, q string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for there := false; !there; time.Sleep(5 * time.Millisecond) {
		if err := conn.QueryRow(ctx, q, args...).Scan(&there); err != nil {
			return err
		}
	}
	return nil
}
