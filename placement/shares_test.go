package placement_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrations"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// budget is a catalog with one cluster, "a", and what each process keeps to.
type budget struct {
	t      testing.TB
	c      *placement.Catalog
	direct *pgx.Conn
	limits map[string]int
}

func newBudget(t testing.TB, connections int) *budget {
	t.Helper()
	dsn := catalogDSN(t)
	b := &budget{t: t, c: open(t, placement.Config{DSN: dsn}), direct: connect(t, dsn), limits: map[string]int{}}
	cl := aCluster("a")
	cl.Connections = connections
	addClusters(t, b.c, cl)
	return b
}

// renew is one call of a process that has all open that it may.
func (b *budget) renew(process string, want int) int {
	b.t.Helper()
	had := b.limits[process]
	shares, err := b.c.Shares(b.t.Context(), process, []placement.Demand{{Cluster: "a", Limit: had, Open: had, Want: want}})
	require.NoError(b.t, err)
	require.Contains(b.t, shares, "a")
	b.limits[process] = shares["a"]
	return shares["a"]
}

// settle renews everybody until all are known, have heard what follows, have reported it, and were given what got free. It
// returns what they have.
func (b *budget) settle(wants map[string]int) map[string]int {
	b.t.Helper()
	for range 4 {
		for _, process := range slices.Sorted(maps.Keys(wants)) {
			b.renew(process, wants[process])
		}
	}
	return b.limits
}

// expire lets the time of some processes run out, of all when none is named.
func (b *budget) expire(processes ...string) {
	b.t.Helper()
	const q = `
update landlord.connection_shares set expires_at = clock_timestamp() - interval '1 ms' where process = any ($1) or cardinality($1) = 0`
	_, err := b.direct.Exec(b.t.Context(), q, append([]string{}, processes...))
	require.NoError(b.t, err)
}

func (b *budget) setBudget(connections int) {
	b.t.Helper()
	_, err := b.c.UpdateCluster(b.t.Context(), "a", func(c *placement.Cluster) error { c.Connections = connections; return nil })
	require.NoError(b.t, err)
}

func TestConnectionsAreDividedFairly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		budget      int
		wants, have map[string]int
	}{
		"alone":             {100, map[string]int{"p": 30}, map[string]int{"p": 30}},
		"more than exists":  {100, map[string]int{"p": 500}, map[string]int{"p": 100}},
		"enough for all":    {100, map[string]int{"p": 10, "q": 90}, map[string]int{"p": 10, "q": 90}},
		"equals":            {100, map[string]int{"p": 500, "q": 500}, map[string]int{"p": 50, "q": 50}},
		"modest ones first": {100, map[string]int{"p": 10, "q": 70, "r": 1000}, map[string]int{"p": 10, "q": 45, "r": 45}},
		"who wants nothing": {100, map[string]int{"p": 0, "q": 500}, map[string]int{"p": 0, "q": 100}},
		// What is left over stays with who has it.
		"a remainder": {100, map[string]int{"p": 99, "q": 99, "r": 99}, map[string]int{"p": 34, "q": 33, "r": 33}},
		"one each":    {3, map[string]int{"p": 1, "q": 7, "r": 99}, map[string]int{"p": 1, "q": 1, "r": 1}},
		"too many":    {2, map[string]int{"p": 9, "q": 9, "r": 9}, map[string]int{"p": 1, "q": 1, "r": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBudget(t, tt.budget)
			require.Equal(t, tt.have, b.settle(tt.wants))
			require.Equal(t, tt.have, b.settle(tt.wants), "nothing wanders to and fro")
		})
	}
}

