package router_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/router"
)

// TestWhateverAProgramDoesEachTenantSeesItsOwnRows runs random programs over tenants of all models on one or two
// connections, beside a model of what each tenant must see.
func TestWhateverAProgramDoesEachTenantSeesItsOwnRows(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	c := &town{neighbours: n, t: t, super: n.Super(t, "postgres")}
	c.app = "town " + n.here["shared"].Tenant.String()[:8]
	var routers []*router.Router
	for conns := range 2 {
		routers = append(routers, n.Router(t, func(cfg *router.Config) { cfg.Pools.MaxConns, cfg.AppName = conns+1, c.app }))
	}
	var people []*person
	for _, m := range models {
		people = append(people, &person{id: n.here[m].Tenant.String()}, &person{id: n.next(m).Tenant.String()})
	}
	fresh := make(map[*person][]string)
	for i, who := range people {
		p := n.here[models[i/2]]
		if i%2 == 1 {
			p = n.next(models[i/2])
		}
		fresh[who] = sessionOf(t, n.Router(t, one).Tenant(p.Tenant))
		who.handles = []*router.DB{routers[0].Tenant(p.Tenant), routers[1].Tenant(p.Tenant)}
	}
	rapid.Check(t, func(rt *rapid.T) {
		conns := rapid.IntRange(0, 1).Draw(rt, "connections, less one")
		for _, who := range people {
			who.db, who.rows = who.handles[conns], make(map[string]bool)
			_, err := who.db.Exec(t.Context(), "delete from customers")
			require.NoError(rt, err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "calls") {
			who := rapid.SampledFrom(people).Draw(rt, "tenant")
			calls[rapid.SampledFrom(weighted).Draw(rt, "call")](c, rt, who)
			who.look(rt)
		}
		for _, who := range people {
			who.look(rt)
		}
		who := rapid.SampledFrom(people).Draw(rt, "looked at closely")
		requireSame(t, fresh[who], sessionOf(t, who.db))
	})
}

type town struct {
	*neighbours
	t     *testing.T
	super *pgx.Conn
	app   string // the routers' name
}

// person is a tenant and what it must see.
type person struct {
	id      string
	handles []*router.DB
	db      *router.DB
	rows    map[string]bool
	serial  int
}

// fresh returns an email that the tenant has not had yet.
func (who *person) fresh() string {
	who.serial++
	return fmt.Sprintf("%s-%d", who.id, who.serial)
}

// look compares what the tenant sees with the model.
func (who *person) look(rt *rapid.T) {
	rows, err := who.db.Query(context.Background(), "select tenant_id::text, email from customers")
	require.NoError(rt, err)
	seen := make(map[string]bool)
	var owner, email string
	_, err = pgx.ForEachRow(rows, []any{&owner, &email}, func() error {
		require.Equal(rt, who.id, owner)
		seen[email] = true
		return nil
	})
	require.NoError(rt, err)
	require.Equal(rt, slices.Sorted(maps.Keys(who.rows)), slices.Sorted(maps.Keys(seen)))
}

// weighted names calls by how often they are made.
var weighted = []string{
	"transaction", "transaction", "transaction", "transaction", "transaction", "transaction", "insert", "insert", "batch", "batch", "copy",
	"error", "litter", "litter", "cancel", "kill",
}

// calls are what a program is made of.
var calls = map[string]func(*town, *rapid.T, *person){
	"insert": func(c *town, rt *rapid.T, who *person) {
		email := who.fresh()
		_, err := who.db.Exec(c.t.Context(), insertCustomer, email)
		require.NoError(rt, err)
		who.rows[email] = true
	},
	"error": func(c *town, rt *rapid.T, who *person) {
		_, err := who.db.Exec(c.t.Context(), rapid.SampledFrom([]string{"select 1 / 0", "select from nowhere", "commit", "select 1; select 2"}).Draw(rt, "sql"))
		require.Error(rt, err)
	},
	"litter": func(c *town, rt *rapid.T, who *person) {
		_, _ = who.db.Exec(c.t.Context(), rapid.SampledFrom(littering).Draw(rt, "sql"))
		_, err := who.db.Exec(c.t.Context(), "delete from customers where not starts_with(email, $1)", who.id)
		require.NoError(rt, err)
	},
	"batch": func(c *town, rt *rapid.T, who *person) {
		b, emails := &pgx.Batch{}, make(map[string]bool)
		for range rapid.IntRange(1, 4).Draw(rt, "statements") {
			email := who.fresh()
			b.Queue(insertCustomer, email)
			emails[email] = true
		}
		fails := rapid.Bool().Draw(rt, "fails")
		if fails {
			b.Queue("select 1 / 0")
		}
		err := who.db.SendBatch(c.t.Context(), b).Close()
		require.Equal(rt, fails, err != nil, "%v", err)
		if !fails {
			maps.Copy(who.rows, emails)
		}
	},
	"copy": func(c *town, rt *rapid.T, who *person) {
		email := who.fresh()
		_, err := who.db.CopyFrom(c.t.Context(), pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows([][]any{{email, ""}}))
		require.NoError(rt, err)
		who.rows[email] = true
	},
	"kill": func(c *town, _ *rapid.T, _ *person) { kill(c.t, c.super, c.app) },
	"cancel": func(c *town, rt *rapid.T, who *person) {
		email := who.fresh()
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(rapid.IntRange(0, 2000).Draw(rt, "microseconds"))*time.Microsecond)
		defer cancel()
		_, err := who.db.Exec(ctx, insertCustomer, email)
		switch {
		case err == nil:
			who.rows[email] = true
		case errors.Is(err, router.ErrOutcomeUnknown):
			c.settle()
			var done bool
			require.NoError(rt, who.db.QueryRow(c.t.Context(), "select exists (select from customers where email = $1)", email).Scan(&done))
			if done {
				who.rows[email] = true
			}
		default:
			require.ErrorIs(rt, err, context.DeadlineExceeded)
		}
	},
	"transaction": (*town).transaction,
}

