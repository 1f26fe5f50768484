package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/router"
)

// named makes a router an instance of that name, of an application written for a version.
func named(name string, version int64) func(*router.Config) {
	return func(cfg *router.Config) { cfg.Instance, cfg.SchemaVersion = name, version }
}

// onRecord returns the instances of that name.
func onRecord(t *testing.T, h *testhouse.House, name string) (found []placement.Instance) {
	t.Helper()
	all, err := h.Catalog.Instances(t.Context())
	require.NoError(t, err)
	for _, in := range all {
		if in.Name == name {
			found = append(found, in)
		}
	}
	return found
}

// inCatalog runs SQL in the catalog's database.
func inCatalog(t *testing.T, h *testhouse.House, sql string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(h.CatalogDSN)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), pgtest.WithDatabase(pgtest.Server(t).DSN, cfg.Database))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestAnInstanceIsOnRecordFromBeforeItsFirstCallUntilAfterItsLast(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	var dials []int
	r := n.Router(t, named("web-1", 0), func(cfg *router.Config) {
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials = append(dials, len(onRecord(t, n.House, "web-1")))
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	require.Empty(t, onRecord(t, n.House, "web-1"))
	entered, leave := make(chan struct{}), make(chan struct{})
	ended, end := make(chan error, 1), sync.OnceFunc(func() { close(leave) })
	t.Cleanup(end) // Close waits for it
	go func() {
		ended <- r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Exec(ctx, "select 1")
			close(entered)
			<-leave
			return err
		})
	}()
	<-entered
	require.Equal(t, []int{1}, dials)
	require.Len(t, onRecord(t, n.House, "web-1"), 1)

	closed := make(chan struct{})
	go func() { r.Close(); close(closed) }()
	eventually(t, func() bool {
		_, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1")
		return err != nil
	}, "it is closing")
	require.Len(t, onRecord(t, n.House, "web-1"), 1, "a transaction is open")
	end()
	require.NoError(t, <-ended)
	<-closed
	require.Empty(t, onRecord(t, n.House, "web-1"))
	_, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pools.ErrClosed)
	require.ErrorIs(t, r.Beat(t.Context()), pools.ErrClosed)
	require.Empty(t, onRecord(t, n.House, "web-1"), "and it does not come back")
}

func TestEveryWayToAHomePutsAnInstanceOnRecord(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelShared]
	for name, use := range map[string]func(r *router.Router) error{
		"a statement": func(r *router.Router) error { _, err := r.Tenant(p.Tenant).Exec(t.Context(), "select 1"); return err },
		"database/sql": func(r *router.Router) error {
			std := r.SQL()
			defer std.Close()
			_, err := std.ExecContext(withTenant(t, p), "select 1")
			return err
		},
		"admin work": func(r *router.Router) error {
			admin, err := r.Admin("a report")
			require.NoError(t, err)
			return admin.Tx(t.Context(), "a", p.Home.Database, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select 1")
				return err
			})
		},
		"being ready": func(r *router.Router) error { return r.Ready(t.Context()) },
	} {
		require.NoError(t, use(n.Router(t, named(name, 2))), name)
		found := onRecord(t, n.House, name)
		require.Len(t, found, 1, name)
		require.EqualValues(t, 2, found[0].SchemaVersion)
	}
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotEmpty(t, onRecord(t, n.House, fmt.Sprintf("%s/%d", host, os.Getpid())), "unless it has another name")
}

func TestAnInstanceSaysThatItIsAliveWhileItRuns(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	running(t, n.House, "alive", named("alive", 2))
	eventually(t, func() bool { return len(onRecord(t, n.House, "alive")) == 1 }, "it is on record without a call")
	inCatalog(t, n.House, "update landlord.instances set seen_at = now() - interval '1 hour'")
	eventually(t, func() bool { return onRecord(t, n.House, "alive")[0].Silence < time.Minute }, "it was seen again")
}

// said keeps the messages of a level and above that a router logs.
type said struct {
	mu  sync.Mutex
	all []string
}

func (s *said) log(cfg *router.Config) {
	cfg.Logger = slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, string(b))
	return len(b), nil
}

