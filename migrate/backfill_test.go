package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
)

// small are batches that leave something for the next one.
var small = migrate.Batches{First: 7, Most: 11}

// shape is a table that can be gone through, and a backfill that counts how often it has seen each row.
type shape struct {
	create, fill string
	backfill     string // default: update t set n = n + 1
	unseen       string // rows that the backfill leaves alone, as a condition
}

var shapes = map[string]shape{
	"one column": {create: "create table t (id bigint primary key, n int default 0)", fill: "insert into t select i from generate_series(1, 100) i"},
	"a tenant's": {
		create: "create table t (tenant_id uuid, id bigint, n int default 0, primary key (tenant_id, id))",
		fill: "insert into t select uuid(lpad(to_hex(i % 3), 32, '0')), i from generate_series(1, 90) i;" +
			"insert into t values ('" + tenantID + "', -5), ('" + other + "', 4)",
	},
	"three columns": {
		create: "create table t (a int, b int, c int, n int default 0, primary key (c, a, b))",
		fill:   "insert into t select a, b, c from generate_series(1, 4) a, generate_series(1, 4) b, generate_series(1, 4) c",
	},
	"hostile texts": {
		create: `create table t (k text collate "C" primary key, n int default 0)`,
		fill:   `insert into t select e'\\\'"${}\n,' || chr(i) from generate_series(1, 60) i; insert into t values (''), ('null'), ('NULL'), (' ')`,
	},
	"texts as people sort them": {
		create: `create table t (k varchar(9), at timestamptz(3), n int default 0, primary key (k, at))`,
		fill:   `insert into t select chr(64 + i % 60), timestamptz '2030-01-01' + i * interval '1 day' / 7 from generate_series(1, 60) i`,
	},
	"rare types": {
		create: `create type mood as enum ('sad', 'b a"d', 'happy'); create domain one as int check (value > 0);
			create table t (m mood, d one, c char(5), f float8, b bytea, n int default 0, primary key (m, d, c, f, b))`,
		fill: `insert into t select m, i, 'x', i / 3::float8, decode(lpad(to_hex(i), 4, '0'), 'hex') from unnest(enum_range(null::mood)) m, generate_series(1, 20) i;
			insert into t values ('sad', 1, 'x', 'nan', ''), ('sad', 1, '', '-infinity', '\x00')`,
	},
	"partitions": {
		create: `create table t (tenant_id uuid, id int, n int default 0, primary key (tenant_id, id)) partition by hash (tenant_id);
			create table t_0 partition of t for values with (modulus 2, remainder 0); create table t_1 partition of t for values with (modulus 2, remainder 1)`,
		fill: "insert into t select uuid(lpad(to_hex(i % 9), 32, '0')), i from generate_series(1, 90) i",
	},
	"quoted names": {
		create:   `create table "Order ""Lines" ("Id" int primary key, "set" int, n int default 0)`,
		fill:     `insert into "Order ""Lines" select i from generate_series(1, 50) i`,
		backfill: `update "Order ""Lines" set "set" = 5, n = n + 1`,
	},
	"only the parent": {
		create:   "create table t (id int primary key, n int default 0); create table child () inherits (t)",
		fill:     "insert into t select i from generate_series(1, 40) i; insert into child select i from generate_series(1, 40) i",
		backfill: "update only t set n = n + 1", unseen: "tableoid = 'child'::regclass",
	},
	"children too": {
		create: "create table t (id int primary key, n int default 0); create table child () inherits (t)",
		fill:   "insert into t select i from generate_series(1, 40) i; insert into child select i / 4 from generate_series(1, 40) i",
	},
	"a condition with or": {
		create:   "create table t (id int primary key, n int default 0)",
		fill:     "insert into t select i from generate_series(1, 60) i",
		backfill: "-- why\nupdate t set n = n + 1 where id < 20 -- or not\n or id > 40 /* so */ -- at last\n", unseen: "id between 20 and 40",
	},
	"an alias, another table and an answer": {
		create:   "create table t (id int primary key, n int default 0); create table u (id int, by int)",
		fill:     "insert into t select i from generate_series(1, 60) i; insert into u select i, 1 from generate_series(1, 50) i; insert into u values (3, 1)",
		backfill: "update t as x set n = x.n + u.by from u where u.id = x.id returning $a$ where ; $a$, x.id, (select 1 where true)", unseen: "id > 50",
	},
	"a statement with subqueries": {
		create:   "create table t (id int primary key, n int default 0); create table u (id int)",
		fill:     "insert into t select i from generate_series(1, 60) i; insert into u select i from generate_series(31, 90) i",
		backfill: "update t set (n) = (select n + 1 from (select 1 where true) w) where exists (select from u where u.id = t.id)", unseen: "id <= 30",
	},
}

