package chunk_test

import (
	"context"
	"fmt"
	command "os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/move/chunk"
)

// BenchmarkCopy copies one tenant's rows of a shared table into another database, with one worker and with two, and beside it has psql
// do the same: \copy in binary form, piped into another psql.
func BenchmarkCopy(b *testing.B) {
	const rows = 300_000
	const sql = `
create table orders (tenant_id uuid default '` + tenant + `', id bigint generated always as identity, customer uuid default gen_random_uuid(),
    status text default 'open', total numeric(12, 2) default 12.5, placed timestamptz default now(), note text default repeat('note ', 20),
    primary key (tenant_id, id))`
	r := newRig(b, end{shared, sql}, end{dedicated, sql})
	insert := fmt.Sprintf("insert into public.orders (tenant_id) select '%s' from generate_series(1, %d)", tenant, rows)
	_, err := r.source.Exec(b.Context(), insert)
	require.NoError(b, err)
	_, err = r.source.Exec(b.Context(), fmt.Sprintf("insert into public.orders (tenant_id) select '%s' from generate_series(1, %d)", other, rows))
	require.NoError(b, err)
	_, err = r.source.Exec(b.Context(), "vacuum analyze public.orders")
	require.NoError(b, err)
	empty := func(b *testing.B) {
		b.StopTimer()
		for _, q := range []string{"truncate t_home.orders", "delete from landlord.move_chunk", "checkpoint"} {
			_, err := r.target.Exec(b.Context(), q)
			require.NoError(b, err)
		}
		b.StartTimer()
	}
	report := func(b *testing.B) {
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	}

	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			cfg := r.Config
			cfg.Workers = workers
			for b.Loop() {
				empty(b)
				done, err := chunk.Copy(b.Context(), cfg)
				require.NoError(b, err)
				require.EqualValues(b, rows, done.Rows)
			}
			report(b)
		})
	}
	b.Run("psql", func(b *testing.B) {
		program, err := command.LookPath("psql")
		if err != nil {
			b.Skip(err)
		}
		psql := func(ctx context.Context, dsn, statement string) *command.Cmd {
			return command.CommandContext(ctx, program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", statement)
		}
		const columns = "tenant_id, id, customer, status, total, placed, note"
		for b.Loop() {
			empty(b)
			from := psql(b.Context(), r.sourceDSN, `\copy (select `+columns+` from public.orders where tenant_id = '`+tenant+`') to stdout (format binary)`)
			to := psql(b.Context(), r.targetDSN, `\copy t_home.orders (`+columns+`) from stdin (format binary)`)
			pipe, err := from.StdoutPipe()
			require.NoError(b, err)
			to.Stdin = pipe
			require.NoError(b, from.Start())
			require.NoError(b, to.Run())
			require.NoError(b, from.Wait())
		}
		report(b)
	})
}
