package router_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// behind matches the names of tests whose neighbours live behind a PgBouncer with so many backends.
var behind = regexp.MustCompile(`^TestBehindPgBouncer/(\d+)_backends?/`)

// TestBehindPgBouncer runs tests of this package with a PgBouncer in transaction mode in between.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for backends, tests := range map[int]map[string]func(*testing.T){
		1: {"the next transaction finds a fresh session": TestTheNextTransactionFindsAFreshSession},
		3: {
			"every model and mode":   TestEachTenantSeesItsOwnRowsInEveryModelAndMode,
			"batch":                  TestBatch,
			"copy":                   TestCopyFrom,
			"transaction":            TestTx,
			"savepoints":             TestSavepointsUndoWhatIsUnderThemAndNothingElse,
			"rows":                   TestRows,
			"database/sql":           TestDatabaseSQL,
			"admin":                  TestAdmin,
			"random programs":        TestWhateverAProgramDoesEachTenantSeesItsOwnRows,
			"few connections":        TestManyTenantsShareFewConnections,
			"schema change":          TestASchemaChangeUnderAPreparedStatementGoesUnseen,
			"parameter type changed": TestAParameterThatChangedItsTypeGoesUnseen,
			"bounded cache":          TestPreparedStatementsAreBounded,
			"one text, many schemas": TestOneTextMeansTheTablesOfEachSchema,
			"cursor":                 TestACursorIsReadAsWhatItIsNow,
			"stale router":           TestAStaleRouterIsRefusedBySourceAndFollowsUnseen,
			"moved tenant":           TestATenantThatIsBeingMoved,
			"killed backends":        TestKilledConnections,
			"home behind":            TestAHomeThatIsBehindIsRefusedUntilItIsMigrated,
			"wait for a migration":   TestACallWaitsForAHomeThatIsBeingMigrated,
		},
	} {
		t.Run(fmt.Sprintf("%d backends", backends), func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				t.Run(name, test)
			}
		})
	}
}

// bounced is a house behind a PgBouncer with one backend for each login and database.
func bounced(t *testing.T, opts testhouse.Options) (*neighbours, *pgtest.Bouncer) {
	t.Helper()
	b := opts.Bouncer(t, pgtest.Server(t), 1)
	return newNeighbours(t, opts), b
}

func TestTenantsWhoTakeTurnsOnOneBackendSeeTheirOwnRows(t *testing.T) {
	t.Parallel()
	n, _ := bounced(t, testhouse.Options{})
	ours := []placement.Placement{
		n.here[placement.ModelShared], n.next(placement.ModelSchema), n.next(placement.ModelShared), n.here[placement.ModelSchema],
	}
	r := n.Router(t, func(cfg *router.Config) { cfg.Pools.MaxConns = 4 })
	type seen struct {
		PID      int
		Prepared int
		Emails   []string
	}
	const q = `select pg_backend_pid(), (select count(*) from pg_prepared_statements), array_agg(email order by email) from customers`
	look := func(row pgx.Row) (s seen, err error) { return s, row.Scan(&s.PID, &s.Prepared, &s.Emails) }

	first, err := look(r.Tenant(ours[0].Tenant).QueryRow(t.Context(), q))
	require.NoError(t, err)
	want := func(p placement.Placement) seen { return seen{first.PID, 0, []string{email(p)}} }
	for i := range 2000 {
		p := ours[i%len(ours)]
		got, err := look(r.Tenant(p.Tenant).QueryRow(t.Context(), q))
		require.NoError(t, err)
		require.Equal(t, want(p), got)
	}

	var work sync.WaitGroup
	for worker := range 8 {
		work.Go(func() {
			for i := range 60 {
				p := ours[(worker+i)%len(ours)]
				db, ctx := r.Tenant(p.Tenant), t.Context()
				var got seen
				var err error
				switch i % 3 {
				case 0:
					got, err = look(db.QueryRow(ctx, q))
				case 1:
					err = db.Tx(ctx, func(ctx context.Context, tx *router.Tx) (err error) {
						mine := fmt.Sprintf("%d-%d@example.com", worker, i)
						if _, err = tx.Exec(ctx, insertCustomer, mine); err != nil {
							return err
						}
						if _, err = tx.Exec(ctx, "delete from customers where email = $1", mine); err != nil {
							return err
						}
						got, err = look(tx.QueryRow(ctx, q))
						return err
					})
				case 2:
					b := oneQuery(insertCustomer, "batch@example.com")
					b.Queue("delete from customers where email = $1", "batch@example.com")
					b.Queue(q).QueryRow(func(row pgx.Row) (err error) {
						got, err = look(row)
						return err
					})
					err = db.SendBatch(ctx, b).Close()
				}
				if err != nil || got.PID != first.PID || got.Prepared != 0 || !slices.Equal(got.Emails, []string{email(p)}) {
					t.Errorf("%s: %+v, %v", p.Slug, got, err)
				}
			}
		})
	}
	work.Wait()
}

// TestAParameterThatChangedItsTypeGoesUnseen: a statement keeps the types that its parameters had when it was first sent.
func TestAParameterThatChangedItsTypeGoesUnseen(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.ddl(t, "create type mood as enum ('7'); create table moods (tenant_id uuid, id int, mood mood)")
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		count := func(db querier) (n int, err error) {
			return n, db.QueryRow(t.Context(), "select count(*) from moods where mood = $1", "7").Scan(&n)
		}
		_, err := db.Exec(t.Context(), "insert into moods values (default, 1, '7')")
		require.NoError(t, err)
		_, err = count(db)
		require.NoError(t, err)
		for _, alter := range []string{
			"alter table moods alter mood type text",
			"drop type mood; alter table moods alter mood type varchar",
			"create type mood as enum ('7'); alter table moods alter mood type mood using mood::mood",
			"alter table moods alter mood type text; drop type mood",
		} {
			n.ddlAt(t, p, alter)
			got, err := count(db)
			require.NoError(t, err, alter)
			require.Equal(t, 1, got, alter)
			require.NoError(t, db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
				_, err := count(tx)
				return err
			}), alter)
		}
	})
}

