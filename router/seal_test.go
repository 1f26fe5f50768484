package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// What is timed of each kind of isolation. Each sends as few packets as the router does, so that what is left between them is
// the work of the isolation itself.
const (
	oneStatement    = "transaction of 1"
	threeStatements = "transaction of 3"
	openStatement   = "statement in an open transaction"
)

// guarded is a kind of isolation over the same rows, and the same query in it.
type guarded struct {
	name  string
	one   func(context.Context) error // the query as a transaction of its own, in one packet
	three func(context.Context) error // three of it in a transaction, in four
	inTx  func(context.Context, func(query func(context.Context) error) error) error
}

const (
	unguarded = "where tenant_id = $1, no row-level security"
	handmade  = "row-level security with current_setting"
)

// What each kind of isolation costs, for a transaction and for a statement. The figures are printed, not judged: a test does not
// know what else its machine does.
func TestWhatTheSealCosts(t *testing.T) { //nolint:paralleltest // it measures
	tenants, each := scale(4, 200), scale(10, 500)
	kinds := handmadeIsolation(t, tenants, each)
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.Sealed, isolation.SealedMAC} {
		kinds = append(kinds, landlordMode(t, mode, tenants, each))
	}

	var ways []pairs.Way
	for _, what := range []string{oneStatement, threeStatements} {
		for _, k := range kinds {
			do := k.one
			if what == threeStatements {
				do = k.three
			}
			ways = append(ways, way(what, k.name, do))
		}
	}
	// Every kind holds a transaction open while all are timed.
	var open func(kinds []guarded) error
	var results []pairs.Result
	open = func(left []guarded) (err error) {
		if len(left) == 0 {
			cfg := pairs.Config{
				For: time.Duration(scale(0, 60)) * time.Second, Rounds: scale(2, 100), WarmUp: scale(1, 5), Block: scale(2, 10),
			}
			results, err = pairs.Run(t.Context(), cfg, ways...)
			return err
		}
		return left[0].inTx(t.Context(), func(query func(context.Context) error) error {
			ways = append(ways, way(openStatement, left[0].name, query))
			return open(left[1:])
		})
	}
	require.NoError(t, open(kinds))
	require.Len(t, results, 3*len(kinds))
	t.Logf("PostgreSQL %d, %d rows of %d tenants\n%s", pgtest.Server(t).Version, tenants*each, tenants, sealTable(results))
}

func way(what, kind string, do func(context.Context) error) pairs.Way {
	w := pairs.Way{Name: what + " | " + kind, Do: do}
	if kind != unguarded {
		w.Against = what + " | " + unguarded
	}
	return w
}

