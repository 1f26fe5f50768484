package chunk_test

import (
	"context"
	"errors"
	"fmt"
	command "os/exec"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pairs/race"
	"github.com/landlord-go/landlord/move/chunk"
)

// BenchmarkCopy copies one tenant's rows of a shared table into another database, with one worker, two and four, and by turns has
// psql do the same: \copy in binary form, piped into another psql.
func BenchmarkCopy(b *testing.B) {
	const rows, rounds = 300_000, 9
	const sql = `
create table orders (tenant_id uuid default '` + tenant + `', id bigint generated always as identity, customer uuid default gen_random_uuid(),
    status text default 'open', total numeric(12, 2) default 12.5, placed timestamptz default now(), note text default repeat('note ', 20),
    primary key (tenant_id, id))`
	r := newRig(b, end{shared, sql}, end{dedicated, sql})
	for _, id := range []string{tenant, other} {
		exec(b, r.source, fmt.Sprintf("insert into public.orders (tenant_id) select '%s' from generate_series(1, %d)", id, rows))
	}
	exec(b, r.source, "vacuum analyze public.orders")
	exec(b, r.source, "checkpoint")
	empty := func(ctx context.Context) error {
		_, err := r.target.Exec(ctx, "truncate t_home.orders, landlord.move_chunk; checkpoint")
		return err
	}
	program, err := command.LookPath("psql")
	if err != nil {
		b.Skip(err)
	}

	ways := []pairs.Way{{Name: "psql", Before: empty, Do: func(ctx context.Context) error { return r.psql(ctx, program) }}}
	for _, workers := range []int{1, 2, 4} {
		ways = append(ways, pairs.Way{
			Name: fmt.Sprintf("workers=%d", workers), Against: "psql", Before: empty,
			Do: func(ctx context.Context) error {
				cfg := r.Config
				cfg.Workers, cfg.Move = workers, uuid.NewString()
				done, err := chunk.Copy(ctx, cfg)
				if err == nil && done.Rows != rows {
					err = fmt.Errorf("%d rows were copied", done.Rows)
				}
				return err
			},
		})
	}
	race.Run(b, pairs.Config{Rounds: rounds, WarmUp: 1}, rows, "rows", ways...)
	require.Equal(b, rows, one[int](b, r.target, "select count(*)::int from t_home.orders"), "by whatever came last")
}

// psql copies the tenant's orders.
func (r *rig) psql(ctx context.Context, program string) error {
	run := func(dsn, statement string) *command.Cmd {
		return command.CommandContext(ctx, program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", statement)
	}
	const columns = "tenant_id, id, customer, status, total, placed, note"
	from := run(r.sourceDSN, `\copy (select `+columns+` from public.orders where tenant_id = '`+tenant+`') to stdout (format binary)`)
	to := run(r.targetDSN, `\copy t_home.orders (`+columns+`) from stdin (format binary)`)
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	return errors.Join(to.Run(), from.Wait())
}