// settle waits until no backend of the routers is still at work on what its client has given up.
func (c *town) settle() {
	eventually(c.t, func() bool {
		var busy int
		const q = "select count(*) from pg_stat_activity where application_name = $1 and state <> 'idle'"
		require.NoError(c.t, c.super.QueryRow(c.t.Context(), q, c.app).Scan(&busy))
		return busy == 0
	}, "the backends are idle")
}

// transaction runs random steps, some of them under savepoints, and ends in one way or another.
func (c *town) transaction(rt *rapid.T, who *person) {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	lost := false // the connection
	var steps func(ctx context.Context, tx *router.Tx, depth int) (added []string, err error)
	steps = func(ctx context.Context, tx *router.Tx, depth int) (added []string, err error) {
		for range rapid.IntRange(0, 4).Draw(rt, "steps") {
			switch step := rapid.SampledFrom([]string{"insert", "insert", "insert", "insert", "savepoint", "savepoint", "fail", "nested", "read", "kill"}).Draw(rt, "step"); {
			case step == "insert":
				email := who.fresh()
				if _, err := tx.Exec(ctx, insertCustomer, email); err != nil {
					return nil, err
				}
				added = append(added, email)
			case step == "savepoint" && depth < 3:
				var under []string
				err := tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) (err error) {
					under, err = steps(ctx, tx, depth+1)
					if err == nil && rapid.Bool().Draw(rt, "undone") {
						err = errBoom
					}
					return err
				})
				if lost {
					return nil, err
				}
				if err == nil {
					added = append(added, under...)
				}
			case step == "fail":
				_, err := tx.Exec(ctx, "select 1 / 0")
				require.Error(rt, err)
				return nil, err
			case step == "nested":
				_, err := who.db.Exec(ctx, "select 1")
				require.ErrorIs(rt, err, router.ErrInTx)
			case step == "kill" && !lost:
				if _, err := tx.Exec(ctx, "select 1"); err != nil {
					return nil, err
				}
				kill(c.t, c.super, c.app)
				lost = true
			case step == "read":
				var others int
				if err := tx.QueryRow(ctx, "select count(*) from customers where tenant_id::text <> $1", who.id).Scan(&others); err != nil {
					return nil, err
				}
				require.Zero(rt, others)
			}
		}
		return added, nil
	}

	var added []string
	end := rapid.SampledFrom([]string{"commit", "commit", "commit", "error", "panic", "cancel"}).Draw(rt, "end")
	run := func() error {
		return who.db.Tx(ctx, func(ctx context.Context, tx *router.Tx) (err error) {
			if added, err = steps(ctx, tx, 0); err != nil {
				return err
			}
			switch end {
			case "error":
				return errBoom
			case "panic":
				panic(errBoom)
			case "cancel":
				cancel()
			}
			return nil
		})
	}
	panicked, err := caught(run)
	if err == nil && !panicked {
		require.False(rt, lost && len(added) > 0)
		for _, email := range added {
			who.rows[email] = true
		}
	}
	if end == "commit" && !lost && err != nil {
		require.ErrorContains(rt, err, "division by zero")
	}
}

// caught runs fn and tells whether it panicked with errBoom.
func caught(fn func() error) (panicked bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != any(errBoom) {
				panic(p)
			}
			panicked = true
		}
	}()
	return false, fn()
}

// TestManyTenantsShareFewConnections lets all of them work at once, with callers that leave, and looks at whose rows they see.
func TestManyTenantsShareFewConnections(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	r := n.Router(t, func(cfg *router.Config) { cfg.Pools.MaxConns = 2 })
	var work sync.WaitGroup
	for i := range 12 {
		p := n.here[models[i/2%3]]
		if i%2 == 1 {
			p = n.next(models[i/2%3])
		}
		work.Go(func() {
			db := r.Tenant(p.Tenant)
			for range 25 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if rand.N(4) == 0 {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), rand.N(3*time.Millisecond))
				}
				var emails []string
				err := db.QueryRow(ctx, "select array_agg(email) from customers").Scan(&emails)
				cancel()
				if err == nil && !slices.Equal(emails, []string{email(p)}) {
					t.Errorf("%s sees %v", p.Slug, emails)
				} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", p.Slug, err)
				}
			}
		})
	}
	work.Wait()
}