// prepare makes a shape's table, a set whose second file is the backfill, and its rows.
func (s shape) prepare(t *testing.T, conn *pgx.Conn) (migrate.Migration, string) {
	t.Helper()
	table := "t"
	if strings.Contains(s.create, `"Order`) {
		table = `"Order ""Lines"`
	}
	if s.backfill == "" {
		s.backfill = "update t set n = n + 1"
	}
	set := load(t, fstest.MapFS{
		"1_t.sql": {Data: []byte("-- +goose Up\n" + s.create + ";")},
		"2_n.sql": {Data: []byte("-- landlord: phase=backfill\n-- +goose Up\n" + s.backfill + "\n;")},
	})
	_, err := set.Migrations()[0].Apply(t.Context(), conn, public, first, limits)
	require.NoError(t, err)
	_, err = superuser(t, conn).PgConn().Exec(t.Context(), s.fill).ReadAll()
	require.NoError(t, err)
	return set.Migrations()[1], table
}

// requireOnce asserts that the backfill has seen every row that it was to see, once.
func (s shape) requireOnce(t *testing.T, conn *pgx.Conn, table string) {
	t.Helper()
	unseen := s.unseen
	if unseen == "" {
		unseen = "false"
	}
	q := fmt.Sprintf("select n || ' ' || (%s) from %s group by 1 order by 1", unseen, table)
	want := []string{"1 false"}
	if s.unseen != "" {
		want = []string{"0 true", "1 false"}
	}
	require.Equal(t, want, texts(t, superuser(t, conn), q))
}

func open(t *testing.T, m migrate.Migration, conn *pgx.Conn, lease int64, size migrate.Batches) *migrate.Backfill {
	t.Helper()
	b, err := m.Backfill(conn, public, migrate.Attempt{Run: run, Lease: lease}, limits, size)
	require.NoError(t, err)
	return b
}

// finish runs batches until the last and returns how many they were.
func finish(ctx context.Context, b *migrate.Backfill) (batches int, last migrate.Batch, err error) {
	for err == nil && !last.Last {
		last, err = b.Batch(ctx)
		batches++
	}
	return batches, last, err
}

func TestABackfillSeesEveryRowOnceWhateverTheKeyAndTheStatement(t *testing.T) {
	t.Parallel()
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newHome(t)
			m, table := s.prepare(t, conn)
			batches, last, err := finish(t.Context(), open(t, m, conn, 1, small))
			require.NoError(t, err)
			require.Greater(t, batches, 3)
			s.requireOnce(t, conn, table)
			seen := texts(t, superuser(t, conn), "select count(*)::text from "+table+" where n = 1")
			require.Equal(t, []string{fmt.Sprint(last.Total)}, seen)
			require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
			require.Equal(t, []string{"backfill"}, texts(t, conn, "select phase from landlord.schema_version where version = 2"))

			_, last, err = finish(t.Context(), open(t, m, conn, 1, small))
			require.NoError(t, err, "it is there already")
			require.Equal(t, migrate.Batch{Last: true}, last)
			s.requireOnce(t, conn, table)
		})
	}
}

