package router_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "30"); err != nil { // programs of many round trips; -rapid.checks asks for more
		panic(err)
	}
	pgtest.Main(m)
}

var models = []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase}

// neighbours is a house with a tenant of every model, and another one next to it on demand, each with one customer.
type neighbours struct {
	*testhouse.House
	t    *testing.T
	r    *router.Router
	here map[placement.Model]placement.Placement

	mu     sync.Mutex // guards others
	others map[placement.Model]placement.Placement
}

// newNeighbours builds them, on one cluster unless opts says otherwise.
func newNeighbours(t *testing.T, opts testhouse.Options, change ...func(*router.Config)) *neighbours {
	t.Helper()
	if len(opts.Clusters) == 0 {
		opts.Clusters = []string{"a"}
	}
	if m := behind.FindStringSubmatch(t.Name()); m != nil && opts.Endpoint == nil {
		backends, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		opts.Bouncer(t, pgtest.Server(t), backends)
	}
	opts.Soft = true // these tests look into sessions
	h := testhouse.New(t, opts)
	n := &neighbours{
		House: h, t: t, r: h.Router(t, change...),
		here: make(map[placement.Model]placement.Placement), others: make(map[placement.Model]placement.Placement),
	}
	for _, m := range models {
		n.here[m] = n.add(t, "here-"+string(m), m)
	}
	return n
}

func (n *neighbours) add(t *testing.T, slug string, m placement.Model) placement.Placement {
	t.Helper()
	p := n.Add(t, slug, m, "a")
	addCustomer(t, n.r.Tenant(p.Tenant), email(p))
	return p
}

// next is the other tenant of a model.
func (n *neighbours) next(m placement.Model) placement.Placement {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.others[m]; !ok {
		n.others[m] = n.add(n.t, "next-"+string(m), m)
	}
	return n.others[m]
}

// each runs a subtest for each model, in parallel, with the handle of a router of its own.
func (n *neighbours) each(t *testing.T, change func(*router.Config), test func(t *testing.T, r *router.Router, p placement.Placement)) {
	t.Helper()
	for _, m := range models {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			if change == nil {
				change = func(*router.Config) {}
			}
			test(t, n.Router(t, change), n.here[m])
		})
	}
}

// one makes a router's pools hold one connection, so that every call meets what the one before has left.
func one(cfg *router.Config) { cfg.Pools.MaxConns = 1 }

// email is that of the customer whom every tenant has from the start.
func email(p placement.Placement) string { return string(p.Slug) + "@example.com" }

const insertCustomer = "insert into customers (email, name) values ($1, 'a name')"

// execer and querier are the parts of DB and Tx that tests write and read with.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func addCustomer(t *testing.T, db execer, email string) {
	t.Helper()
	tag, err := db.Exec(t.Context(), insertCustomer, email)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
}

// emails returns the customers that db sees.
func emails(t *testing.T, db querier) []string {
	t.Helper()
	var all []string
	require.NoError(t, db.QueryRow(t.Context(), "select coalesce(array_agg(email order by email), '{}') from customers").Scan(&all))
	return all
}

// schemaOf returns p's home as landlord.secure wants it: the schema, and the tenant that owns it, null where it is shared.
func schemaOf(p placement.Placement) (schema string, owner *string) {
	if p.Model == placement.ModelShared {
		return p.Home.Schema, nil
	}
	id := p.Tenant.String()
	return p.Home.Schema, &id
}

// ddl runs SQL in the home of each model's "here" tenant, as a migration does.
func (n *neighbours) ddl(t *testing.T, sql string) {
	t.Helper()
	for _, p := range n.here {
		n.ddlAt(t, p, sql)
	}
}

func (n *neighbours) ddlAt(t *testing.T, p placement.Placement, sql string) {
	t.Helper()
	conn := n.Super(t, p.Home.Database)
	schema, owner := schemaOf(p)
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "set local search_path = "+pgx.Identifier{schema}.Sanitize()+", extensions"); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "call landlord.secure($1, $2)", schema, owner)
		return err
	}))
	require.NoError(t, conn.Close(t.Context()))
}

// eventually waits until ok.
func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 2*time.Millisecond, what)
}

// seen tells whether the superuser sees a customer with this email at p's home: whether it is committed.
func (n *neighbours) seen(t *testing.T, super *pgx.Conn, p placement.Placement, email string) bool {
	t.Helper()
	var count int
	q := fmt.Sprintf("select count(*) from %s where tenant_id = $1 and email = $2", pgx.Identifier{p.Home.Schema, "customers"}.Sanitize())
	require.NoError(t, super.QueryRow(t.Context(), q, p.Tenant.String(), email).Scan(&count))
	return count == 1
}

// waiting returns how many backends of a router in super's database wait for a row to be unlocked.
func waiting(t *testing.T, super *pgx.Conn, router string) (n int) {
	t.Helper()
	const q = `select count(*) from pg_stat_activity
		where datname = current_database() and wait_event = 'transactionid' and application_name = $1`
	require.NoError(t, super.QueryRow(t.Context(), q, router).Scan(&n))
	return n
}

// pid returns the backend that the next statement of db runs on.
func pid(t *testing.T, db querier) (pid int) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
	return pid
}

// withTenant returns a context that carries p's tenant.
func withTenant(t *testing.T, p placement.Placement) context.Context {
	t.Helper()
	ctx, err := tenant.NewContext(t.Context(), p.Tenant)
	require.NoError(t, err)
	return ctx
}

// session lists all that one statement can find out about its connection, which must not depend on who had it before.
const session = `
select array_agg(what order by what) from (
    select 'setting ' || name || ' = ' || setting as what from pg_settings where name <> 'application_name'
    union all select 'prepared ' || statement from pg_prepared_statements where name !~ '^landlord_[0-9]+$'
    union all select 'cursor ' || name from pg_cursors where name <> ''
    union all select 'channel ' || c from pg_listening_channels() c
    union all select concat_ws(' ', 'lock', mode, classid, objid, objsubid) from pg_locks
               where pid = pg_backend_pid() and locktype = 'advisory'
    union all select 'temporary schema ' || pg_my_temp_schema()
    union all select concat_ws(' ', 'user', session_user, current_user)
    union all select 'setting ' || s || ' = ' || current_setting(s, true) from unnest('{app.note,landlord.tenant}'::text[]) s
               where current_setting(s, true) <> '') everything`

func sessionOf(t *testing.T, db querier) (seen []string) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), session).Scan(&seen))
	return seen
}

// requireSame compares two sessions and shows what differs.
func requireSame(t *testing.T, fresh, used []string, msg ...any) {
	t.Helper()
	differ := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
	}
	require.Equal(t, differ(fresh, used), differ(used, fresh), msg...)
}

// requireClean proves that r's only connection to p's home is like a fresh one, and works.
func (n *neighbours) requireClean(t *testing.T, r *router.Router, p placement.Placement) {
	t.Helper()
	requireSame(t, sessionOf(t, n.Router(t).Tenant(p.Tenant)), sessionOf(t, r.Tenant(p.Tenant)))
	require.Contains(t, emails(t, r.Tenant(p.Tenant)), email(p))
}
