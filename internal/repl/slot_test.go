package repl_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/repl"
)

const publication = `create table a (id int primary key, v text); create publication pub for table a`

func TestSlotThatHasToWaitNamesForWhomAndLeavesNothing(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t) // an open transaction holds up every slot of a server
	writer := dial(t, own.DSN())
	_, err := writer.Exec(t.Context(), publication)
	require.NoError(t, err)
	tx, err := writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `insert into a values (1)`)
	require.NoError(t, err)

	c := connect(t, own.DSN())
	_, err = c.CreateSlot(t.Context(), "waits", 50*time.Millisecond)
	var wait *repl.SlotWaitError
	require.ErrorAs(t, err, &wait)
	require.Equal(t, []int{int(writer.PgConn().PID())}, wait.PIDs)
	require.True(t, pgerr.Is(err, pgerr.LockNotAvailable))
	var slots int
	require.NoError(t, dial(t, own.DSN()).QueryRow(t.Context(), `select count(*) from pg_replication_slots`).Scan(&slots))
	require.Zero(t, slots)

	require.NoError(t, tx.Commit(t.Context()))
	_, err = c.CreateSlot(t.Context(), "waits", patience)
	require.NoError(t, err)
	_, err = c.CreateSlot(t.Context(), "waits", patience)
	require.True(t, pgerr.Is(err, pgerr.DuplicateObject), "%v", err)
}

func TestSlotInUseNamesItsReader(t *testing.T) {
	t.Parallel()
	s := newSource(t, publication)
	first := s.start(t)
	second := connect(t, s.dsn)
	err := second.Start(t.Context(), s.slot, s.from, "pub")
	var active *repl.SlotActiveError
	require.ErrorAs(t, err, &active)
	require.Equal(t, s.ask(t, `select active_pid::text from pg_replication_slots where slot_name = $1`, s.slot), strconv.Itoa(active.PID))

	require.NoError(t, second.Evict(t.Context(), s.slot))
	require.NoError(t, second.Start(t.Context(), s.slot, s.from, "pub"))
	for err = nil; err == nil; {
		_, err = first.Receive(t.Context())
	}
	require.True(t, pgerr.Is(err, pgerr.AdminShutdown) || errors.Is(err, repl.ErrEnded) || pgerr.Code(err) == "", "%v", err)
}

func TestSlotThatIsGoneIsLost(t *testing.T) {
	t.Parallel()
	s := newSource(t, publication)
	s.exec(t, `select pg_drop_replication_slot($1)`, s.slot)
	require.ErrorIs(t, connect(t, s.dsn).Start(t.Context(), s.slot, s.from, "pub"), repl.ErrSlotLost)
}

func TestSlotThatHeldBackTooMuchIsLost(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	s := sourceAt(t, own.DSN(), publication)
	s.exec(t, `alter system set max_slot_wal_keep_size = '1MB'`)
	s.exec(t, `select pg_reload_conf()`)
	require.Eventually(t, func() bool {
		s.exec(t, `insert into a select g, repeat('x', 1000) from generate_series(1, 1000) g on conflict (id) do update set v = excluded.v`)
		s.exec(t, `select pg_switch_wal()`)
		s.exec(t, `checkpoint`)
		return s.ask(t, `select wal_status from pg_replication_slots`) == "lost"
	}, patience, time.Millisecond)
	require.ErrorIs(t, connect(t, s.dsn).Start(t.Context(), s.slot, s.from, "pub"), repl.ErrSlotLost)
}

func TestLoginWithoutReplicationIsRefused(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	_, err := dial(t, own.DSN()).Exec(t.Context(), `create role nobody login password 'secret'`)
	require.NoError(t, err)
	cfg, err := pgx.ParseConfig(own.DSN())
	require.NoError(t, err)
	cfg.User, cfg.Password = "nobody", "secret"
	_, err = repl.Connect(t.Context(), cfg)
	require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege, pgerr.InvalidAuthorization), "%v", err)
}