// TestARepointedPoolerIsRefused: the pooler leads to another database while the router's connections to it stay.
func TestARepointedPoolerIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			n, b := bounced(t, testhouse.Options{Mode: mode})
			p := n.here[placement.ModelShared]
			db := n.r.Tenant(p.Tenant)
			admin, err := n.r.Admin("a test")
			require.NoError(t, err)
			across := func() error {
				return admin.Tx(t.Context(), "a", p.Home.Database, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
					_, err := tx.Exec(ctx, "select count(*) from customers")
					return err
				})
			}
			require.NoError(t, across())
			require.Equal(t, []string{email(p)}, emails(t, db))

			// The other database is a copy, with the same rows, fences and keys, and only its stamp tells.
			other := p.Home.Database + "_copy"
			t.Cleanup(func() { n.SuperExec(t, "postgres", "drop database if exists "+other+" with (force)") })
			b.Console(t, "pause")
			n.SuperExec(t, "postgres", "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '"+p.Home.Database+"'")
			n.SuperExec(t, "postgres", "create database "+other+" template "+p.Home.Database)
			b.Console(t, "resume")
			n.SuperExec(t, other, "update landlord.identity set stamp = gen_random_uuid()")
			n.SuperExec(t, other, fmt.Sprintf("grant connect on database %s to %s, %s", other, isolation.AppRole, isolation.AdminRole))
			n.SuperExec(t, other, "update customers set email = 'elsewhere@example.com'")

			for _, elsewhere := range []string{other, "postgres"} {
				b.Point(t, p.Home.Database, elsewhere)
				require.ErrorIs(t, across(), router.ErrWrongDatabase, elsewhere)
				everyCall(t, t.Context(), db, func(err error, way string) { require.ErrorIs(t, err, router.ErrWrongDatabase, way) })
				b.Point(t, p.Home.Database, p.Home.Database)
				require.Equal(t, []string{email(p)}, emails(t, db), "without a restart")
				require.NoError(t, across())
			}
		})
	}
}

func TestACallThatEndsEarlyLeavesNothingOpenBehindThePooler(t *testing.T) {
	t.Parallel()
	n, b := bounced(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	super := n.Super(t, p.Home.Database)
	db := n.r.Tenant(p.Tenant)
	sleep := func(ctx context.Context, db execer) error {
		_, err := db.Exec(ctx, "select pg_sleep(30)")
		return err
	}
	asleep := func() bool {
		var n int
		require.NoError(t, super.QueryRow(t.Context(),
			"select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'").Scan(&n))
		return n == 1
	}
	for name, call := range map[string]func(ctx context.Context) error{
		"a cancelled statement": func(ctx context.Context) error { return sleep(ctx, db) },
		"a cancelled transaction": func(ctx context.Context) error {
			return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { return sleep(ctx, tx) })
		},
		"a cancelled later statement": func(ctx context.Context) error {
			return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "never@example.com")
				return sleep(ctx, tx)
			})
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- call(ctx) }()
		eventually(t, asleep, name)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled, name)
		// The pool has one backend: these would wait for it.
		require.Equal(t, []string{email(p)}, emails(t, db), name)
		_, err := caught(func() error {
			return db.Tx(t.Context(), func(_ context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "never@example.com")
				panic(errBoom)
			})
		})
		require.NoError(t, err)
		require.Equal(t, []string{email(p)}, emails(t, db), name)
	}
	var open int
	require.NoError(t, super.QueryRow(t.Context(), `select count(*) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`).Scan(&open))
	require.Zero(t, open)
	for _, server := range b.Console(t, "show servers") {
		if server["database"] == p.Home.Database {
			require.NotEqual(t, "active", server["state"], "%v", server)
		}
	}
}

// TestAServerLostBehindThePoolerLeavesTheOutcomeOpen: the pooler then says so in an error of its own, which is not the
// server's word that nothing has run.
func TestAServerLostBehindThePoolerLeavesTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	proxy := faultnet.New(t, server.Addr())
	var err error
	server.DSN, err = proxy.Rewrite(server.DSN)
	require.NoError(t, err)
	var opts testhouse.Options
	opts.Bouncer(t, server, 1)
	n := newNeighbours(t, opts)
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		if p.Model != placement.ModelShared { // one is enough, and the proxy is everybody's
			return
		}
		db, super := r.Tenant(p.Tenant), n.Super(t, p.Home.Database)
		for i := range 3 {
			addCustomer(t, db, "known-"+strconv.Itoa(i)+"@example.com") // on this connection: else the packet is not whole
			lost := "lost-" + strconv.Itoa(i) + "@example.com"
			proxy.HoldReplies()
			done := make(chan error)
			go func() {
				_, err := db.Exec(t.Context(), insertCustomer, lost)
				done <- err
			}()
			eventually(t, func() bool { return n.seen(t, super, p, lost) }, "it is committed")
			proxy.Cut()
			time.Sleep(50 * time.Millisecond)
			proxy.Restore()
			require.ErrorIs(t, <-done, router.ErrOutcomeUnknown)
			require.Contains(t, emails(t, db), lost)
		}
	})
}
