package cutover_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is longer than anything here takes.
const patience = 2 * time.Minute

// moving is a tenant on its way: its rows are in both homes, and changes of the one are followed to the other.
type moving struct {
	*testhouse.House
	from, to placement.Placement
	move     string
	owner    string
	pairs    []table.Pair // forward
	back     bool         // the tenant lives at to
	slots    [2]string    // forward, reverse
	start    [2]repl.LSN
	follower *follow.Follower
}

// begin brings a tenant to a home of one model and makes one of another model for it, both still empty. Both streams are there.
func begin(t *testing.T, h *testhouse.House, from, to placement.Model, cluster string) *moving {
	t.Helper()
	slug := fmt.Sprintf("%s-%s-%s", from, to, uuid.NewString()[:8])
	m := &moving{House: h, from: h.Add(t, slug, from, "a"), move: uuid.NewString(), owner: uuid.NewString()}
	ctx := t.Context()
	m.to = m.from
	m.to.Epoch, m.to.Model = m.from.Epoch+1, to
	c, err := h.Catalog.Cluster(ctx, cluster)
	require.NoError(t, err)
	m.to.Home = placement.Home{Cluster: cluster, Database: c.SharedDatabase, Schema: placement.SharedSchema}
	name := "t_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "")
	switch to {
	case placement.ModelSchema:
		m.to.Home.Schema = name
	case placement.ModelDatabase:
		m.to.Home.Database = name
	case placement.ModelShared:
	}
	require.NoError(t, h.Service.Make(ctx, m.to, m.owner))
	h.Forget(t, m.to)

	source, target := m.tables(t, m.from), m.tables(t, m.to)
	var problems []table.Problem
	m.pairs, problems = table.Match(source, target, m.from.Tenant.String())
	require.Empty(t, problems)
	for i, side := range []struct {
		at    placement.Placement
		pairs []table.Pair
	}{{m.from, m.pairs}, {m.to, reversed(m.pairs)}} {
		m.slots[i] = fmt.Sprintf("m%s_%d", strings.ReplaceAll(m.move, "-", "")[:20], i)
		m.stream(t, i, side.at, side.pairs)
	}
	return m
}

func reversed(pairs []table.Pair) (back []table.Pair) {
	for _, p := range pairs {
		back = append(back, p.Reverse())
	}
	return back
}

func (m *moving) tables(t *testing.T, p placement.Placement) []table.Table {
	t.Helper()
	found, err := table.Inspect(t.Context(), m.Super(t, p.Home.Database), table.Home{Schema: p.Home.Schema, Dedicated: p.Model != placement.ModelShared})
	require.NoError(t, err)
	return found
}

// stream makes a publication and a slot of the same name.
func (m *moving) stream(t *testing.T, i int, at placement.Placement, pairs []table.Pair) {
	t.Helper()
	var tables []string
	for _, p := range pairs {
		s := "table " + p.Source.SQL()
		if at.Model == placement.ModelShared {
			s += " where (" + p.Source.Whose(p.Tenant) + ")"
		}
		tables = append(tables, s)
	}
	super := m.Super(t, at.Home.Database)
	_, err := super.Exec(t.Context(), "create publication "+m.slots[i]+" for "+strings.Join(tables, ", ")+" with (publish_via_partition_root = true)")
	require.NoError(t, err)
	conn, err := repl.Connect(t.Context(), super.Config())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	m.start[i], err = conn.CreateSlot(t.Context(), m.slots[i], patience)
	require.NoError(t, err)
}

// connect opens sessions as the mover does.
func (m *moving) connect(p placement.Placement) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(pgtest.WithDatabase(m.Server.DSN, p.Home.Database))
		if err != nil {
			return nil, err
		}
		maps.Copy(cfg.RuntimeParams, map[string]string{
			"application_name": "landlord move", "row_security": "off", "datestyle": "ISO", "timezone": "UTC", "synchronous_commit": "on",
			"search_path": "pg_catalog",
		})
		return pgx.ConnectConfig(ctx, cfg)
	}
}

// follow starts the follower of the direction in which the tenant would go next. It runs until stop is called, or the test ends.
func (m *moving) follow(t *testing.T) (stop func()) {
	t.Helper()
	i, from, to := 0, m.from, m.to
	cfg := follow.Config{Direction: follow.Forward, Pairs: m.pairs, From: m.start[0]}
	state := isolation.Importing
	if m.back {
		i, from, to = 1, m.to, m.from
		cfg.Direction, cfg.Pairs, cfg.From, state = follow.Reverse, reversed(m.pairs), m.start[1], isolation.Moved
	}
	cfg.Move, cfg.Slot, cfg.Publication = m.move, m.slots[i], m.slots[i]
	cfg.Source, cfg.Target = m.connect(from), m.connect(to)
	cfg.Stream = func(ctx context.Context) (*repl.Conn, error) {
		c, err := pgx.ParseConfig(pgtest.WithDatabase(m.Server.DSN, from.Home.Database))
		if err != nil {
			return nil, err
		}
		return repl.Connect(ctx, c)
	}
	cfg.Fence = follow.Fence{FenceKey: key(to), State: state, Owner: m.owner}
	f, err := follow.New(cfg)
	require.NoError(t, err)
	m.follower = f
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, follow.ErrFencedOff) {
			t.Errorf("the follower ended: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		m.dropSlot(t, m.slots[i])
	})
	return stop
}

