package follow_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
)

// errand is what another process needs to know to follow in a world.
type errand struct {
	Source, Target string // DSNs
	Slot, Move     string
	From           repl.LSN
	Fence          follow.Fence
}

const errandEnv = "FOLLOW_ERRAND"

// TestFollowerOfItsOwn is run by the next one, in a process that is stopped.
func TestFollowerOfItsOwn(t *testing.T) {
	t.Parallel()
	text := os.Getenv(errandEnv)
	if text == "" {
		t.Skip("it is run by TestFollowerThatStoodStillAppliesNothingTwice")
	}
	var e errand
	require.NoError(t, json.Unmarshal([]byte(text), &e))
	have, err := table.Inspect(t.Context(), dial(t, e.Source), table.Home{Schema: "public"})
	require.NoError(t, err)
	want, err := table.Inspect(t.Context(), dial(t, e.Target), table.Home{Schema: `t_"x`, Dedicated: true})
	require.NoError(t, err)
	pairs, problems := table.Match(have, want, tenant)
	require.Empty(t, problems)
	w := &world{config: follow.Config{
		Move: e.Move, Direction: follow.Forward, Pairs: pairs, Slot: e.Slot, Publication: "pub", From: e.From, Fence: e.Fence,
		Source: connector(e.Source), Target: connector(e.Target), Stream: streams(e.Source), Patience: patience,
	}}
	err = w.follow(t).fails(t)
	fmt.Println("the follower ended:", errors.Is(err, follow.ErrFencedOff), err)
}

// A process that is stopped while it applies, and whose work another one goes on with, finds when it is woken that it may not write any
// more. Every change was applied once: a trigger counts them.
func TestFollowerThatStoodStillAppliesNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{}, notes, `insert into notes (id, name) values (0, 'copied')`)
	w.copy(t, 0)
	w.config.Copied = nil // nothing was written before it
	_, err := w.target.Exec(t.Context(), `
create table public.applied (id bigint, n numeric);
create function public.count() returns trigger language plpgsql as $$ begin
    insert into public.applied values (new.id, new.n);
    return null;
end $$;
create trigger count after insert or update on "t_""x".notes for each row execute function public.count();
alter table "t_""x".notes enable always trigger count`)
	require.NoError(t, err)

	e := errand{Source: w.sourceDSN, Target: w.targetDSN, Slot: w.slot, Move: w.config.Move, From: w.from, Fence: w.config.Fence}
	text, err := json.Marshal(e)
	require.NoError(t, err)
	var said bytes.Buffer
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFollowerOfItsOwn$", "-test.v")
	child.Env = append(os.Environ(), errandEnv+"="+string(text))
	child.Stdout, child.Stderr = &said, &said
	require.NoError(t, child.Start())
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	t.Cleanup(func() { _ = child.Process.Kill(); <-ended })

	w.exec(t, `insert into notes (id, n) select g, 0 from generate_series(1, 100) g`)
	require.Eventually(t, func() bool { return w.count(t, "public.applied") == 100 }, patience, 20*time.Millisecond)
	// It meets a row that somebody holds, in the middle of a transaction, and is stopped there.
	inTheWay, look := dial(t, w.targetDSN), dial(t, w.targetDSN)
	_, err = inTheWay.Exec(t.Context(), `begin; select from "t_""x".notes where id = 50 for update`)
	require.NoError(t, err)
	w.exec(t, `update notes set n = 1`)
	const blocked = `select coalesce(min(pid), 0) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))`
	var pid int32
	require.Eventually(t, func() bool {
		require.NoError(t, look.QueryRow(t.Context(), blocked, inTheWay.PgConn().PID()).Scan(&pid))
		return pid != 0
	}, patience, 20*time.Millisecond)
	require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
	_, err = inTheWay.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the server has done what it was told, and nobody tells it to commit
		var idle bool
		require.NoError(t, look.QueryRow(t.Context(), `select state = 'idle in transaction' from pg_stat_activity where pid = $1`, pid).Scan(&idle))
		return idle
	}, patience, 20*time.Millisecond)

	// Another process takes over, as package move does it: who is in the way is ended.
	w.config.Fence.Owner = uuid.NewString()
	var gone bool
	require.NoError(t, look.QueryRow(t.Context(), `select pg_terminate_backend($1, 60000)`, pid).Scan(&gone))
	require.True(t, gone)
	require.NoError(t, isolation.TakeOver(t.Context(), w.target, e.Fence.FenceKey, isolation.Importing, 2, w.config.Fence.Owner))
	f := w.follow(t)
	w.sync(t, f)
	w.exec(t, `update notes set n = 3 where id <= 10`)
	w.sync(t, f)

	require.NoError(t, child.Process.Signal(syscall.SIGCONT))
	select {
	case err := <-ended:
		ended <- err
		require.NoError(t, err, said.String())
	case <-time.After(patience):
		require.Fail(t, "it does not end")
	}
	require.Contains(t, said.String(), "the follower ended: true")
	w.exec(t, `update notes set n = 4 where id = 1`)
	w.sync(t, f)
	w.equal(t)
	require.Equal(t, 100+101+11+1, w.count(t, "public.applied"))
	require.Zero(t, w.count(t, "(select from public.applied group by id, n having count(*) > 1) twice"))
}
