package follow_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkApply applies a backlog of small transactions to a table of 100,000 rows: half updates, a quarter each of inserts
// and deletes, by as many changes in each transaction as the name says.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 20} {
		b.Run(fmt.Sprintf("changes-per-transaction=%d", size), func(b *testing.B) {
			const backlog = 60_000
			var took time.Duration
			var changes int64
			for b.Loop() {
				d, n := applyBacklog(b, backlog, size)
				took, changes = took+d, changes+n
			}
			b.ReportMetric(float64(changes)/took.Seconds(), "changes/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func applyBacklog(b *testing.B, backlog, size int) (time.Duration, int64) {
	const rows = 100_000
	w := newWorld(b, options{}, `
create table items (tenant_id uuid not null default '`+tenant+`', id bigint, name text, price numeric(12, 2), at timestamptz default now(),
    note text, primary key (tenant_id, id));
create index on items (tenant_id, name)`, fmt.Sprintf(`
insert into items (id, name, price, note) select g, 'name ' || g, g / 7.0, repeat('n', 100) from generate_series(1, %d) g`, rows))
	w.copy(b, 0)
	w.exec(b, `create procedure work(backlog int, size int, existing int) language plpgsql as $$
begin
  for i in 1 .. backlog loop
    case i % 4
      when 0 then insert into public.items (id, name, price, note) values (existing + i, 'new ' || i, i / 3.0, repeat('o', 100));
      when 1 then delete from public.items where tenant_id = '`+tenant+`' and id = (i * 7) % existing;
      else update public.items set price = price + 1, note = repeat('p', 100) where tenant_id = '`+tenant+`' and id = 1 + (i * 13) % existing;
    end case;
    if i % size = 0 then commit; end if;
  end loop;
end $$`)
	w.exec(b, fmt.Sprintf(`call work(%d, %d, %d)`, backlog, size, rows))
	w.config.Copied = nil
	begin := time.Now()
	f := w.follow(b)
	w.sync(b, f)
	took := time.Since(begin)
	changes := f.Stats().Changes
	f.end(b)
	w.equal(b)
	require.Greater(b, changes, int64(backlog*9/10))
	return took, changes
}