// dropSlot drops a slot whose reader may be on its way out.
func (m *moving) dropSlot(t *testing.T, name string) {
	t.Helper()
	m.SuperExec(t, "postgres", `
do $$ begin
    perform pg_terminate_backend(active_pid, 20000) from pg_replication_slots where slot_name = '`+name+`' and active;
    perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '`+name+`';
end $$`)
}

func key(p placement.Placement) isolation.FenceKey {
	return isolation.FenceKey{Tenant: p.Tenant.String(), Home: p.Home.String()}
}

// config is that of a cutover to where the tenant does not live.
func (m *moving) config(t *testing.T) cutover.Config {
	t.Helper()
	from, to, state, pairs := m.from, m.to, isolation.Importing, m.pairs
	if m.back {
		from, to, state, pairs = m.to, m.from, isolation.Moved, reversed(m.pairs)
		to.Epoch = from.Epoch + 1
	}
	id, err := isolation.ReadIdentity(t.Context(), m.Super(t, to.Home.Database))
	require.NoError(t, err)
	return cutover.Config{
		Move: m.move, Owner: m.owner,
		From:    cutover.Home{Key: key(from), Model: string(from.Model), Epoch: from.Epoch, Connect: m.connect(from)},
		To:      cutover.Home{Key: key(to), Model: string(to.Model), Epoch: to.Epoch, Connect: m.connect(to)},
		ToState: state,
		Address: isolation.Address{
			Home: to.Home.String(), Model: string(to.Model), Epoch: to.Epoch, Stamp: id.Stamp, Login: id.AppLogin,
		},
		Follower: m.follower, Sequences: cutover.Sequences(pairs, nil, nil, to.Model == placement.ModelShared),
		Same: from.Home.Database == to.Home.Database && from.Home.Cluster == to.Home.Cluster, Back: !m.back,
		MaxPause: 3 * time.Second, MaxLag: time.Second, LockTimeout: time.Second, MaxStalls: 1000, Patience: patience,
	}
}

func (m *moving) cutover(t *testing.T, change ...func(*cutover.Config)) *cutover.Cutover {
	t.Helper()
	cfg := m.config(t)
	for _, c := range change {
		c(&cfg)
	}
	c, err := cutover.New(cfg)
	require.NoError(t, err)
	return c
}

// turn records that the tenant lives at the other home now.
func (m *moving) turn(t *testing.T, r cutover.Result) {
	t.Helper()
	for _, s := range []interface{ Close(context.Context) error }{r.Before, r.After} {
		require.NoError(t, s.Close(t.Context()))
	}
	if m.back {
		m.from.Epoch = m.to.Epoch + 1
	} else {
		m.start[1] = r.Back
	}
	m.back = !m.back
}

// fence is the row of one home.
func (m *moving) fence(t *testing.T, p placement.Placement) isolation.Fence {
	t.Helper()
	f, err := isolation.ReadFence(t.Context(), m.Super(t, p.Home.Database), key(p))
	require.NoError(t, err)
	return f
}

// load is writers with a ledger of what they were told is committed.
type load struct {
	stop func()
	done sync.WaitGroup

	mu    sync.Mutex // guards what follows
	acked []string
	at    []time.Time // of each
	errs  []error
}

// write starts writers, each with calls of its own kind. They go on until stop is called.
func write(t *testing.T, db *router.DB, writers int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	const insert = "insert into customers (email, name) values ($1, '')"
	kinds := []func(context.Context, string) error{
		func(ctx context.Context, id string) error {
			_, err := db.Exec(ctx, insert, id)
			return err
		},
		func(ctx context.Context, id string) error {
			return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
				if _, err := tx.Exec(ctx, insert, id); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "update customers set name = 'second' where email = $1", id)
				return err
			})
		},
		func(ctx context.Context, id string) error {
			b := &pgx.Batch{}
			b.Queue(insert, id)
			b.Queue("select 1")
			return db.SendBatch(ctx, b).Close()
		},
		func(ctx context.Context, id string) error {
			_, err := db.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows([][]any{{id, ""}}))
			return err
		},
		func(ctx context.Context, id string) error {
			return db.TxWith(ctx, router.TxOptions{Isolation: pgx.RepeatableRead}, func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, insert, id)
				return err
			})
		},
	}
	for w := range writers {
		l.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d@example.com", w, n)
				err := kinds[(w+n)%len(kinds)](t.Context(), id)
				l.mu.Lock()
				if err == nil {
					l.acked, l.at = append(l.acked, id), append(l.at, time.Now())
				} else {
					l.errs = append(l.errs, err)
				}
				l.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

// end stops the writers and waits for them.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// some waits until n more writes were acknowledged.
func (l *load) some(t *testing.T, n int) {
	t.Helper()
	have := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.errs) > 0 {
			require.NoError(t, l.errs[0])
		}
		return len(l.acked)
	}
	goal := have() + n
	require.Eventually(t, func() bool { return have() >= goal }, patience, time.Millisecond)
}

// gap is the longest time without an acknowledged write.
func (l *load) gap() (longest time.Duration) {
	at := slices.SortedFunc(slices.Values(l.at), time.Time.Compare)
	for i := 1; i < len(at); i++ {
		longest = max(longest, at[i].Sub(at[i-1]))
	}
	return longest
}

// at reads the customers that the tenant has at a home, whatever its fence says.
func (m *moving) at(t *testing.T, p placement.Placement) (emails []string) {
	t.Helper()
	q := "select email from " + pgx.Identifier{p.Home.Schema, "customers"}.Sanitize() + " where tenant_id = $1"
	rows, err := m.Super(t, p.Home.Database).Query(t.Context(), q, p.Tenant.String())
	require.NoError(t, err)
	emails, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return emails
}