func TestLateComerGetsHisPartWhenOthersHaveShrunk(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	require.Equal(t, 100, b.renew("first", 200))
	require.Equal(t, 0, b.renew("second", 200))
	// It hears that it must shrink, and may have opened up to its old limit until then.
	require.Equal(t, 50, b.renew("first", 200))
	require.Equal(t, 0, b.renew("second", 200))
	// It has shrunk, but for ten that are in use.
	shares, err := b.c.Shares(t.Context(), "first", []placement.Demand{{Cluster: "a", Limit: 50, Open: 60, Want: 200}})
	require.NoError(t, err)
	require.Equal(t, 50, shares["a"])
	require.Equal(t, 40, b.renew("second", 200))
	require.Equal(t, 50, b.renew("first", 200))
	require.Equal(t, 50, b.renew("second", 200))
}

func TestAProcessThatMissedAnAnswerCountsWithWhatItHeard(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	require.Equal(t, 100, b.renew("deaf", 100))
	b.renew("other", 100)
	for range 3 { // it goes on with 100, whatever the catalog answers
		_, err := b.c.Shares(t.Context(), "deaf", []placement.Demand{{Cluster: "a", Limit: 100, Open: 1, Want: 100}})
		require.NoError(t, err)
		require.Zero(t, b.renew("other", 100))
	}
}

func TestWhatADeadProcessHeldExpires(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	require.Equal(t, 70, b.renew("dead", 70))
	require.Equal(t, 30, b.renew("alive", 100))
	connections, processes, err := b.c.Granted(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, []int{100, 2}, []int{connections, processes})

	b.expire("dead")
	connections, processes, err = b.c.Granted(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, []int{30, 1}, []int{connections, processes})
	require.Equal(t, 100, b.renew("alive", 100))
}

func TestShareLastsForItsTime(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	b.renew("p", 10)
	var left time.Duration
	const q = `select expires_at - now() from landlord.connection_shares`
	require.NoError(t, b.direct.QueryRow(t.Context(), q).Scan(&left))
	require.Positive(t, left)
	require.LessOrEqual(t, left, placement.ShareTTL)
}

func TestReleasedSharesAreFreeAtOnce(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	addClusters(t, b.c, aCluster("b"))
	_, err := b.c.Shares(t.Context(), "p", []placement.Demand{{Cluster: "b", Want: 80}, {Cluster: "a", Want: 100}})
	require.NoError(t, err)
	require.Zero(t, b.renew("q", 100))
	require.NoError(t, b.c.ReleaseShares(t.Context(), "p"))
	require.NoError(t, b.c.ReleaseShares(t.Context(), "p"), "there is nothing left to release")
	require.Equal(t, 100, b.renew("q", 100))
	shares, err := b.c.Shares(t.Context(), "q", []placement.Demand{{Cluster: "b", Want: 80}})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"b": 80}, shares)
}

func TestWantingNothingKeepsNothing(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	require.Equal(t, 60, b.renew("p", 60))
	require.Zero(t, b.renew("p", 0))
	require.Equal(t, 40, b.renew("q", 100), "p may have had 60 open until now")
	require.Zero(t, b.renew("p", 0))
	require.Equal(t, 100, b.renew("q", 100))
	var rows int
	require.NoError(t, b.direct.QueryRow(t.Context(), `select count(*) from landlord.connection_shares`).Scan(&rows))
	require.Equal(t, 1, rows)
}

func TestLoweredBudgetShrinksEveryoneAndStarvesNobody(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	wants := map[string]int{"p": 100, "q": 100}
	require.Equal(t, map[string]int{"p": 50, "q": 50}, b.settle(wants))
	b.setBudget(10)
	require.Equal(t, 5, b.renew("p", 100), "although q has 50")
	require.Equal(t, 5, b.renew("q", 100))
	b.setBudget(60)
	require.Equal(t, map[string]int{"p": 30, "q": 30}, b.settle(wants))
}

