package router_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// sampleVersion is the version at which homes of the sample application are made.
const sampleVersion = 3

// demanding makes a router one of an application that was written for a version.
func demanding(version int64, wait time.Duration) func(*router.Config) {
	return func(cfg *router.Config) { cfg.SchemaVersion, cfg.SchemaWait = version, wait }
}

// addNote is the migration that brings p's home from the sample's version to the next.
func (n *neighbours) addNote(t *testing.T, p placement.Placement) {
	t.Helper()
	n.ddlAt(t, p, fmt.Sprintf(`alter table customers add column note text;
insert into landlord.schema_version (schema, version, checksum) values ('%s', %d, 'of a file')`, p.Home.Schema, sampleVersion+1))
}

// TestAHomeThatIsBehindIsRefusedUntilItIsMigrated: in every model and mode, by every call, and without a restart.
func TestAHomeThatIsBehindIsRefusedUntilItIsMigrated(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			n := newNeighbours(t, testhouse.Options{Mode: mode})
			n.each(t, demanding(sampleVersion+1, 0), func(t *testing.T, r *router.Router, p placement.Placement) {
				db, std := r.Tenant(p.Tenant), r.SQL()
				defer std.Close()
				const q = "select count(*) from customers"
				everything := func(check func(err error, way string)) {
					everyCall(t, t.Context(), db, check)
					for way, try := range sqlWays(std) {
						check(try(withTenant(t, p), q), way)
					}
					check(db.TxWith(t.Context(), router.TxOptions{Isolation: pgx.Serializable, ReadOnly: true},
						func(ctx context.Context, tx *router.Tx) error {
							return tx.Savepoint(ctx, func(context.Context, *router.Tx) error { return nil })
						}),
						"a read-only transaction with a savepoint")
					tx, err := std.BeginTx(withTenant(t, p), nil)
					require.NoError(t, err)
					_, err = tx.Exec(q)
					check(errors.Join(err, tx.Rollback()), "a transaction of database/sql")
				}
				everything(func(err error, way string) {
					require.ErrorIs(t, err, router.ErrBehind, way)
					require.True(t, pgerr.Is(err, pgerr.Behind), "%s: %v", way, err)
					require.ErrorContains(t, err, "asks for version 4 of the home's tables, which have version 3", way)
					require.Equal(t, "behind", router.Outcome(err), way)
				})
				_, err := db.Exec(t.Context(), insertCustomer, "never@example.com")
				require.ErrorIs(t, err, router.ErrBehind)
				require.Contains(t, emails(t, n.r.Tenant(p.Tenant)), email(p), "a router that demands nothing goes on")
				admin, err := r.Admin("a report")
				require.NoError(t, err)
				require.NoError(t, admin.Tx(t.Context(), p.Home.Cluster, p.Home.Database, router.TxOptions{},
					func(ctx context.Context, tx *router.Tx) error { _, err := tx.Exec(ctx, "select 1"); return err }), "nor is admin work asked")

				n.addNote(t, p)
				everything(func(err error, way string) { require.NoError(t, err, way) })
				_, err = db.Exec(t.Context(), "update customers set note = 'new'")
				require.NoError(t, err)
				require.Equal(t, []string{email(p)}, emails(t, db))
			})
		})
	}
}

// waits counts how often a router says that it tries a tenant again.
type waits struct{ n atomic.Int64 }

func (*waits) Enabled(context.Context, slog.Level) bool { return true }
func (w *waits) WithAttrs([]slog.Attr) slog.Handler     { return w }
func (w *waits) WithGroup(string) slog.Handler          { return w }

func (w *waits) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "tenant is not open at its home, trying again" {
		w.n.Add(1)
	}
	return nil
}

func (w *waits) log(cfg *router.Config) { cfg.Logger = slog.New(w) }

func TestACallWaitsForAHomeThatIsBeingMigrated(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, nil, func(t *testing.T, _ *router.Router, p placement.Placement) {
		var w waits
		r := n.Router(t, one, w.log, demanding(sampleVersion+1, time.Minute))
		db := r.Tenant(p.Tenant)
		done := make(chan error, 2)
		go func() {
			_, err := db.Exec(t.Context(), "update customers set note = 'new'")
			done <- err
		}()
		go func() {
			done <- db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select note from customers")
				return err
			})
		}()
		eventually(t, func() bool { return w.n.Load() >= 6 }, "they wait, and by turns")

		conn := n.Super(t, p.Home.Database)
		tx, err := conn.Begin(t.Context()) // a run that takes its time
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "insert into landlord.schema_version (schema, version, checksum) values ($1, $2, 'of a file')",
			p.Home.Schema, sampleVersion+1)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "alter table "+pgx.Identifier{p.Home.Schema, "customers"}.Sanitize()+" add column note text")
		require.NoError(t, err)
		before := w.n.Load()
		eventually(t, func() bool { return w.n.Load() >= before+4 }, "and no lock of the run holds them up")
		require.NoError(t, tx.Commit(t.Context()))
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	})
}

