package follow_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
)

// notes is a table whose rows are long enough to be stored apart, and which has a second unique key.
const notes = `
create table notes (
    tenant_id uuid not null default '` + tenant + `', id bigint not null, name text, body text, n numeric,
    primary key (tenant_id, id), unique (tenant_id, name));
alter table notes alter body set storage external`

func TestEveryKindOfChangeArrives(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back=%t", back), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{back: back}, notes, ``)
			f := w.follow(t)
			for _, sql := range []string{
				`insert into notes (id, name, body, n) select g, 'n' || g, repeat('b', 5000), g from generate_series(1, 20) g`,
				`update notes set n = 1.50 where id = 1`, // the body is not told
				`update notes set id = 101 where id = 2`, // nor here, and the key is new
				`update notes set id = id + 1000, body = 'short', name = null where id = 3`,
				`delete from notes where id = 4`,
				`insert into notes (id, name) values (4, '')`,
				`update notes set body = repeat('c', 5000) where id = 5`,
				`begin; update notes set n = 7 where id = 6; update notes set id = 106 where id = 6; update notes set n = 8 where id = 106; commit`,
				`begin; delete from notes where id = 7; insert into notes (id, name, body) values (7, 'again', repeat('d', 5000)); update notes set n = 9 where id = 7; commit`,
				`begin; update notes set name = 'x' where id = 8; update notes set name = 'n8' where id = 9; update notes set name = 'n9' where id = 8; commit`,
				`begin; insert into notes (id) values (500); delete from notes where id = 500; commit`,
				`update notes set id = id where id = 10`,
			} {
				w.exec(t, sql)
			}
			w.sync(t, f)
			w.equal(t)
			require.Equal(t, 1, w.count(t, "landlord.move_progress where lsn > '"+w.from.String()+"'"))
			// The same, as one batch.
			f.end(t)
			w.exec(t, `update notes set n = n + 1, name = 'm' || id`)
			w.exec(t, `update notes set id = id + 10000 where id % 2 = 0`)
			w.exec(t, `update notes set name = 'k' || id where id % 3 = 0`)
			again := w.follow(t)
			w.sync(t, again)
			w.equal(t)
		})
	}
}

func TestOtherTenantsRowsAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{back: true}, notes, `insert into notes (id, name) values (1, 'a')`)
	_, err := w.target.Exec(t.Context(), `insert into notes (tenant_id, id, name) values ($1, 1, 'theirs'), ($1, 2, 'a')`, other)
	require.NoError(t, err)
	w.copy(t, 0)
	f := w.follow(t)
	w.exec(t, `update notes set name = 'b', id = 2`)
	w.exec(t, `update notes set n = 3`)
	w.exec(t, `insert into notes (id) values (1)`)
	w.exec(t, `delete from notes`)
	w.exec(t, `insert into notes (id, name) values (9, 'a')`)
	w.sync(t, f)
	w.equal(t)
	require.Equal(t, 2, w.count(t, `notes where tenant_id = '`+other+`' and (id, name) in ((1, 'theirs'), (2, 'a'))`))
}

func TestRowsThatEnterAndLeaveTheTenantArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, `insert into notes (tenant_id, id, body) select '`+other+`', g, repeat('b', 5000) from generate_series(1, 3) g`)
	f := w.follow(t)
	w.exec(t, `update notes set tenant_id = $1 where id < 3`, tenant) // the body is not told
	w.exec(t, `update notes set tenant_id = $1 where id = 2`, other)
	w.sync(t, f)
	w.equal(t)
	require.Equal(t, 1, w.count(t, `"t_""x".notes where length(body) = 5000`))
}

func TestUniqueValuesThatRowsExchangeAreApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, `insert into notes (id, name) select g, 'n' || g from generate_series(1, 300) g`)
	w.copy(t, 0)
	w.exec(t, `begin; update notes set name = 'x' || id; update notes set name = 'n' || (id % 300 + 1); commit`)
	w.exec(t, `begin; update notes set name = null where id = 1; update notes set name = 'n2' where id = 2; commit`)
	f := w.follow(t)
	w.sync(t, f)
	w.equal(t)
}

func TestNewKeyInAnotherChunkIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, `insert into notes (id, name, body) select g, 'n' || g, repeat('b', 5000) from generate_series(1, 10) g`)
	w.config.Copied = apart{}
	// Rows up to 10 are copied before the changes, those above after them.
	_, err := w.target.Exec(t.Context(), `insert into "t_""x".notes (id, name, body) select g, 'n' || g, repeat('b', 5000) from generate_series(1, 10) g`)
	require.NoError(t, err)
	w.exec(t, `update notes set id = 100 where id = 1`) // away, to where the copy has brought it
	w.exec(t, `insert into notes (id, name, body) values (101, 'new', repeat('c', 5000))`)
	w.exec(t, `update notes set id = 0 where id = 101`) // here, from where the copy has not seen it: the body is told by nobody
	w.exec(t, `update notes set id = 102 where id = 5`)
	w.exec(t, `update notes set id = 103 where id = 102`)
	w.exec(t, `update notes set id = 5, n = 4 where id = 103`)
	_, err = w.target.Exec(t.Context(), `insert into "t_""x".notes (id, name, body) values (100, null, repeat('b', 5000))`)
	require.NoError(t, err)
	w.exec(t, `update notes set name = null where id = 100`)
	f := w.follow(t)
	w.sync(t, f)
	w.equal(t)
}