// Nobody could renew, so everything has expired, and all have their connections still.
func TestThoseWhoComeBackAfterAnOutageKeepTheirShares(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	wants := map[string]int{"p": 100, "q": 100, "gone": 20}
	require.Equal(t, map[string]int{"p": 40, "q": 40, "gone": 20}, b.settle(wants))
	b.expire()
	require.Equal(t, 40, b.renew("p", 100))
	require.Zero(t, b.renew("new", 100))
	require.Equal(t, 27, b.renew("q", 100), "80 among three, as long as gone may come back")
	b.expire("gone")
	delete(wants, "gone")
	delete(b.limits, "gone")
	wants["new"] = 100
	got := b.settle(wants)
	require.Equal(t, 100, got["p"]+got["q"]+got["new"])
	require.GreaterOrEqual(t, min(got["p"], got["q"], got["new"]), 33)
}

func TestUnknownClusterIsNotInTheAnswer(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	shares, err := b.c.Shares(t.Context(), "p", []placement.Demand{{Cluster: "zzz", Want: 1}, {Cluster: "a", Want: 1}})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 1}, shares)
	shares, err = b.c.Shares(t.Context(), "p", nil)
	require.NoError(t, err)
	require.Empty(t, shares)
	require.NoError(t, b.c.RemoveCluster(t.Context(), "a"), "shares do not keep a cluster")
}

func TestSharesAreNotPlacements(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	before := kinds(t, b.c)
	exec(t, b.direct, `begin`)
	exec(t, b.direct, `select landlord.lock_placement()`)
	require.Equal(t, 100, b.renew("p", 100), "the placement lock is another's")
	exec(t, b.direct, `rollback`)
	require.Equal(t, before, kinds(t, b.c))
}

func TestSharesFailFastWhenTheCatalogGivesNoAnswer(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	addClusters(t, open(t, placement.Config{DSN: dsn}), aCluster("a"))
	net, through := proxied(t, dsn)
	// An hour of retries would be noticed.
	c := open(t, placement.Config{DSN: through, Timeout: 200 * time.Millisecond, Retry: time.Hour})
	demands := []placement.Demand{{Cluster: "a", Want: 10}}
	shares := func() error { _, err := c.Shares(t.Context(), "p", demands); return err }
	require.Eventually(t, func() bool { return shares() == nil }, waitMost, waitStep)
	for _, breakNet := range []func(){net.Cut, net.Blackhole} {
		breakNet()
		require.ErrorIs(t, shares(), placement.ErrUnavailable)
		require.ErrorIs(t, c.ReleaseShares(t.Context(), "p"), placement.ErrUnavailable)
		net.Restore()
		require.Eventually(t, func() bool { return shares() == nil }, waitMost, waitStep)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Shares(ctx, "p", demands)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, placement.ErrUnavailable)
	_, err = emptyCatalog(t).Shares(t.Context(), "p", demands)
	require.ErrorIs(t, err, placement.ErrNoCatalog)
}

// A service's login only reads the catalog.
func TestReaderOfTheCatalogTakesItsShare(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	addClusters(t, open(t, placement.Config{DSN: dsn}), aCluster("a"))
	login, as := newLogin(t, dsn, "")
	exec(t, connect(t, dsn), "grant usage on schema landlord to "+pgx.Identifier{login}.Sanitize())
	reader := open(t, placement.Config{DSN: as})
	shares, err := reader.Shares(t.Context(), "p", []placement.Demand{{Cluster: "a", Want: 10}})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 10}, shares)
	require.NoError(t, reader.ReleaseShares(t.Context(), "p"))
}

