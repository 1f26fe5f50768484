package fleet_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// standby is a copy of a server that replays later than it could.
type standby struct {
	server *pglocal.Server
	data   string
}

func (s standby) run(t *testing.T, program string, args ...string) {
	t.Helper()
	dsn, err := url.Parse(s.server.DSN())
	require.NoError(t, err)
	password, _ := dsn.User.Password()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.server.Install.Bin, program), args...)
	cmd.Dir = s.server.Dir
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	if os.Geteuid() == 0 {
		account, err := user.Lookup(s.server.Account())
		require.NoError(t, err)
		uid, err := strconv.ParseUint(account.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(account.Gid, 10, 32)
		require.NoError(t, err)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", program, out)
}

// set changes settings of the standby. What comes last counts.
func (s standby) set(t *testing.T, settings string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(settings)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// newStandby makes a standby of a server and starts it.
func newStandby(t *testing.T, server *pglocal.Server, settings string) standby {
	t.Helper()
	s := standby{server: server, data: filepath.Join(filepath.Dir(server.DataDir), "standby")}
	s.run(t, "pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(server.Port), "-U", pglocal.Superuser, "-D", s.data, "-R", "-X", "stream", "-c", "fast")
	s.set(t, "listen_addresses = ''\nport = 5433\n"+settings)
	s.run(t, "pg_ctl", "start", "-w", "-D", s.data, "-l", filepath.Join(s.data, "log"))
	t.Cleanup(func() { s.run(t, "pg_ctl", "stop", "-m", "immediate", "-D", s.data) })
	return s
}

func TestABackfillWaitsForAStandbyThatLagsBehind(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	h, all := ownStreet(t, server)
	h.SuperExec(t, "postgres", "grant pg_read_all_stats to landlord_migrator; create table tick (at timestamptz)")
	populate(t, h, all, 100)
	copied := newStandby(t, server, "recovery_min_apply_delay = '1500ms'\n")

	// Somebody writes all the time, so that there is something to lag behind.
	ctx, stop := context.WithCancel(t.Context())
	var writer errgroup.Group
	conn := h.Super(t, "postgres")
	writer.Go(func() error {
		for ctx.Err() == nil {
			if _, err := conn.Exec(context.WithoutCancel(ctx), "insert into tick values (now())"); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	defer func() {
		stop()
		require.NoError(t, writer.Wait())
	}()
	look := h.Super(t, "postgres")
	lag := func() (seconds float64) {
		const q = `select coalesce(max(extract(epoch from replay_lag)), 0)::float8 from pg_stat_replication`
		require.NoError(t, look.QueryRow(t.Context(), q).Scan(&seconds))
		return seconds
	}
	require.Eventually(t, func() bool { return lag() > 1 }, time.Minute, 20*time.Millisecond)

	f := newFleet(t, h, with(t, "00004_seen.sql", addSeen, "00005_see.sql", see), func(c *fleet.Config) {
		c.Backfills = fleet.Backfills{
			Batches: migrate.Batches{First: 20, Most: 20},
			Health:  migrate.Health{LagSlow: 300 * time.Millisecond, LagStop: 700 * time.Millisecond},
		}
	})
	var run errgroup.Group
	run.Go(func() error {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err == nil && s.Run.State != placement.RunDone {
			t.Errorf("%+v", s.Failures)
		}
		return err
	})
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		return err == nil && s.Counts[placement.TargetLeased] > 0
	}, time.Minute, 20*time.Millisecond)
	require.Never(t, func() bool {
		var seen int
		require.NoError(t, h.Super(t, all[0].Home.Database).QueryRow(t.Context(), "select count(*) from public.customers where seen > 0").Scan(&seen))
		return seen > 0
	}, time.Second, 200*time.Millisecond, "it stands still while the standby lags behind")

	copied.set(t, "recovery_min_apply_delay = 0\n")
	copied.run(t, "pg_ctl", "reload", "-D", copied.data)
	require.NoError(t, run.Wait())
	requireSeen(t, h, all, 100)
}

func TestABackfillWaitsForAStandbyThatReplaysNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	h, all := ownStreet(t, server)
	h.SuperExec(t, "postgres", "grant pg_read_all_stats to landlord_migrator")
	populate(t, h, all, 100)
	copied := newStandby(t, server, "recovery_min_apply_delay = '1h'\n")

	// It stops at the first commit, so that what is written after that is sent, and not replayed.
	const behind = `select coalesce(max(pg_wal_lsn_diff(sent_lsn, replay_lsn)), 0)::int8 from pg_stat_replication`
	look := h.Super(t, "postgres")
	for _, bytes := range []string{"1", "3000000"} {
		h.SuperExec(t, "postgres", "select pg_logical_emit_message(true, 'test', repeat('x', "+bytes+"))")
	}
	wait := func(more bool) {
		require.Eventually(t, func() bool {
			var bytes int64
			require.NoError(t, look.QueryRow(t.Context(), behind).Scan(&bytes))
			return bytes > 3000000 == more
		}, time.Minute, 20*time.Millisecond)
	}
	wait(true)

	patient := func(patience time.Duration) *fleet.Fleet {
		return newFleet(t, h, with(t, "00004_seen.sql", addSeen, "00005_see.sql", see), func(c *fleet.Config) {
			c.Patience = patience
			c.Backfills = fleet.Backfills{Health: migrate.Health{LagSlow: -1, LagStop: -1, WALSlow: -1, WALStop: 3000000}}
		})
	}
	s, err := patient(100*time.Millisecond).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Len(t, s.Failures, 1)
	require.Contains(t, s.Failures[0].Error, "MB of WAL to replay")
	for _, p := range all {
		require.NotContains(t, versions(t, h, p.Home), int64(5))
	}

	copied.set(t, "recovery_min_apply_delay = 0\n")
	copied.run(t, "pg_ctl", "reload", "-D", copied.data)
	wait(false)
	s, err = patient(time.Minute).Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
	requireSeen(t, h, all, 100)
}