func TestADeletingBackfillComesToItsEnd(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"delete from t where id % 2 = 0", "DELETE FROM t AS x USING u -- pairs\nWHERE u.id = x.id", "delete from t"} {
		conn := newHome(t)
		s := shape{
			create: "create table t (tenant_id uuid, id int, primary key (tenant_id, id)); create table u (id int)", backfill: sql,
			fill: "insert into t select '" + tenantID + "', i from generate_series(1, 100) i; insert into u select i from generate_series(2, 100, 2) i",
		}
		m, _ := s.prepare(t, conn)
		_, last, err := finish(t.Context(), open(t, m, conn, 1, small))
		require.NoError(t, err, sql)
		left := texts(t, superuser(t, conn), "select count(*)::text from t where id % 2 = 1 union all select count(*)::text from t where id % 2 = 0")
		want := map[bool][]string{true: {"0", "0"}, false: {"50", "0"}}[sql == "delete from t"]
		require.Equal(t, want, left, sql)
		require.Contains(t, []int64{50, 100}, last.Total)
	}
}

func TestABackfillOfNothingIsApplied(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["a tenant's"]
	s.fill = ""
	m, _ := s.prepare(t, conn)
	batches, last, err := finish(t.Context(), open(t, m, conn, 1, small))
	require.NoError(t, err)
	require.Equal(t, 1, batches)
	require.True(t, last.Last)
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
}

// A new home is empty: the statement is run as it stands.
func TestANewHomeIsBuiltWithItsBackfills(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, fstest.MapFS{
		"1_t.sql": {Data: []byte("-- +goose Up\ncreate table t (tenant_id uuid, id int, n int, primary key (tenant_id, id));")},
		"2_n.sql": {Data: []byte("-- landlord: phase=backfill\n-- +goose Up\nupdate t set n = 0 where n is null;")},
	})
	require.NoError(t, set.Build(t.Context(), conn, "public", ""))
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
}

func TestABackfillEndsUnderInserts(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["one column"]
	m, table := s.prepare(t, conn)
	super := superuser(t, conn)
	b := open(t, m, conn, 1, small)
	for i := 0; ; i++ {
		last, err := b.Batch(t.Context())
		require.NoError(t, err)
		if last.Last {
			break
		}
		require.Less(t, i, 40)
		_, err = super.Exec(t.Context(), "insert into t (id) select max(id) + i from t, generate_series(1, 20) i group by i")
		require.NoError(t, err)
	}
	require.Equal(t, []string{"0 false", "1 true"}, texts(t, super, "select n || ' ' || (id <= 100) from "+table+" group by 1 order by 1"))
}

// cutting is a connection that breaks before or after a message.
type cutting struct {
	net.Conn
	left  *atomic.Int32
	after bool
}

func (c cutting) Write(p []byte) (int, error) {
	if c.left.Add(-1) > 0 {
		return c.Conn.Write(p)
	}
	if c.after { // the server does it all, and nobody hears of it
		if _, err := c.Conn.Write(p); err != nil {
			return 0, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = c.Close()
	return 0, &net.OpError{Op: "write", Err: errors.New("cut")}
}

func TestABackfillThatIsCutOffAnywhereIsGoneOnWith(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["a tenant's"]
	m, table := s.prepare(t, conn)
	cuts := 0
	for lease := int64(1); ; lease++ {
		cfg := conn.Config()
		left := &atomic.Int32{}
		left.Store(1 << 20)
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return cutting{c, left, lease%2 == 0}, err
		}
		broken, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		left.Store(3 + int32(lease%4)) // begin, seek, and some batches
		_, _, err = finish(t.Context(), open(t, m, broken, lease, small))
		_ = broken.Close(t.Context())
		if err == nil {
			break
		}
		require.Equal(t, migrate.Unreachable, migrate.Judge(err), "%v", err)
		require.Less(t, lease, int64(60))
		cuts++
	}
	require.Greater(t, cuts, 4)
	s.requireOnce(t, conn, table)
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
	require.Equal(t, []string{"92 true"}, texts(t, conn, "select done || ' ' || (cursor is null and upper is null) from landlord.backfill"),
		"no key of a row stays behind")
}

func TestABatchIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	m, _ := shapes["a tenant's"].prepare(t, conn)
	cfg := conn.Config()
	var sent atomic.Int32
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return counted{c, &sent}, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	before := sent.Load()
	batches, _, err := finish(t.Context(), open(t, m, conn, 1, small))
	require.NoError(t, err)
	require.EqualValues(t, batches+2, sent.Load()-before, "and two to begin")
}