func TestACallWaitsForAHomeThatIsBehindNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, nil, func(t *testing.T, _ *router.Router, p placement.Placement) {
		var w waits
		db := n.Router(t, w.log, demanding(sampleVersion+1, 100*time.Millisecond)).Tenant(p.Tenant)
		_, err := db.Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, router.ErrBehind)
		require.Positive(t, w.n.Load())

		w.n.Store(0)
		_, err = n.Router(t, w.log, demanding(sampleVersion+1, 0)).Tenant(p.Tenant).Exec(t.Context(), "select 1")
		require.ErrorIs(t, err, router.ErrBehind)
		require.Zero(t, w.n.Load())

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = n.Router(t, demanding(sampleVersion+1, time.Minute)).Tenant(p.Tenant).Exec(ctx, "select 1")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// packets counts what a router sends to homes: Bind messages, which are statements that run, and packets' ends.
type packets struct {
	mu          sync.Mutex
	binds, ends int
}

func (p *packets) dial(cfg *router.Config) {
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &countedConn{Conn: conn, p: p, lead: 0}, err
	}
}

// since returns what was sent since the last call.
func (p *packets) since() (binds, ends int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	binds, ends = p.binds, p.ends
	p.binds, p.ends = 0, 0
	return binds, ends
}

// countedConn reads along what is written: messages of a type, but for the first, a length and so many bytes.
type countedConn struct {
	net.Conn
	p    *packets
	seen []byte
	lead int // bytes before the length: 0 for the first message, then 1
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	c.seen = append(c.seen, b...)
	for len(c.seen) >= c.lead+4 {
		size := c.lead + int(binary.BigEndian.Uint32(c.seen[c.lead:]))
		if len(c.seen) < size {
			break
		}
		if c.lead == 1 {
			switch c.seen[0] {
			case 'B':
				c.p.binds++
			case 'S', 'H':
				c.p.ends++
			}
		}
		c.seen, c.lead = c.seen[size:], 1
	}
	c.p.mu.Unlock()
	return c.Conn.Write(b)
}

// TestAHomeIsAskedForItsVersionOnce: with the first packet that goes there, which stays one round trip, and again only after its
// tenant's placement has changed.
func TestAHomeIsAskedForItsVersionOnce(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, nil, func(t *testing.T, _ *router.Router, p placement.Placement) {
		var plain, asking packets
		free := n.Router(t, one, plain.dial).Tenant(p.Tenant)
		db := n.Router(t, one, asking.dial, demanding(sampleVersion, 0)).Tenant(p.Tenant)
		send := func(db *router.DB) {
			t.Helper()
			_, err := db.Exec(t.Context(), "select count(*) from customers")
			require.NoError(t, err)
		}
		send(free)
		send(db)
		plain.since()
		first, _ := asking.since()
		send(free)
		usual, ends := plain.since()
		require.Equal(t, 1, ends)
		require.Positive(t, first)
		for range 3 {
			send(db)
			binds, ends := asking.since()
			require.Equal(t, usual, binds)
			require.Equal(t, 1, ends)
			require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
				_, err := tx.Exec(ctx, "select count(*) from customers")
				return err
			}))
			binds, _ = asking.since()
			require.Equal(t, usual+1, binds, "and begin")
		}
		if p.Model == placement.ModelShared { // many tenants, one place
			next := n.Router(t, one, asking.dial, demanding(sampleVersion, 0))
			send(next.Tenant(p.Tenant))
			send(next.Tenant(n.next(p.Model).Tenant))
			asking.since()
			send(next.Tenant(n.next(p.Model).Tenant))
			binds, _ := asking.since()
			require.Equal(t, usual, binds)
			return
		}
		if p.Model == placement.ModelDatabase {
			return // as shared: the place is the database's only one
		}

		// The placement changes: the old route is refused, and the new one asks, in one packet with the statement.
		_, err := n.Super(t, p.Home.Database).Exec(t.Context(),
			"update landlord.fence set epoch = epoch + 1 where tenant = $1", p.Tenant.String())
		require.NoError(t, err)
		moved := p
		moved.Epoch++
		require.NoError(t, n.Catalog.SetPlacement(t.Context(), p.Epoch, moved))
		send(db)
		binds, ends := asking.since()
		require.Equal(t, usual+usual+1, binds)
		require.Equal(t, 2, ends)
		send(db)
		binds, _ = asking.since()
		require.Equal(t, usual, binds)
	})
}

// TestAHomeOfTheReleaseBeforeIsServed: services go on until landlord init has upgraded it, and after.
func TestAHomeOfTheReleaseBeforeIsServed(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	p := n.here[placement.ModelSchema]
	n.SuperExec(t, p.Home.Database, fmt.Sprintf(`drop table landlord.seal_key_age; -- made by the last version
update landlord.identity set version = %d, checksum = 'of an older release'`, isolation.Version-1))
	ask := func() error {
		_, err := n.Router(t).Tenant(p.Tenant).Exec(t.Context(), "select 1")
		return err
	}
	require.NoError(t, ask())
	cluster, err := n.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	_, err = n.Service.SetUp(t.Context(), cluster)
	require.NoError(t, err)
	require.NoError(t, ask())
}