// With a snapshot older than the lock, two processes would be given the same connections.
func TestSharesDoNotDependOnTheDefaultIsolation(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 100)
	dsn := b.direct.Config().ConnString() + "&default_transaction_isolation=repeatable%20read"
	c := open(t, placement.Config{DSN: dsn, Timeout: waitMost})
	exec(t, b.direct, `begin`)
	exec(t, b.direct, `select * from landlord.share_connections('first', '{a}', '{0}', '{0}', '{90}', '1 min')`)
	second := make(chan map[string]int, 1)
	go func() {
		shares, _ := c.Shares(t.Context(), "second", []placement.Demand{{Cluster: "a", Want: 90}})
		second <- shares
	}()
	watcher := connect(t, b.direct.Config().ConnString())
	const waiting = `select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
	require.Eventually(t, func() (found bool) {
		require.NoError(t, watcher.QueryRow(t.Context(), waiting).Scan(&found))
		return found
	}, waitMost, waitStep)
	exec(t, b.direct, `commit`)
	require.Equal(t, map[string]int{"a": 10}, <-second)
}

func TestBudgetHoldsWhileManyRenewAtOnce(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	const connections, processes, calls = 50, 16, 40
	addTo := open(t, placement.Config{DSN: dsn})
	names := []string{"a", "b", "c"}
	for _, name := range names {
		cl := aCluster(name)
		cl.Connections = connections
		addClusters(t, addTo, cl)
	}
	var mu sync.Mutex
	limits := map[string]map[string]int{} // cluster, process
	for _, name := range names {
		limits[name] = map[string]int{}
	}
	hear := func(process string, shares map[string]int) error {
		mu.Lock()
		defer mu.Unlock()
		for cluster, share := range shares {
			limits[cluster][process] = share
			sum := 0
			for _, limit := range limits[cluster] {
				sum += limit
			}
			if sum > connections {
				return fmt.Errorf("%d connections of %s are granted: %v", sum, cluster, limits[cluster])
			}
		}
		return nil
	}
	group, ctx := errgroup.WithContext(t.Context())
	for i := range processes {
		process := fmt.Sprintf("p%02d", i)
		group.Go(func() error {
			c, err := placement.Open(ctx, placement.Config{DSN: dsn, MaxConns: 1, Timeout: waitMost})
			if err != nil {
				return err
			}
			defer c.Close()
			has := map[string]int{}
			for range calls {
				var demands []placement.Demand
				for _, k := range rand.Perm(len(names)) { // locks are taken in one order all the same
					n := names[k]
					demands = append(demands, placement.Demand{Cluster: n, Limit: has[n], Open: rand.IntN(has[n] + 1), Want: rand.IntN(20)})
				}
				if has, err = c.Shares(ctx, process, demands); err != nil {
					return err
				}
				if err := hear(process, has); err != nil {
					return err
				}
			}
			if err := hear(process, map[string]int{"a": 0, "b": 0, "c": 0}); err != nil {
				return err
			}
			return c.ReleaseShares(ctx, process)
		})
	}
	require.NoError(t, group.Wait())
	left, _, err := addTo.Granted(t.Context(), "a")
	require.NoError(t, err)
	require.Zero(t, left)
}

func TestInitUpgradesACatalogWithoutBudgets(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	conn := connect(t, dsn)
	exec(t, conn, `create schema landlord`)
	db := stdlib.OpenDB(*conn.Config())
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Control(), goose.WithTableName("landlord.catalog_version"))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), 1)
	require.NoError(t, err)
	exec(t, conn, `insert into landlord.settings (id_type) values ('uuid')`)
	exec(t, conn, `insert into landlord.clusters (name, endpoint, shared_database, operator, app, admin)
		values ('a', 'env:A', 'landlord', 'env:A', 'env:A', 'env:A')`)

	old := open(t, placement.Config{DSN: dsn})
	have, want, err := old.Version(t.Context())
	require.NoError(t, err)
	require.Less(t, have, want)
	_, err = old.Clusters(t.Context())
	require.ErrorIs(t, err, placement.ErrNoCatalog)
	require.ErrorContains(t, err, "run landlord init")
	steps, err := old.Init(t.Context(), tenant.UUID)
	require.NoError(t, err)
	require.Len(t, steps, int(want-have))
	cl, err := old.Cluster(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, placement.DefaultConnections, cl.Connections)
	shares, err := old.Shares(t.Context(), "p", []placement.Demand{{Cluster: "a", Want: 100}})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 80}, shares)
}
