package repl_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
)

// patience is more than any lock of these tests is held.
const patience = time.Minute

func TestEveryKindOfChangeIsTold(t *testing.T) {
	t.Parallel()
	s := newSource(t, `
create table a (id int primary key, v text);
create table b (id int primary key, v text);
alter table b replica identity full;
create publication pub for table a, b`)
	s.exec(t, `insert into a values (1, 'one'), (2, null), (3, '')`)
	s.exec(t, `update a set v = 'uno' where id = 1`)
	s.exec(t, `update a set id = 7 where id = 1`)
	s.exec(t, `insert into b values (1, 'x')`)
	s.exec(t, `update b set v = 'y'`)
	s.exec(t, `delete from a where id = 2; delete from b`)
	s.exec(t, `truncate a, b restart identity`)
	require.Equal(t, []string{
		"begin", "relation public.a", "insert public.a (1,one)", "insert public.a (2,null)", "insert public.a (3,)", "commit",
		"begin", "update public.a (1,uno)", "commit",
		"begin", "update public.a (1,null) whole=false to (7,uno)", "commit",
		"begin", "relation public.b", "insert public.b (1,x)", "commit",
		"begin", "update public.b (1,x) whole=true to (1,y)", "commit",
		"begin", "delete public.a (2,null) whole=false", "delete public.b (1,y) whole=true", "commit",
		"begin", "relation public.a", "relation public.b", "truncate public.a,public.b cascade=false restart=true", "commit",
	}, s.read(t))
}

func TestUnchangedLongValuesAreNotTold(t *testing.T) {
	t.Parallel()
	s := newSource(t, `
create table a (id int primary key, long text, v int);
alter table a alter long set storage external;
create publication pub for table a`)
	long := strings.Repeat("x", 10_000)
	s.exec(t, `insert into a values (1, $1, 1)`, long)
	s.exec(t, `update a set v = 2`)
	s.exec(t, `update a set id = 2`)
	require.Equal(t, []string{
		"begin", "relation public.a", "insert public.a (1," + long + ",1)", "commit",
		"begin", "update public.a (1,unchanged,2)", "commit",
		"begin", "update public.a (1,null,null) whole=false to (2,unchanged,2)", "commit",
	}, s.read(t))
}

func TestRowFilterTellsRowsThatLeaveIt(t *testing.T) {
	t.Parallel()
	s := newSource(t, `
create table a (tenant int, id int, v text, primary key (tenant, id));
create publication pub for table a where (tenant = 1) with (publish = 'insert, update, delete')`)
	s.exec(t, `insert into a values (1, 1, 'mine'), (2, 1, 'theirs')`)
	s.exec(t, `update a set v = 'new'`)
	s.exec(t, `update a set tenant = 3 - tenant, id = id + 1`)
	s.exec(t, `insert into a values (2, 9, 'theirs')`) // an empty transaction
	s.exec(t, `delete from a`)
	require.Equal(t, []string{
		"begin", "relation public.a", "insert public.a (1,1,mine)", "commit",
		"begin", "update public.a (1,1,new)", "commit",
		"begin", "delete public.a (1,1,null) whole=false", "insert public.a (1,2,new)", "commit",
		"begin", "delete public.a (1,2,null) whole=false", "commit",
	}, s.read(t))
}

func TestPartitionsAreToldAsTheirRoot(t *testing.T) {
	t.Parallel()
	s := newSource(t, `
create table a (id int primary key, v text) partition by range (id);
create table a1 partition of a for values from (0) to (10);
create table a2 partition of a for values from (10) to (20);
create publication pub for table a with (publish_via_partition_root = true)`)
	s.exec(t, `insert into a values (1, 'x'), (11, 'y')`)
	s.exec(t, `update a set id = 12 where id = 1`)
	lines := slices.DeleteFunc(s.read(t), func(line string) bool {
		return strings.HasPrefix(line, "relation ") // the partitions are described too
	})
	require.Equal(t, []string{
		"begin", "insert public.a (1,x)", "insert public.a (11,y)", "commit",
		"begin", "delete public.a (1,null) whole=false", "insert public.a (12,x)", "commit",
	}, lines)
}

func TestChangedTableIsDescribedAgain(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	s.exec(t, `insert into a values (1)`)
	s.exec(t, `alter table a add v text default 'd'`)
	s.exec(t, `insert into a values (2)`)
	require.Equal(t, []string{
		"begin", "relation public.a", "insert public.a (1)", "commit",
		"begin", "relation public.a", "insert public.a (2,d)", "commit",
	}, s.read(t))
}

