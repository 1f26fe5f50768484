package verify_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	command "os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pairs/race"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/move/verify"
)

// BenchmarkCompare compares one tenant's orders, half of a shared table, with those of a home of its own, and by turns does it as one
// would by hand: a psql at each home writes the rows in the order of their keys, and what both write is hashed.
func BenchmarkCompare(b *testing.B) {
	const rows, rounds = 300_000, 9
	const orders = `
create table orders (tenant_id bigint, id bigint, customer uuid, status text default 'open', total numeric(12, 2) default 12.5,
    placed timestamptz default '2026-01-01', note text default repeat('note ', 20), primary key (tenant_id, id));
insert into orders (tenant_id, id, customer) select %s, i, md5(i::text)::uuid from generate_series(1, %d) i`
	source := newHome(b, false, fmt.Sprintf(orders, "1 + i % 2", 2*rows)+"; analyze")
	target := newHome(b, true, fmt.Sprintf(orders, "1", 2*rows)+"; delete from orders where id % 2 = 1; analyze")
	for _, h := range []home{source, target} {
		h.exec(b, "vacuum orders")
	}
	pairsOf, problems := table.Match(source.tables(b), target.tables(b), "1")
	require.Empty(b, problems)
	program, err := command.LookPath("psql")
	if err != nil {
		b.Skip(err)
	}

	race.Run(b, pairs.Config{Rounds: rounds, WarmUp: 1}, rows, "rows",
		pairs.Way{Name: "psql", Do: func(ctx context.Context) error {
			const statement = `\copy (select id, customer, status, total, placed, note from orders where tenant_id = 1 order by tenant_id, id) to stdout`
			var sums [2]hash.Hash
			var all [2]*command.Cmd
			for i, h := range []home{source, target} {
				sums[i] = sha256.New()
				all[i] = command.CommandContext(ctx, program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", h.dsn, "-c", statement)
				all[i].Stdout = sums[i]
				if err := all[i].Start(); err != nil {
					return err
				}
			}
			if err := errors.Join(all[0].Wait(), all[1].Wait()); err != nil {
				return err
			}
			if string(sums[0].Sum(nil)) != string(sums[1].Sum(nil)) {
				return errors.New("the homes differ")
			}
			return nil
		}},
		pairs.Way{Name: "landlord", Against: "psql", Do: func(ctx context.Context) error {
			before, after := source.snapshot(b), target.snapshot(b)
			r, err := verify.Compare(ctx, before, after, pairsOf, verify.Options{})
			err = errors.Join(err, before.Close(ctx), after.Close(ctx))
			if err == nil && r.Rows != rows {
				err = fmt.Errorf("%d rows were compared", r.Rows)
			}
			return errors.Join(err, r.Err())
		}},
	)
}
