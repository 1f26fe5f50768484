package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// TestTenantsAreApart runs random programs of tenants of every model in a house of every mode, on few connections.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.Sealed, isolation.SealedMAC} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, mode)
			for n := range scale(1, 60) {
				seed := seed + uint64(n)
				t.Logf("seed %d", seed)
				s.asIfAlone(t, seed)
				s.whateverOthersDo(t, seed)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// street is a house with two tenants of each model. Half of them are looked at, and the rest live beside them.
type street struct {
	watched, beside []resident
}

type resident struct {
	model placement.Model
	db    *router.DB
	alone *pgx.Conn // a database that has the same tables, and nobody else in it; nil of those beside
}

func newStreet(t *testing.T, mode isolation.Mode) *street {
	t.Helper()
	h := testhouse.New(t, testhouse.Options{Mode: mode, Clusters: []string{"a"}, Migrations: os.DirFS(booksDir)})
	r := h.Router(t, func(cfg *router.Config) {
		cfg.Pools.MaxConns, cfg.Pools.AcquireTimeout = 4, 5*time.Minute // far fewer than tenants at work: everybody meets what others have left
	})
	s := &street{}
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		p := h.Add(t, "watched-"+string(m), m, "a")
		s.watched = append(s.watched, resident{model: m, db: r.Tenant(p.Tenant), alone: privateDatabase(t, p.Tenant.String())})
		s.beside = append(s.beside, resident{model: m, db: r.Tenant(h.Add(t, "beside-"+string(m), m, "a").Tenant)})
	}
	return s
}

const booksDir = "testdata/programs"

// privateDatabase connects to a database with the programs' tables in it, in which every row is of the tenant without asking.
func privateDatabase(t *testing.T, id string) *pgx.Conn {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(booksDir, "00001_books.sql"))
	require.NoError(t, err)
	up, _, found := strings.Cut(string(text), "-- +goose Down")
	require.True(t, found)
	const defaults = `
do $$ declare t regclass; begin
    for t in select attrelid::regclass from pg_attribute join pg_class c on c.oid = attrelid
              where attname = 'tenant_id' and relnamespace = 'public'::regnamespace and relkind in ('r', 'p') loop
        execute format('alter table %s alter tenant_id set default current_setting(''books.tenant'')::uuid', t);
    end loop;
end $$`
	dsn := pgtest.Clone(t, "books"+up+defaults, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, up+defaults)
		return err
	})
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.RuntimeParams["books.tenant"] = id
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// asIfAlone compares what tenants are told who run their programs at the same time with what each of them would be told in a
// database of its own.
func (s *street) asIfAlone(t *testing.T, seed uint64) {
	t.Helper()
	told := make([][]event, len(s.watched))
	programs := make([]program, len(s.watched))
	s.disturb(t, seed, func() {
		var work sync.WaitGroup
		for i, who := range s.watched {
			programs[i] = whole(newAuthor(seed, uint64(i), who.db.Tenant().String()), nil)
			work.Go(func() { told[i] = perform(t.Context(), inHouse{who.db}, programs[i], meaning) })
		}
		work.Wait()
	})
	for i, who := range s.watched {
		want := perform(t.Context(), alone{who.alone}, programs[i], meaning)
		requireWorth(t, want)
		if d := difference([2]string{"alone:", "in the house:"}, want, told[i]); d != "" {
			t.Errorf("seed %d: the tenant of model %s is told something else than it would be alone:\n%s", seed, who.model, d)
		}
	}
}

// whateverOthersDo runs the same programs, hostile ones, twice beside others that do something else each time.
func (s *street) whateverOthersDo(t *testing.T, seed uint64) {
	t.Helper()
	var told [2][][]event
	for round := range told {
		told[round] = make([][]event, len(s.watched))
		s.disturb(t, seed+1<<40+uint64(round)<<41, func() {
			var work sync.WaitGroup
			for i, who := range s.watched {
				a := s.villain(seed, 100+uint64(i), who)
				p := whole(a, nothing)
				work.Go(func() { told[round][i] = perform(t.Context(), inHouse{who.db}, p, wording) })
			}
			work.Wait()
		})
	}
	for i, who := range s.watched {
		first, second := told[0][i][len(nothing):], told[1][i][len(nothing):]
		requireWorth(t, first)
		if d := difference([2]string{"first:", "then:"}, first, second); d != "" {
			t.Errorf("seed %d: the tenant of model %s is told something else when others do something else:\n%s", seed, who.model, d)
		}
	}
	for _, who := range s.watched { // the databases of their own begin where the tenants do
		perform(t.Context(), inHouse{who.db}, nothing, wording)
		perform(t.Context(), alone{who.alone}, nothing, wording)
	}
}

// villain writes who's hostile programs, against all others.
func (s *street) villain(seed, stream uint64, who resident) *author {
	a := newAuthor(seed, stream, who.db.Tenant().String())
	a.hostile = true
	for _, other := range slices.Concat(s.watched, s.beside) {
		if other.db != who.db {
			a.others = append(a.others, other.db.Tenant().String())
		}
	}
	return a
}

// disturb keeps those beside at hostile work of theirs while fn runs, and until each of them has done some.
func (s *street) disturb(t *testing.T, seed uint64, fn func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	worked := make([]atomic.Int64, len(s.beside))
	for i, who := range s.beside {
		a := s.villain(seed, 200+uint64(i), who)
		a.bulky = true
		work.Go(func() {
			for ctx.Err() == nil {
				for _, e := range perform(ctx, inHouse{who.db}, a.program(10), wording) {
					if strings.HasPrefix(e.outcome, "INSERT") {
						worked[i].Add(1)
					}
				}
			}
		})
	}
	fn()
	for i := range worked {
		require.Eventually(t, func() bool { return worked[i].Load() > 0 }, 5*time.Minute, time.Millisecond)
	}
	cancel()
	work.Wait()
}

// whole is a program that begins with something, and ends with a look at everything.
func whole(a *author, before program) program {
	return slices.Concat(before, something, a.program(30), everything)
}

// something shows that programs do read, write and fail.
var something = program{
	{kind: statement, sql: "insert into accounts (id, name) values (1, 'n1'), (2, 'n2')"},
	{kind: statement, sql: "insert into accounts (id, name) values (1, 'n3')"},
	{kind: statement, sql: "select id, name from accounts"},
}

// everything looks at all that a tenant has.
var everything = program{
	{kind: statement, sql: "select id, name, kind, balance, doubled, tags, about, tenant_id::text from accounts"},
	{kind: statement, sql: "select id, account, amount, tenant_id::text from entries"},
	{kind: statement, sql: "select id, entry, tenant_id::text from holds"},
	{kind: statement, sql: "select id, level, tenant_id::text from events"},
	{kind: statement, sql: "select account, was, became, tenant_id::text from changes"},
}

// nothing takes all of it away.
var nothing = program{{kind: batch, steps: program{
	{kind: statement, sql: "delete from holds"},
	{kind: statement, sql: "delete from accounts"},
	{kind: statement, sql: "delete from events"},
	{kind: statement, sql: "delete from changes"},
}}}

// requireWorth proves that a program has written, read, and met errors.
func requireWorth(t *testing.T, events []event) {
	t.Helper()
	met := make(map[string]int)
	for _, e := range events {
		word, _, _ := strings.Cut(e.outcome, " ")
		met[word]++
	}
	for _, word := range []string{"INSERT", "SELECT", "error"} {
		require.Positive(t, met[word], "no %s in the program", word)
	}
}