func TestLogicalMessagesStandWhereTheyWereEmitted(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `insert into a values (1)`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select pg_logical_emit_message(true, 'landlord', 'inside'), pg_logical_emit_message(false, 'landlord', 'outside')`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	s.exec(t, `select pg_logical_emit_message(true, 'landlord', '')`)
	require.Equal(t, []string{
		"message landlord=outside transactional=false",
		"begin", "relation public.a", "insert public.a (1)", "message landlord=inside transactional=true", "commit",
		"begin", "message landlord= transactional=true", "commit",
	}, s.read(t))
}

func TestRowOf50MegabytesIsWhole(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key, v bytea); create publication pub for table a`)
	s.exec(t, `insert into a select 1, decode(repeat('00ff', 25 * 1024 * 1024), 'hex')`)
	c := s.start(t)
	for {
		msg, err := c.Receive(t.Context())
		require.NoError(t, err)
		if in, ok := msg.(repl.Insert); ok {
			require.Len(t, in.New[1].Text, 2+100<<20)
			require.Equal(t, `\x00ff`, string(in.New[1].Text[:6]))
			return
		}
	}
}

func TestStreamGoesOnAfterWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	s.exec(t, `insert into a values (1)`)
	s.exec(t, `insert into a values (2)`)
	c := s.start(t)
	var first repl.LSN
	for first == 0 {
		msg, err := c.Receive(t.Context())
		require.NoError(t, err)
		if commit, ok := msg.(repl.Commit); ok {
			first = commit.EndLSN
		}
	}
	require.NoError(t, c.Acknowledge(t.Context(), first))
	require.Eventually(t, func() bool {
		return s.ask(t, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, s.slot) == first.String()
	}, patience, 10*time.Millisecond)
	require.NoError(t, c.Close(t.Context()))

	again := connect(t, s.dsn)
	require.NoError(t, again.Evict(t.Context(), s.slot))
	require.NoError(t, again.Start(t.Context(), s.slot, 0, "pub"))
	require.Equal(t, []string{"begin", "relation public.a", "insert public.a (2)", "commit"}, readTo(t, again, s.mark(t)))
}

func TestCancelledReceiveLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	cancelled(t, s, s.start(t))
}

func TestABusyReaderLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	c := connect(t, s.dsn)
	asked := 0
	c.Busy = func() bool { asked++; return true }
	require.NoError(t, c.Start(t.Context(), s.slot, s.from, "pub"))
	cancelled(t, s, c)
	require.Positive(t, asked)

	s.exec(t, `do $$ begin for i in 2 .. 3000 loop insert into a values (i); commit; end loop; end $$`)
	lines := slices.DeleteFunc(readTo(t, c, s.mark(t)), func(line string) bool { return !strings.HasPrefix(line, "insert ") })
	require.Len(t, lines, 2999)
	require.Equal(t, "insert public.a (3000)", lines[2998])
}

// cancelled reads, and is told to stop, again and again, before there is something to be read.
func cancelled(t *testing.T, s *source, c *repl.Conn) {
	t.Helper()
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%3)*time.Millisecond)
		for {
			if _, err := c.Receive(ctx); err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				break
			}
		}
		cancel()
	}
	s.exec(t, `insert into a values (1)`)
	require.Equal(t, []string{"begin", "relation public.a", "insert public.a (1)", "commit"}, readTo(t, c, s.mark(t)))
}

func TestServersEndIsNoticed(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	s := sourceAt(t, own.DSN(), `create table a (id int primary key); create publication pub for table a`)
	c := s.start(t)
	restarted := make(chan error, 1)
	go func() { restarted <- own.Restart(t.Context()) }()
	var err error
	for err == nil {
		_, err = c.Receive(t.Context())
	}
	require.NoError(t, <-restarted)
}

func TestServerThatFallsSilentIsNoticedAtBothEnds(t *testing.T) {
	t.Parallel()
	s := newSource(t, publication)
	proxy := faultnet.New(t, pgtest.Server(t).Addr())
	dsn, err := proxy.Rewrite(s.dsn)
	require.NoError(t, err)
	c := connect(t, dsn)
	c.Patience = time.Second
	require.NoError(t, c.Start(t.Context(), s.slot, s.from, "pub"))
	require.Empty(t, readTo(t, c, s.mark(t)))
	proxy.Blackhole()
	for err == nil {
		_, err = c.Receive(t.Context())
	}
	require.ErrorIs(t, err, repl.ErrSilent)
	require.Eventually(t, func() bool {
		return s.ask(t, `select active::text from pg_replication_slots where slot_name = $1`, s.slot) == "false"
	}, patience, 10*time.Millisecond)
}

func TestIdleConnectionIsKept(t *testing.T) {
	t.Parallel()
	isKept(t, newSource(t, publication))
}

func TestConnectionOnWhichMuchArrivesIsKept(t *testing.T) {
	t.Parallel()
	s := newSource(t, `create table a (id int primary key); create publication pub for table a`)
	writer := dial(t, s.dsn)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = writer.Exec(ctx, `insert into a values ($1)`, i)
		}
	}()
	isKept(t, s)
	cancel()
	<-ended
}

// isKept reads for longer than either end is patient, and says nothing of its own accord.
func isKept(t *testing.T, s *source) {
	t.Helper()
	c := connect(t, s.dsn)
	c.Patience = time.Second
	require.NoError(t, c.Start(t.Context(), s.slot, s.from, "pub"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*c.Patience)
	defer cancel()
	var err error
	for err == nil {
		_, err = c.Receive(ctx)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
