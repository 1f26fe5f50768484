package cutover_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// standby starts an asynchronous standby of s, which ends with the test. It returns a connection to it.
func standby(t *testing.T, s *pglocal.Server) *pgx.Conn {
	t.Helper()
	dir := filepath.Join(s.Dir, "standby")
	program := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), filepath.Join(s.Install.Bin, name), args...)
		info, err := os.Stat(s.DataDir) // servers do not run as root
		require.NoError(t, err)
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if os.Getuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
		}
		cmd.Dir = s.DataDir
		return cmd
	}
	out, err := program("pg_basebackup", "-d", s.DSN(), "-D", dir, "-R", "-X", "stream", "-c", "fast").CombinedOutput()
	require.NoError(t, err, "%s", out)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	server := program("postgres", "-D", dir, "-p", strconv.Itoa(port), "-c", "hot_standby=on", "-c", "unix_socket_directories=", "-c", "wal_receiver_status_interval=1")
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	cfg, err := pgx.ParseConfig(s.DSN())
	require.NoError(t, err)
	cfg.Port = uint16(port)
	var conn *pgx.Conn
	require.Eventually(t, func() bool {
		conn, err = pgx.ConnectConfig(t.Context(), cfg)
		return err == nil
	}, patience, 20*time.Millisecond)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// Neither home relies on what a standby that may be promoted does not know.
func TestAStandbyThatLagsHoldsUpTheCommitPointAndKnowsOfItAfterwards(t *testing.T) {
	t.Parallel()
	own := pgtest.OwnServer(t)
	m := begin(t, testhouse.New(t, testhouse.Options{Own: own}), placement.ModelSchema, placement.ModelDatabase, "b")
	stop := m.follow(t)
	defer stop()
	replica := standby(t, own)
	primary := m.Super(t, "postgres")
	require.Eventually(t, func() bool {
		return value(t, primary, "select count(*) from pg_stat_replication where state = 'streaming' and application_name = 'walreceiver'") == 1
	}, patience, 10*time.Millisecond)
	receiver := int(value(t, replica, "select pid from pg_stat_wal_receiver"))
	require.NoError(t, syscall.Kill(receiver, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(receiver, syscall.SIGCONT) }()

	r, err := m.cutover(t, func(cfg *cutover.Config) {
		cfg.MaxPause, cfg.Patience = 300*time.Millisecond, time.Second
	}).Run(t.Context())
	lagging := new(cutover.StandbyError)
	require.ErrorAs(t, err, &lagging)
	require.ErrorAs(t, err, new(*cutover.BusyError))
	require.Len(t, lagging.Names, 1)
	require.ErrorContains(t, err, "walreceiver")
	require.False(t, r.Committed)
	require.Equal(t, isolation.Open, m.fence(t, m.from).State)

	require.NoError(t, syscall.Kill(receiver, syscall.SIGCONT))
	r, err = m.cutover(t).Run(t.Context())
	require.NoError(t, err)
	m.turn(t, r)
	// The primary is lost at once: the standby that takes its place knows that the tenant has gone.
	stop()
	require.NoError(t, own.Kill(t.Context()))
	t.Cleanup(func() { require.NoError(t, own.Restart(context.Background())) }) // to be cleaned up
	require.NoError(t, replica.QueryRow(t.Context(), "select pg_promote()").Scan(new(bool)))
	cfg := replica.Config()
	cfg.Database = m.from.Home.Database
	promoted, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer promoted.Close(t.Context())
	f, err := isolation.ReadFence(t.Context(), promoted, key(m.from))
	require.NoError(t, err)
	require.Equal(t, isolation.Moved, f.State)
}
