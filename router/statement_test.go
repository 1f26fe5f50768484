package router_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestASchemaChangeUnderAPreparedStatementGoesUnseen(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, "create table notes (tenant_id uuid, id int, body int, primary key (tenant_id, id))")
	const q = "select * from notes"
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		read := map[string]func() error{
			"first of a transaction": func() error {
				return db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
					if _, err := tx.Exec(ctx, q); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, insertCustomer, "noted@example.com")
					require.NoError(t, err)
					_, err = tx.Exec(ctx, "delete from customers where email = 'noted@example.com'")
					return err
				})
			},
			"first of a batch": func() error {
				b := oneQuery(q)
				b.Queue("select 1")
				return db.SendBatch(t.Context(), b).Close()
			},
		}
		for way, try := range ways(db) {
			if way != "QueryRow" && way != "SendBatch" {
				read[way] = func() error { return try(t.Context(), q) }
			}
		}
		later := map[string]func() error{
			"second of a transaction": func() error {
				return db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
					_, err := tx.Exec(ctx, "select 1")
					require.NoError(t, err)
					_, err = tx.Exec(ctx, q)
					return err
				})
			},
			"second of a batch": func() error { return ways(db)["SendBatch"](t.Context(), q) },
		}
		warm := func(all map[string]func() error) {
			for way, do := range all {
				require.NoError(t, do(), way)
			}
		}
		i := 0
		alter := func() {
			i++
			n.ddlAt(t, p, fmt.Sprintf("alter table notes add column extra%d text default 'x', alter body type %s", i, []string{"text", "varchar"}[i%2]))
		}
		warm(read)
		warm(later)
		for way, do := range read {
			alter()
			require.NoError(t, do(), way)
		}
		// Where something ran before it, the caller hears of it, once: the next try prepares it anew.
		for way, do := range later {
			require.NoError(t, do(), way)
			alter()
			err := do()
			require.True(t, pgerr.Is(err, pgerr.FeatureNotSupported, pgerr.ProtocolViolation), "%s: %v", way, err)
			require.NoError(t, do(), way)
		}
		require.NotContains(t, emails(t, db), "noted@example.com")
		n.requireClean(t, r, p)
	})
}

func TestPreparedStatementsAreBounded(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		prepared := func() (count int) {
			require.NoError(t, db.QueryRow(t.Context(), "select count(*) from pg_prepared_statements").Scan(&count))
			return count
		}
		before := prepared()
		b := &pgx.Batch{}
		for i := range 700 { // more than the cache holds, in one packet
			b.Queue(fmt.Sprintf("select %d, email from customers", i))
		}
		require.NoError(t, db.SendBatch(t.Context(), b).Close())
		for i := range 100 {
			_, err := db.Exec(t.Context(), fmt.Sprintf("select %d, email from customers", 650+i))
			require.NoError(t, err)
		}
		_, err := db.Exec(t.Context(), "select 1 / 0")
		require.Error(t, err)
		require.LessOrEqual(t, prepared(), before+512)
		require.NoError(t, db.SendBatch(t.Context(), b).Close())
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			require.NoError(t, tx.SendBatch(ctx, b).Close())
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := tx.Exec(ctx, "select 'never sent'") // and so is not what should be forgotten
			require.ErrorIs(t, err, context.Canceled)
			return nil
		}))
		require.LessOrEqual(t, prepared(), before+512)
		n.requireClean(t, r, p)
	})
}

func TestOneTextMeansTheTablesOfEachSchema(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	here, next, shared := n.here[placement.ModelSchema], n.next(placement.ModelSchema), n.here[placement.ModelShared]
	n.ddlAt(t, here, "create table things (tenant_id uuid, id int primary key, what int)")
	n.ddlAt(t, next, "create table things (tenant_id uuid, id int primary key, what text, more text)")
	r := n.Router(t, one)
	_, err := r.Tenant(here.Tenant).Exec(t.Context(), "insert into things (id, what) values (1, 42)")
	require.NoError(t, err)
	_, err = r.Tenant(next.Tenant).Exec(t.Context(), "insert into things (id, what) values (1, 'text')")
	require.NoError(t, err)
	backend := pid(t, r.Tenant(here.Tenant))
	for range 3 {
		var number int
		require.NoError(t, r.Tenant(here.Tenant).QueryRow(t.Context(), "select what from things").Scan(&number))
		require.Equal(t, 42, number)
		var text string
		require.NoError(t, r.Tenant(next.Tenant).QueryRow(t.Context(), "select what from things").Scan(&text))
		require.Equal(t, "text", text)
		err := r.Tenant(shared.Tenant).QueryRow(t.Context(), "select what from things").Scan(&text)
		require.True(t, pgerr.Is(err, pgerr.UndefinedTable), "%v", err)
		for _, p := range []placement.Placement{here, next, shared} {
			require.Equal(t, []string{email(p)}, emails(t, r.Tenant(p.Tenant)))
			require.Equal(t, backend, pid(t, r.Tenant(p.Tenant)), "all on one connection")
		}
	}
	// A qualified name leads into another schema, and shows nothing there.
	var count int
	for _, p := range []placement.Placement{next, shared} {
		table := pgx.Identifier{p.Home.Schema, "customers"}.Sanitize()
		require.NoError(t, r.Tenant(here.Tenant).QueryRow(t.Context(), "select count(*) from "+table).Scan(&count))
		require.Zero(t, count)
		_, err := r.Tenant(here.Tenant).Exec(t.Context(), "insert into "+table+" (email, name) values ('x', 'x')")
		if p.Model == placement.ModelSchema {
			require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%v", err)
		}
	}
}

func TestACursorIsReadAsWhatItIsNow(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		for i, declared := range []string{"select 7::int4", "select 'text'", "select 1.5::float8", "select 1, 2", "select true"} {
			want := []any{int32(7), "text", 1.5, int32(1), true}[i]
			require.NoError(t, r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "declare c cursor for "+declared)
				require.NoError(t, err)
				rows, err := tx.Query(ctx, "fetch all from c")
				require.NoError(t, err)
				require.True(t, rows.Next())
				values, err := rows.Values()
				require.NoError(t, err)
				require.Equal(t, want, values[0], declared)
				rows.Close()
				return rows.Err()
			}), declared)
		}
	})
}

// What fails while it runs is not tried again: it may have done what no roll-back undoes.
func TestAStatementThatFailsWhileItRunsRunsOnce(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	for _, m := range models {
		p := n.here[m]
		n.SuperExec(t, p.Home.Database, `
create sequence if not exists public.runs; grant usage on sequence public.runs to public;
create or replace function public.fails(code text) returns int language plpgsql security definer as
$$ begin perform nextval('public.runs'); raise exception 'no' using errcode = code; end $$;
grant execute on function public.fails to public; grant usage on schema public to public`)
		super, db := n.Super(t, p.Home.Database), n.r.Tenant(p.Tenant)
		for _, code := range []string{"XX000", "26000", "0A000", "42703", "08P01"} {
			for range 3 { // known to the connection from the second time on
				var before, after int64
				require.NoError(t, super.QueryRow(t.Context(), "select nextval('public.runs')").Scan(&before))
				_, err := db.Exec(t.Context(), "select public.fails($1)", code)
				require.ErrorContains(t, err, code)
				require.NoError(t, super.QueryRow(t.Context(), "select nextval('public.runs')").Scan(&after))
				require.Equal(t, before+2, after, code)
			}
		}
	}
}
