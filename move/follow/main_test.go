package follow_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	tenant = "7f0c5d5e-90b1-4ab6-a8a0-000000000001"
	other  = "7f0c5d5e-90b1-4ab6-a8a0-000000000002"

	patience = 2 * time.Minute // more than anything here takes
)

// world is a shared home and a dedicated one that a tenant is moved between, in two databases.
type world struct {
	sourceDSN, targetDSN string
	source, target       *pgx.Conn // the test's own
	pairs                []table.Pair
	slot                 string
	from                 repl.LSN
	since                uint64
	config               follow.Config
}

// options of a world.
type options struct {
	back bool // from the dedicated home to the shared one
	// proxy changes how the mover reaches the source.
	proxy func(dsn string) string
	// server, if not empty, is the DSN of the source's own server.
	server string
}

// newWorld makes both homes by the same SQL, which runs with the home's schema in front, and a slot. setUp runs at the source
// before the slot is made.
func newWorld(t testing.TB, opts options, ddl, setUp string) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{targetDSN: installed(t)}
	if w.sourceDSN = opts.server; w.sourceDSN == "" {
		w.sourceDSN = pgtest.NewDatabase(t)
	}
	from, to := table.Home{Schema: "public"}, table.Home{Schema: `t_"x`, Dedicated: true}
	if opts.back {
		from, to = to, from
	}
	w.source, w.target = dial(t, w.sourceDSN), dial(t, w.targetDSN)
	w.build(t, w.source, from, ddl+";"+setUp)
	w.build(t, w.target, to, ddl)
	have, err := table.Inspect(ctx, w.source, from)
	require.NoError(t, err)
	want, err := table.Inspect(ctx, w.target, to)
	require.NoError(t, err)
	pairs, problems := table.Match(have, want, tenant)
	require.Empty(t, problems)
	w.pairs = pairs

	var tables []string
	for _, p := range pairs {
		filter := ""
		if !from.Dedicated {
			filter = " where (tenant_id = '" + tenant + "')"
		}
		tables = append(tables, "table "+p.Source.SQL()+filter)
	}
	w.exec(t, "create publication pub for "+strings.Join(tables, ", ")+" with (publish_via_partition_root = true)")
	w.slot = w.source.Config().Database + "_" + strings.ReplaceAll(uuid.NewString()[:8], "-", "")
	stream := w.stream(t, w.sourceDSN)
	w.from, err = stream.CreateSlot(ctx, w.slot, patience)
	require.NoError(t, err)
	require.NoError(t, stream.Close(ctx))
	require.NoError(t, w.source.QueryRow(ctx, `select pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&w.since))

	reach := w.sourceDSN
	if opts.proxy != nil {
		reach = opts.proxy(w.sourceDSN)
	}
	owner := uuid.NewString()
	w.config = follow.Config{
		Move: uuid.NewString(), Direction: follow.Forward, Pairs: pairs, Slot: w.slot, Publication: "pub", From: w.from,
		Source: connector(reach), Target: connector(w.targetDSN), Patience: patience,
		Stream: streams(reach),
		Fence: follow.Fence{
			FenceKey: isolation.FenceKey{Tenant: tenant, Home: "b/app/" + to.Schema}, State: isolation.Importing, Owner: owner,
		},
	}
	require.NoError(t, isolation.Import(ctx, w.target, isolation.Fence{
		Tenant: tenant, Slug: "acme", Model: "database", Home: w.config.Fence.Home, Epoch: 2, Owner: owner,
	}))
	return w
}

func (w *world) build(t testing.TB, conn *pgx.Conn, h table.Home, sql string) {
	t.Helper()
	name := pgx.Identifier{h.Schema}.Sanitize()
	_, err := conn.Exec(t.Context(), "create schema if not exists "+name+"; set search_path = "+name+"; "+sql)
	require.NoError(t, err)
}

// copy runs the copy, and has the follower leave out what it has brought.
func (w *world) copy(t testing.TB, size int64) {
	t.Helper()
	require.NoError(t, w.tryCopy(t.Context(), size, nil))
	w.load(t)
}

// tryCopy runs the copy. progress, if it is not nil, is called after each chunk.
func (w *world) tryCopy(ctx context.Context, size int64, progress func(chunk.Progress)) error {
	_, err := chunk.Copy(ctx, chunk.Config{
		Move: w.config.Move, Pairs: w.pairs, Source: connector(w.sourceDSN), Target: connector(w.targetDSN), Since: w.since, Size: size, Progress: progress,
		Fence: chunk.Fence{Tenant: tenant, Home: w.config.Fence.Home, Owner: w.config.Fence.Owner},
	})
	return err
}

func (w *world) load(t testing.TB) {
	t.Helper()
	copied, err := chunk.Load(t.Context(), w.target, w.config.Move, w.pairs, connector(w.sourceDSN))
	require.NoError(t, err)
	w.config.Copied = copied
}

// follower is a Follower that runs.
type follower struct {
	*follow.Follower
	stop  context.CancelFunc
	ended chan error
}

var errStopped = errors.New("stopped by the test")

func (w *world) follow(t testing.TB) *follower {
	t.Helper()
	f, err := follow.New(w.config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &follower{Follower: f, stop: func() { cancel(errStopped) }, ended: make(chan error, 1)}
	go func() { r.ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		r.stop()
		if err := <-r.ended; !errors.Is(err, errStopped) && !errors.Is(err, context.Canceled) {
			t.Errorf("the follower ended: %v", err)
		}
	})
	return r
}

// end stops the follower and waits for it.
func (f *follower) end(t testing.TB) {
	t.Helper()
	f.stop()
	require.ErrorIs(t, <-f.ended, errStopped)
	f.ended <- errStopped
}

// fails waits until the follower has ended by itself.
func (f *follower) fails(t testing.TB) error {
	t.Helper()
	err := <-f.ended
	f.ended <- errStopped
	return err
}

var tokens atomic.Int64

// sync waits until everything that was committed at the source is at the target. If that is not to be, it says what everybody is at.
func (w *world) sync(t testing.TB, f *follower) {
	t.Helper()
	token := fmt.Sprint("sync ", tokens.Add(1))
	met := make(chan struct{})
	f.At(token, func(context.Context, repl.LSN) error {
		close(met)
		return nil
	})
	w.exec(t, `select pg_logical_emit_message(true, 'landlord', $1)`, token)
	select {
	case <-met:
	case err := <-f.ended:
		f.ended <- errStopped
		require.NoError(t, err)
	case <-time.After(patience):
		all := make([]byte, 1<<20)
		t.Fatalf("the follower hangs, or is outrun: %+v\n%s", f.Stats(), all[:runtime.Stack(all, true)])
	}
}

// equal compares all columns of all tables.
func (w *world) equal(t testing.TB) {
	t.Helper()
	for _, p := range w.pairs {
		columns := table.Quoted(p.Compared(), "")
		want := rows(t, w.source, columns, p.Source, p.Source.Whose(tenant))
		have := rows(t, w.target, columns, p.Target, p.Target.Whose(tenant))
		require.Empty(t, differ(want, have), "%s: only at the source", p.Source.Name)
		require.Empty(t, differ(have, want), "%s: only at the target", p.Source.Name)
	}
}

// differ lists what is in a and not in b, the ends of long rows only.
func differ(a, b []string) (list []string) {
	for _, row := range a {
		if _, found := slices.BinarySearch(b, row); !found {
			list = append(list, row[:min(len(row), 60)]+" ... "+row[max(0, len(row)-150):])
		}
	}
	return list
}

func rows(t testing.TB, conn *pgx.Conn, columns string, tab table.Table, where string) []string {
	t.Helper()
	q := "select r from (select row(" + columns + ")::text as r from " + tab.From() + " where " + where + `) as x order by r collate "C"`
	found, err := conn.Query(t.Context(), q)
	require.NoError(t, err)
	list, err := pgx.CollectRows(found, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// exec runs SQL at the source, with its schema in front.
func (w *world) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := w.source.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// count is the number of rows at the target that a condition is true of.
func (w *world) count(t testing.TB, from string) (n int) {
	t.Helper()
	require.NoError(t, w.target.QueryRow(t.Context(), "select count(*) from "+from).Scan(&n))
	return n
}

func (w *world) stream(t testing.TB, dsn string) *repl.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	c, err := repl.Connect(t.Context(), cfg)
	require.NoError(t, err)
	return c
}

// installed makes a database with landlord's tables beside the data.
func installed(t testing.TB) string {
	t.Helper()
	return pgtest.Clone(t, "move/follow: home objects", func(ctx context.Context, conn *pgx.Conn) error {
		pw := isolation.Passwords{
			App:      placement.DerivePassword("secret of the tests' application", isolation.AppRole),
			Admin:    placement.DerivePassword("secret of the tests' admin", isolation.AdminRole),
			Migrator: placement.DerivePassword("secret of the tests' admin", isolation.MigratorRole),
		}
		if _, err := isolation.EnsureRoles(ctx, conn, isolation.Plain, pw); err != nil {
			return err
		}
		key, err := isolation.NewKey(1)
		if err != nil {
			return err
		}
		_, err = isolation.Install(ctx, conn, isolation.Identity{
			Installation: uuid.NewString(), Cluster: "b", Stamp: uuid.NewString(), AppLogin: isolation.AppRole, Mode: isolation.Plain,
		}, isolation.Keyring{key})
		return err
	})
}

// streams opens replication connections.
func streams(dsn string) func(context.Context) (*repl.Conn, error) {
	return func(ctx context.Context) (*repl.Conn, error) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		c, err := repl.Connect(ctx, cfg)
		if err == nil {
			c.Patience = 5 * time.Second
		}
		return c, err
	}
}

// connector opens the mover's sessions.
func connector(dsn string) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		maps.Copy(cfg.RuntimeParams, map[string]string{
			"application_name": "landlord move", "row_security": "off", "search_path": "pg_catalog", "datestyle": "ISO", "intervalstyle": "postgres",
			"extra_float_digits": "3", "bytea_output": "hex", "timezone": "UTC", "client_encoding": "UTF8",
		})
		return pgx.ConnectConfig(ctx, cfg)
	}
}

func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}