func TestABatchThatIsLockedOutTakesHalf(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["one column"]
	m, table := s.prepare(t, conn)
	holder := superuser(t, conn)
	_, err := holder.PgConn().Exec(t.Context(), "begin; select from t where id = 14 for update").ReadAll()
	require.NoError(t, err)
	b := open(t, m, conn, 1, migrate.Batches{First: 8, Most: 8})
	for _, want := range []int64{8, 0, 4, 0, 0, 1, 0} { // rows 1 to 8, 9 to 12, 13
		batch, err := b.Batch(t.Context())
		if want == 0 {
			require.Equal(t, migrate.Again, migrate.Judge(err), "%v", err)
			require.True(t, pgerr.Is(err, pgerr.LockNotAvailable))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, batch.Rows)
	}
	_, err = holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	_, _, err = finish(t.Context(), b)
	require.NoError(t, err)
	s.requireOnce(t, conn, table)
}

func TestAWorkerThatWasOvertakenDoesNoMoreBatches(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["a tenant's"]
	m, table := s.prepare(t, conn)
	late := open(t, m, again(t, conn), 1, small)
	_, err := late.Batch(t.Context())
	require.NoError(t, err)
	b := open(t, m, conn, 2, small)
	_, err = b.Batch(t.Context())
	require.NoError(t, err)
	_, err = late.Batch(t.Context())
	require.ErrorIs(t, err, migrate.ErrOvertaken)

	// One of the same lease that does not know of the other's batch.
	twin := open(t, m, again(t, conn), 2, small)
	_, err = twin.Batch(t.Context())
	require.NoError(t, err)
	_, err = b.Batch(t.Context())
	require.ErrorIs(t, err, migrate.ErrOvertaken)
	_, _, err = finish(t.Context(), twin)
	require.NoError(t, err)
	s.requireOnce(t, conn, table)
}

func TestABatchIsRefusedLikeAnyStep(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	m, _ := shapes["a tenant's"].prepare(t, conn)
	super := superuser(t, conn)
	b := open(t, m, conn, 1, small)
	_, err := b.Batch(t.Context())
	require.NoError(t, err)
	_, err = super.Exec(t.Context(), "insert into landlord.move_hold (schema, move) values ('public', gen_random_uuid())")
	require.NoError(t, err)
	_, err = b.Batch(t.Context())
	require.Equal(t, migrate.Held, migrate.Judge(err), "%v", err)
	_, err = super.Exec(t.Context(), "delete from landlord.move_hold")
	require.NoError(t, err)

	// A cutover has the key of all who write across tenants.
	_, err = super.Exec(t.Context(), "select pg_advisory_lock(landlord.bypass_key())")
	require.NoError(t, err)
	_, err = b.Batch(t.Context())
	require.Equal(t, migrate.Again, migrate.Judge(err), "%v", err)
	_, err = super.Exec(t.Context(), "select pg_advisory_unlock_all()")
	require.NoError(t, err)

	_, err = super.Exec(t.Context(), "grant execute on all functions in schema landlord to landlord_owner; grant all on all tables in schema landlord to landlord_owner; grant usage on schema landlord to landlord_owner")
	require.NoError(t, err)
	cfg := conn.Config()
	cfg.RuntimeParams["role"] = "landlord_owner"
	owner, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer owner.Close(t.Context())
	_, err = open(t, m, owner, 9, small).Batch(t.Context())
	require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%v", err)
}