// sealTable shows how results compare with the query that nothing guards, and with isolation made by hand.
func sealTable(results []pairs.Result) string {
	medians := make(map[string]time.Duration)
	for _, r := range results {
		medians[r.Name] = r.Median
	}
	var b strings.Builder
	b.WriteString("| what | isolation | median | p99 | to none | of single rounds | more than none | to current_setting |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range results {
		what, _, _ := strings.Cut(r.Name, " | ")
		fmt.Fprintf(&b, "| %s | %.1f µs | %.1f µs |", r.Name, us(r.Median), us(r.P99))
		if r.Against == "" {
			b.WriteString(" | | | |\n")
			continue
		}
		fmt.Fprintf(&b, " **%.2f** | %.2f to %.2f | %.1f µs | %.2f |\n", r.Ratio, r.Low, r.High, us(r.Median-medians[r.Against]),
			float64(r.Median)/float64(medians[what+" | "+handmade]))
	}
	return b.String()
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// fillCustomers writes rows of $1 and of $2 other tenants, $3 of each.
const fillCustomers = `
insert into %s (tenant_id, email, name)
select t.id, 'customer' || n || '@example.com', t.id::text
  from (select $1::uuid union all select gen_random_uuid() from generate_series(1, $2)) t (id), generate_series(1, $3) n`

const wantedEmail = "customer7@example.com"

// handmadeIsolation is what applications do by themselves: a filter in each query, or row-level security that reads a setting.
func handmadeIsolation(t *testing.T, tenants, each int) []guarded {
	t.Helper()
	dsn := pgtest.NewDatabase(t)
	super, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	id, role := uuid.NewString(), "handmade_"+strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		_, err := super.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		require.NoError(t, err)
		require.NoError(t, super.Close(context.Background()))
	})
	_, err = super.Exec(t.Context(), "create role "+role+" login password 'handmade'")
	require.NoError(t, err)
	for _, table := range []string{"open_customers", "fenced_customers"} {
		_, err := super.Exec(t.Context(), fmt.Sprintf(`
create table %[1]s (tenant_id uuid not null, id bigint generated always as identity, email text not null, name text not null,
    created_at timestamptz not null default now(), primary key (tenant_id, id), unique (tenant_id, email));
grant select on %[1]s to %[2]s`, table, role))
		require.NoError(t, err)
		_, err = super.Exec(t.Context(), fmt.Sprintf(fillCustomers, table), id, tenants-1, each)
		require.NoError(t, err)
	}
	_, err = super.Exec(t.Context(), `
alter table fenced_customers enable row level security;
alter table fenced_customers force row level security;
create policy own on fenced_customers using (tenant_id = (select current_setting('app.tenant')::uuid))`)
	require.NoError(t, err)
	_, err = super.Exec(t.Context(), "vacuum analyze")
	require.NoError(t, err)

	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.User, cfg.Password = role, "handmade"
	byHand := func(name, sql string, args []any, prepare func(*pgx.Batch)) guarded {
		connect := func() *pgx.Conn {
			conn, err := pgx.ConnectConfig(t.Context(), cfg)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return conn
		}
		conn, busy := connect(), connect()
		query := func(on *pgx.Conn) func(context.Context) error {
			return func(ctx context.Context) error { return single(id)(on.Query(ctx, sql, args...)) }
		}
		first := func(ctx context.Context, on *pgx.Conn, begin bool) error {
			b := &pgx.Batch{}
			if begin {
				b.Queue("begin")
			}
			prepare(b)
			b.Queue(sql, args...)
			return last(on.SendBatch(ctx, b), b.Len(), id)
		}
		g := guarded{
			name: name,
			one:  func(ctx context.Context) error { return first(ctx, conn, false) },
			three: func(ctx context.Context) error {
				if err := errors.Join(first(ctx, conn, true), query(conn)(ctx), query(conn)(ctx)); err != nil {
					return err
				}
				_, err := conn.Exec(ctx, "commit")
				return err
			},
			inTx: func(ctx context.Context, fn func(func(context.Context) error) error) error {
				if err := first(ctx, busy, true); err != nil {
					return err
				}
				return fn(query(busy))
			},
		}
		if name == unguarded {
			g.one = query(conn)
		}
		return g
	}
	return []guarded{
		byHand(unguarded, "select name from open_customers where tenant_id = $1 and email = $2", []any{id, wantedEmail}, func(*pgx.Batch) {}),
		byHand(handmade, "select name from fenced_customers where email = $1", []any{wantedEmail}, func(b *pgx.Batch) {
			b.Queue("select set_config('app.tenant', $1, true)", id)
		}),
	}
}

// landlordMode is a shared home of a house of this mode, with the same rows.
func landlordMode(t *testing.T, mode isolation.Mode, tenants, each int) guarded {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{Mode: mode, Clusters: []string{"a"}})
	p := h.Add(t, "timed", placement.ModelShared, "a")
	super := h.Super(t, p.Home.Database)
	_, err := super.Exec(t.Context(), fmt.Sprintf(fillCustomers, "customers"), p.Tenant.String(), tenants-1, each)
	require.NoError(t, err)
	_, err = super.Exec(t.Context(), "vacuum analyze customers")
	require.NoError(t, err)
	db := h.Router(t).Tenant(p.Tenant)
	query := func(ctx context.Context, on interface {
		Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	},
	) error {
		return single(p.Tenant.String())(on.Query(ctx, "select name from customers where email = $1", wantedEmail))
	}
	return guarded{
		name: "landlord " + string(mode),
		one:  func(ctx context.Context) error { return query(ctx, db) },
		three: func(ctx context.Context) error {
			return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				return errors.Join(query(ctx, tx), query(ctx, tx), query(ctx, tx))
			})
		},
		inTx: func(ctx context.Context, fn func(func(context.Context) error) error) error {
			return db.Tx(ctx, func(_ context.Context, tx *router.Tx) error {
				return fn(func(ctx context.Context) error { return query(ctx, tx) })
			})
		},
	}
}

// single reads the one row that the query finds, which must be of tenant id.
func single(id string) func(pgx.Rows, error) error {
	return func(rows pgx.Rows, err error) error {
		if err != nil {
			return err
		}
		name, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		if err == nil && name != id {
			err = fmt.Errorf("a row of tenant %s", name)
		}
		return err
	}
}

// last reads the answer to the last of n statements of a batch.
func last(results pgx.BatchResults, n int, id string) error {
	for range n - 1 {
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
	}
	return errors.Join(single(id)(results.Query()), results.Close())
}
