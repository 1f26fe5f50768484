package pglocal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// helperEnv makes the test binary start the child that it describes, say so and wait to be killed.
const helperEnv = "LANDLORD_PGLOCAL_HELPER"

// child is a server or a PgBouncer.
type child struct {
	Server  pglocal.Config
	Bouncer *pglocal.BouncerConfig
}

func helper() {
	var c child
	if err := json.Unmarshal([]byte(os.Getenv(helperEnv)), &c); err != nil {
		panic(err)
	}
	if c.Bouncer != nil {
		b, err := pglocal.StartBouncer(context.Background(), *c.Bouncer)
		if err != nil {
			panic(err)
		}
		fmt.Println(os.Getpid(), b.Addr())
	} else {
		s, err := pglocal.Start(context.Background(), c.Server)
		if err != nil {
			panic(err)
		}
		fmt.Println(s.PID(), s.Dir)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// killedParent starts a server in another process, kills that with SIGKILL, and returns the server's pid and folder, or for a
// PgBouncer the process's own pid and where it listened.
func killedParent(t *testing.T, c child) (pid int, where string) {
	t.Helper()
	text, err := json.Marshal(c)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	parent := osexec.CommandContext(t.Context(), exe)
	parent.Env = append(os.Environ(), helperEnv+"="+string(text))
	parent.Stderr = os.Stderr
	stdin, err := parent.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &pid, &where)
	require.NoError(t, err)
	require.True(t, lives(pid))

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait(), "it was killed")
	return pid, where
}

func lives(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }

func TestADetachedServerOutlivesItsKilledParentAndIsFoundAgain(t *testing.T) {
	t.Parallel()
	cfg := pglocal.Config{Dir: folder(t), Name: "a", NoSync: true, Detach: true}
	pid, _ := killedParent(t, child{Server: cfg})
	require.True(t, lives(pid))

	s, err := pglocal.Open(cfg)
	require.NoError(t, err)
	removeAtEnd(t, s)
	require.True(t, s.Running(t.Context()))
	require.Equal(t, pid, s.PID())
	exec(t, s.DSN(), `create table t as select 1 as a`)

	joined, err := pglocal.Start(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, pid, joined.PID(), "a server that runs is left as it is")
	require.Equal(t, s.DSN(), joined.DSN())

	passing := cfg
	passing.Detach = false
	_, err = pglocal.Start(t.Context(), passing)
	require.ErrorContains(t, err, "holds a server already")
	require.Equal(t, "1", ask(t, s.DSN(), `select a::text from t`), "it is not thrown away either")

	require.NoError(t, s.Stop(t.Context()))
	require.False(t, joined.Running(t.Context()))
	require.Eventually(t, func() bool { return !lives(pid) }, 30*time.Second, 10*time.Millisecond)

	again, err := pglocal.Start(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, s.DSN(), again.DSN(), "port and password are remembered")
	require.Equal(t, "1", ask(t, again.DSN(), `select a::text from t`))
	require.NoError(t, again.Kill(t.Context()))
	require.NoError(t, again.Restart(t.Context()))
	require.Equal(t, "1", ask(t, again.DSN(), `select a::text from t`))
}

func TestATestServerDiesWithItsKilledParentAndLeavesNothing(t *testing.T) {
	t.Parallel()
	pid, dir := killedParent(t, child{Server: pglocal.Config{Dir: folder(t), Name: "a", NoSync: true}})
	require.Eventually(t, func() bool { return !lives(pid) }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		left, err := os.ReadDir(dir)
		return os.IsNotExist(err) || err == nil && len(left) == 0
	}, 30*time.Second, 10*time.Millisecond)
}

func TestRootsServerGoesWhereItsUserCanReach(t *testing.T) {
	t.Parallel()
	onlyRoot(t)
	home := folder(t)
	require.NoError(t, os.Chmod(home, 0o700))
	cfg := pglocal.Config{Dir: filepath.Join(home, "checkout", ".landlord"), Name: "a", NoSync: true, Detach: true}
	s := start(t, cfg)
	require.NotContains(t, s.Dir, home)
	require.Equal(t, "1", ask(t, s.DSN(), `select '1'`))
	st, err := os.Stat(s.DataDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())

	found, err := pglocal.Open(cfg)
	require.NoError(t, err)
	require.Equal(t, s.Dir, found.Dir)

	require.NoError(t, s.Remove(t.Context()))
	require.NoDirExists(t, filepath.Dir(s.Dir))
}

func TestAFolderThatSomebodyElsePreparedIsNotUsed(t *testing.T) {
	t.Parallel()
	onlyRoot(t)
	dir := folder(t)
	planted := filepath.Join(dir, "a")
	require.NoError(t, os.Mkdir(planted, 0o777))
	require.NoError(t, os.Chown(planted, 12345, 12345))
	s := start(t, pglocal.Config{Dir: dir, Name: "a", NoSync: true})
	require.NotEqual(t, planted, s.Dir)
}

// The other tests run as whoever runs them; this one makes sure that root's runs cover the ordinary user too.
func TestAnOrdinaryUserRunsServersToo(t *testing.T) {
	t.Parallel()
	onlyRoot(t)
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	require.NoError(t, err)

	dir := folder(t)
	require.NoError(t, os.Chown(dir, uid, gid))
	binary := filepath.Join(dir, "pglocal.test")
	copyFile(t, binary)
	cmd := osexec.CommandContext(t.Context(), binary, "-test.v", "-test.run", "OverARestart|KilledParent|OnlyThePassword")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestServerKeepsItsDataPortAndPasswordOverARestart")
}

func onlyRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root's servers run as another user")
	}
}

func copyFile(t *testing.T, to string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	content, err := os.ReadFile(exe)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o755))
}