// apart is a copy that has seen everything of the keys above 10, and nothing of the others.
type apart struct{}

func (apart) Until() uint64 { return 1 << 62 }

func (apart) Ahead(table.Pair, uint64) bool { return true }

func (apart) Close(context.Context) {}

func (apart) Seen(_ context.Context, _ table.Pair, keys [][]string, _ []uint64) ([]bool, error) {
	seen := make([]bool, len(keys))
	for i, k := range keys {
		seen[i] = len(k[0]) > 2
	}
	return seen, nil
}

func TestOwnerThatWasReplacedWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	f := w.follow(t)
	w.exec(t, `insert into notes (id) values (1)`)
	w.sync(t, f)
	var before string
	require.NoError(t, w.target.QueryRow(t.Context(), `select lsn::text from landlord.move_progress`).Scan(&before))
	_, err := w.target.Exec(t.Context(), `update landlord.fence set owner = gen_random_uuid()`)
	require.NoError(t, err)
	w.exec(t, `insert into notes (id) values (2)`)
	require.ErrorIs(t, f.fails(t), follow.ErrFencedOff)
	require.Equal(t, 1, w.count(t, `"t_""x".notes`))
	require.Equal(t, 1, w.count(t, `landlord.move_progress where lsn = '`+before+`'`))
	again := w.follow(t)
	require.ErrorIs(t, again.fails(t), follow.ErrFencedOff)
}

func TestHomeThatWasOpenedIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	f := w.follow(t)
	w.exec(t, `insert into notes (id) values (1)`)
	w.sync(t, f)
	_, err := w.target.Exec(t.Context(), `update landlord.fence set state = 'open'`)
	require.NoError(t, err)
	w.exec(t, `insert into notes (id) values (2)`)
	require.ErrorIs(t, f.fails(t), follow.ErrFencedOff)
	require.Equal(t, 1, w.count(t, `"t_""x".notes`))
}

func TestTruncationEndsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	f := w.follow(t)
	w.exec(t, `truncate notes`)
	require.ErrorIs(t, f.fails(t), follow.ErrTruncate)
}

func TestChangedTableEndsIt(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"column added":   `alter table notes add extra int`,
		"column renamed": `alter table notes rename n to m`,
		"type":           `alter table notes alter n type text`,
		"modifier":       `alter table notes alter n type numeric(9, 2)`,
		"identity":       `create unique index i on notes (tenant_id, n); alter table notes alter n set not null; alter table notes replica identity using index i`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{}, notes, ``)
			f := w.follow(t)
			w.exec(t, `insert into notes (id, n) values (1, 1)`)
			w.sync(t, f)
			w.exec(t, ddl)
			w.exec(t, `insert into notes values ($1, 2, null, null, 2)`, tenant)
			require.ErrorIs(t, f.fails(t), follow.ErrSchemaChanged)
		})
	}
}

func TestLostSlotEndsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	w.exec(t, `select pg_drop_replication_slot($1)`, w.slot)
	f := w.follow(t)
	require.ErrorIs(t, f.fails(t), follow.ErrSlotLost)
}

func TestForeignRowInTheWayEndsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	_, err := w.target.Exec(t.Context(), `insert into "t_""x".notes (id, name) values (7, 'a')`)
	require.NoError(t, err)
	f := w.follow(t)
	w.exec(t, `insert into notes (id, name) values (1, 'a')`)
	var conflict *follow.ConflictError
	require.ErrorAs(t, f.fails(t), &conflict)
	require.Equal(t, "notes", conflict.Table)
}

func TestEverythingBeforeAMessageIsThereAndNothingAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	f := w.follow(t)
	type meeting struct {
		at    repl.LSN
		count int
	}
	look := dial(t, w.targetDSN)
	met := make(chan meeting, 2)
	for _, token := range []string{"one", "two"} {
		f.At(token, func(ctx context.Context, at repl.LSN) error {
			m := meeting{at: at}
			err := look.QueryRow(ctx, `select count(*) from "t_""x".notes`).Scan(&m.count)
			met <- m
			return err
		})
	}
	cancel := f.At("never", func(context.Context, repl.LSN) error { return errors.New("it was taken back") })
	require.True(t, cancel())
	require.False(t, cancel())
	w.exec(t, `insert into notes (id) values (1)`)
	w.exec(t, `begin; insert into notes (id) values (2); select pg_logical_emit_message(true, 'landlord', 'one'); commit`)
	w.exec(t, `select pg_logical_emit_message(true, 'landlord', 'never'), pg_logical_emit_message(true, 'else', 'two')`)
	w.exec(t, `insert into notes (id) values (3)`)
	w.exec(t, `select pg_logical_emit_message(false, 'landlord', 'two')`)
	w.exec(t, `insert into notes (id) values (4)`)
	one, two := <-met, <-met
	require.Equal(t, 2, one.count)
	require.Equal(t, 3, two.count)
	require.Less(t, one.at, two.at)
	w.sync(t, f)
	w.equal(t)

	failed := errors.New("it failed")
	f.At("fails", func(context.Context, repl.LSN) error { return failed })
	w.exec(t, `select pg_logical_emit_message(true, 'landlord', 'fails')`)
	require.ErrorIs(t, f.fails(t), failed)
}

func TestIdleTenantHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, `create table elsewhere (id int); comment on table elsewhere is 'landlord: global'`)
	w.follow(t)
	w.exec(t, `insert into elsewhere select generate_series(1, 10000)`)
	var wrote string
	require.NoError(t, w.source.QueryRow(t.Context(), `select pg_current_wal_lsn()::text`).Scan(&wrote))
	require.Eventually(t, func() bool {
		var forgotten bool
		q := `select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots where slot_name = $1`
		require.NoError(t, w.source.QueryRow(t.Context(), q, w.slot, wrote).Scan(&forgotten))
		return forgotten
	}, patience, 20*time.Millisecond)
}

func TestNetworkThatComesBackLosesNothing(t *testing.T) {
	t.Parallel()
	var net *faultnet.Proxy
	w := newWorld(t, options{proxy: func(dsn string) string {
		net = faultnet.New(t, pgtest.Server(t).Addr())
		out, err := net.Rewrite(dsn)
		require.NoError(t, err)
		return out
	}}, notes, ``)
	f := w.follow(t)
	for i, breakdown := range []func(){net.Cut, net.Blackhole, net.HoldReplies} {
		w.exec(t, `insert into notes (id) select $1 * 1000 + g from generate_series(1, 500) g`, i)
		breakdown()
		w.exec(t, `update notes set n = $1::int`, i)
		require.Eventually(t, func() bool { return f.Stats().Reconnects > i }, patience, time.Millisecond)
		net.Restore()
		w.sync(t, f)
		w.equal(t)
	}
}

func TestTransactionLargerThanABatchIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, ``)
	w.config.Batch = 1000
	f := w.follow(t)
	w.exec(t, `insert into notes (id) values (0)`)
	tx, err := w.source.Begin(t.Context())
	require.NoError(t, err)
	for _, sql := range []string{
		`insert into notes (id, name, body) select g, 'n' || g, 'b' from generate_series(1, 100000) g`,
		`update notes set n = id where id % 3 = 0`,
		`update notes set name = 'x' || id where id <= 2000`,
		`update notes set name = 'n' || (id % 2000 + 1) where id between 1 and 2000`, // rows exchange their names
		`delete from notes where id > 90000`,
	} {
		_, err := tx.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(t.Context()))
	look := dial(t, w.targetDSN)
	for f.Stats().Changes < 100 { // from here on it is being applied
		var n int
		require.NoError(t, look.QueryRow(t.Context(), `select count(*) from "t_""x".notes`).Scan(&n))
		require.Contains(t, []int{0, 1, 90001}, n)
	}
	w.sync(t, f)
	w.equal(t)
}

func TestRowOf50MegabytesArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, `create table files (tenant_id uuid not null default '`+tenant+`', id int, data bytea, primary key (tenant_id, id))`, ``)
	f := w.follow(t)
	w.exec(t, `insert into files (id, data) select 1, decode(repeat('00ff', 25 * 1024 * 1024), 'hex')`)
	w.exec(t, `update files set id = 2`)
	w.sync(t, f)
	require.Equal(t, 1, w.count(t, `"t_""x".files where id = 2 and length(data) = 50 * 1024 * 1024 and md5(data) = md5(decode(repeat('00ff', 25 * 1024 * 1024), 'hex'))`))
}

// TestMoneyAndXMLAreReadAsTheyAreWritten has databases whose own settings are not those of the follower's sessions.
func TestMoneyAndXMLAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, `
create table bills (tenant_id uuid not null default '`+tenant+`', id int, amount money, label xml, body text, primary key (tenant_id, id));
alter table bills alter body set storage external`, ``)
	for _, conn := range []*pgx.Conn{w.source, w.target} {
		name := pgx.Identifier{conn.Config().Database}.Sanitize()
		_, err := conn.Exec(t.Context(), "alter database "+name+" set lc_monetary = 'C.utf8'; alter database "+name+" set xmloption = document")
		require.NoError(t, err)
	}
	_, err := w.target.Exec(t.Context(), `alter table "t_""x".bills add check (current_setting('lc_monetary') = 'C')`)
	require.NoError(t, err)
	f := w.follow(t)
	w.exec(t, `insert into bills (id, amount, label, body) values (1, 1234.5, '<a/>text', repeat('b', 5000)), (2, -0.01, 'a &amp; b', null)`)
	w.exec(t, `update bills set id = id + 10, amount = amount * 2`)
	w.sync(t, f)
	w.equal(t)
	require.Equal(t, 1, w.count(t, `"t_""x".bills where amount = '2469.00' and label::text = '<a/>text'`))
}
