package move_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// age makes a server give its next transactions ids from next on, as if it had given all before.
func age(t *testing.T, server *pglocal.Server, next uint32) {
	t.Helper()
	require.NoError(t, server.Stop(t.Context()))
	info, err := os.Stat(server.DataDir)
	require.NoError(t, err)
	owner, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	reset := exec.CommandContext(t.Context(), filepath.Join(server.Install.Bin, "pg_resetwal"), "-x", strconv.FormatUint(uint64(next), 10), server.DataDir)
	if os.Geteuid() == 0 {
		reset.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	reset.Dir = "/"
	out, err := reset.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// Where the outcomes of those transactions will stand: a page is 8 kB, of 2 bits each, and a file 32 pages.
	const perFile, size = 32 * 8192 * 4, 32 * 8192
	outcomes := filepath.Join(server.DataDir, "pg_xact", fmt.Sprintf("%04X", next/perFile))
	require.NoError(t, os.WriteFile(outcomes, make([]byte, size), 0o600))
	require.NoError(t, os.Chown(outcomes, int(owner.Uid), int(owner.Gid)))
	require.NoError(t, server.Restart(t.Context()))
}

// freeze makes all rows of all databases older than every transaction.
func freeze(t *testing.T, server *pglocal.Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "update pg_database set datallowconn = true")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	for _, database := range []string{"postgres", "template0", "template1"} {
		conn, err := pgx.Connect(t.Context(), pgtest.WithDatabase(server.DSN(), database))
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "vacuum freeze")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "checkpoint")
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	}
}

// spend uses up transaction ids, but for so many below 2^32, or all of those and some more if it is negative.
func spend(t *testing.T, conn *pgx.Conn, left int64) {
	t.Helper()
	const q = `
create temp table if not exists spent (n int);
do $$ begin
    for i in 1 .. %d - pg_current_xact_id()::text::bigint loop
        begin
            insert into spent values (i);
            raise exception 'undo';
        exception when raise_exception then null;
        end;
    end loop;
end $$`
	_, err := conn.Exec(t.Context(), fmt.Sprintf(q, 1<<32-left))
	require.NoError(t, err)
}

func nextXID(t *testing.T, conn *pgx.Conn) (xid int64) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&xid))
	return xid
}

// Transaction ids that begin again at 3 while a tenant is moved are those of an epoch later: what was copied and what has to be applied
// are told apart all the same, at both homes.
func TestTransactionIDsBeginAgainDuringAMove(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	for _, next := range []uint32{1_400_000_000, 2_800_000_000, 1<<32 - 60_000} { // a row may be 2^31 transactions old
		freeze(t, server)
		age(t, server, next)
	}
	r := newRemoval(t, testhouse.Options{Own: server}, place{shared, "a"}, place{shared, "b"})
	conn := r.Super(t, "postgres")
	spend(t, conn, 30_000)
	w := r.write(t, 2)
	m := r.begin(t, place{shared, "b"})
	target := r.Super(t, m.Target.Home.Database)
	_, err := target.Exec(t.Context(), "begin; lock table order_lines in exclusive mode")
	require.NoError(t, err)
	ended := r.stay(t, m)
	m = r.await(t, m, move.Copying)
	w.more(t, 10)
	require.Less(t, m.StartXID, uint64(1<<32))
	require.Less(t, nextXID(t, conn), int64(1<<32), "they have not begun again yet")
	spend(t, conn, -100)
	require.Greater(t, nextXID(t, conn), int64(1<<32))
	w.more(t, 10)
	_, err = target.Exec(t.Context(), "commit")
	require.NoError(t, err)
	r.await(t, m, move.Verified)
	w.more(t, 10)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	w.more(t, 10)
	r.ask(t, m, placement.AskRollback)
	m = r.await(t, m, move.Reverted)
	require.NoError(t, <-ended)
	require.Empty(t, m.Error)
	w.more(t, 3)
	w.done(t)
	r.nothingLeft(t, m)
}