func TestABackfillThatCannotBeRunInBatchesSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]shape{
		"it changes id, which is part of the primary key": {create: "create table t (id int primary key, n int)", backfill: "update t set n = 1, id = id + 1"},
		"has no primary key":                              {create: "create table t (id int unique not null, n int)"},
		"the home has no table":                           {create: "create table u (id int primary key, n int)"},
		`column "m" of relation "t"`:                      {create: "create table t (id int primary key, n int)", backfill: "update t set m = 1"},
		"violates not-null":                               {create: "create table t (id int primary key, n int not null)", backfill: "update t set n = null"},
		"no table \"pg_class\"":                           {create: "create table t (id int primary key, n int)", backfill: "delete from \"pg_class\""},
	} {
		conn := newHome(t)
		if !strings.Contains(want, "no table") {
			s.fill = "insert into t select i, 1 from generate_series(1, 20) i"
		}
		m, _ := s.prepare(t, conn)
		_, err := open(t, m, conn, 1, small).Batch(t.Context())
		require.ErrorContains(t, err, strings.ReplaceAll(want, `no table "pg_class"`, "no table pg_class"))
		require.ErrorContains(t, err, "2_n.sql")
		require.Equal(t, migrate.Final, migrate.Judge(err))
		require.Equal(t, byte('I'), conn.PgConn().TxStatus())
	}
}

func TestAChangedBackfillBeginsAnew(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	s := shapes["one column"]
	m, table := s.prepare(t, conn)
	_, err := open(t, m, conn, 1, small).Batch(t.Context())
	require.NoError(t, err)
	again := load(t, fstest.MapFS{
		"1_t.sql": {Data: []byte("-- +goose Up\n" + s.create + ";")},
		"2_n.sql": {Data: []byte("-- landlord: phase=backfill\n-- +goose Up\nupdate t set n = n + 10;")},
	}).Migrations()[1]
	_, _, err = finish(t.Context(), open(t, again, conn, 2, small))
	require.NoError(t, err)
	require.Equal(t, []string{"10", "11"}, texts(t, superuser(t, conn), "select n::text from "+table+" group by 1 order by 1"))
}

func TestLoadRefusesWhatIsNoBackfill(t *testing.T) {
	t.Parallel()
	const one = "a backfill is one UPDATE or DELETE"
	for text, want := range map[string]string{
		"-- landlord: phase=backfill\n-- +goose Up\ninsert into a select from b;":                  one,
		"-- landlord: phase=backfill\n-- +goose Up\nupdate a set b = 1;\nupdate a set c = 1;":      one,
		"-- landlord: phase=backfill\n-- +goose Up\n-- nothing\n":                                  one,
		"-- landlord: phase=backfill\n-- +goose Up\nwith b as (select 1) delete from a using b;":   "write WITH as subqueries",
		"-- landlord: phase=backfill\n-- +goose Up\ndelete from a where ctid = '(0,1)';":           "choose rows by what is in them",
		"-- landlord: phase=backfill scope=database\n-- +goose Up\nupdate a set b = 1;":            "its scope is tenant, not database",
		"-- landlord: phase=backfill\n-- +goose NO TRANSACTION\n-- +goose Up\nupdate a set b = 1;": "take the mark NO TRANSACTION out",
		"-- landlord: phase=backfill\n-- +goose Up\nupdate public.a set b = 1;":                    "leave the name unqualified",
	} {
		_, err := migrate.Load(fstest.MapFS{"1_a.sql": {Data: []byte(text)}})
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "1_a.sql")
	}
}