func (s *said) of(level string) (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.all {
		if strings.Contains(line, "level="+level) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestAnOutdatedReleaseNeverReachesAHome(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	inCatalog(t, n.House, "update landlord.gate set contracted = 3, needs = 3")
	refused := func(cfg *router.Config) {
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
			t.Error("it was on its way to a home")
			return nil, net.ErrClosed
		}
	}
	n.each(t, nil, func(t *testing.T, _ *router.Router, p placement.Placement) {
		var s said
		name := "old " + string(p.Model)
		r := n.Router(t, refused, s.log, named(name, 2))
		everyCall(t, t.Context(), r.Tenant(p.Tenant), func(err error, way string) {
			require.ErrorIs(t, err, router.ErrOutdated, way)
			require.ErrorContains(t, err, "written for version 2 of its tables", way)
			require.ErrorContains(t, err, "version 3 at least", way)
			require.Equal(t, "outdated", router.Outcome(err), way)
		})
		admin, err := r.Admin("a report")
		require.NoError(t, err)
		require.ErrorIs(t, admin.Tx(t.Context(), "a", p.Home.Database, router.TxOptions{}, nil), router.ErrOutdated)
		require.ErrorIs(t, r.Ready(t.Context()), router.ErrOutdated, "so that it gets no traffic")
		require.Empty(t, onRecord(t, n.House, name))
		require.Len(t, s.of("ERROR"), 1)

		emails(t, n.Router(t, named("new", 3)).Tenant(p.Tenant))
		emails(t, n.Router(t, named("silent", 0)).Tenant(p.Tenant))
	})
}

func TestAnInstanceThatIsOutdatedWhileItRunsStops(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelSchema]
	var s said
	proxy, behind := n.behind(t)
	r := n.Router(t, behind, s.log, named("old", 2))
	db := r.Tenant(p.Tenant)
	emails(t, db)

	inCatalog(t, n.House, "update landlord.gate set contracted = 3, needs = 3; delete from landlord.instances where name = 'old'")
	for range 2 {
		require.ErrorIs(t, r.Beat(t.Context()), router.ErrOutdated)
	}
	everyCall(t, t.Context(), db, func(err error, way string) { require.ErrorIs(t, err, router.ErrOutdated, way) })
	require.ErrorIs(t, r.Ready(t.Context()), router.ErrOutdated)
	require.Len(t, s.of("ERROR"), 1)
	proxy.Cut()
	require.ErrorIs(t, r.Beat(t.Context()), router.ErrOutdated, "the last word stands")
	proxy.Restore()

	inCatalog(t, n.House, "update landlord.gate set contracted = 2, needs = 2")
	require.NoError(t, r.Beat(t.Context()))
	require.Equal(t, []string{email(p)}, emails(t, db))
	require.NoError(t, r.Ready(t.Context()))
}

func TestAnInstanceGoesOnWhileTheCatalogDoesNotHearIt(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelSchema]
	for name, failure := range map[string]func(*faultnet.Proxy){"cut": (*faultnet.Proxy).Cut, "silent": (*faultnet.Proxy).Blackhole} {
		proxy, behind := n.behind(t)
		fail := func() { failure(proxy) }
		var s said
		r := n.Router(t, behind, s.log, named(name, 2))
		emails(t, r.Tenant(p.Tenant))
		inCatalog(t, n.House, "update landlord.instances set seen_at = now() - interval '1 hour'")
		fail()
		for range 2 {
			require.ErrorIs(t, r.Beat(t.Context()), router.ErrCatalogDown)
			require.Equal(t, []string{email(p)}, emails(t, r.Tenant(p.Tenant)))
			require.NoError(t, r.Ready(t.Context()))
		}
		require.Len(t, s.of("WARN"), 1)
		proxy.Restore()
		require.NoError(t, r.Beat(t.Context()))
		require.Less(t, onRecord(t, n.House, name)[0].Silence, time.Minute)

		fail()
		require.Error(t, r.Beat(t.Context()))
		require.Len(t, s.of("WARN"), 2, "another outage")
		proxy.Restore()
	}
}

func TestWhatAnInstanceSaysOfItselfIsChecked(t *testing.T) {
	t.Parallel()
	n := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	_, err := router.New(router.Config{SchemaVersion: -1, SchemaWait: -1})
	for _, field := range []string{"Catalog", "SchemaVersion", "SchemaWait"} {
		require.ErrorContains(t, err, field)
	}
	for name, ok := range map[string]bool{
		"": true, "web-1 (blue)": true, strings.Repeat("ü", 200): true, strings.Repeat("ü", 201): false,
		"two\nlines": false, "\xff": false, "\x00": false,
	} {
		r, err := router.New(router.Config{Catalog: n.Catalog, Instance: name})
		if !ok {
			require.ErrorContains(t, err, "Instance", "%q", name)
			continue
		}
		require.NoError(t, err, "%q", name)
		require.NoError(t, r.Ready(t.Context()), "%q", name)
		r.Close()
	}
}
