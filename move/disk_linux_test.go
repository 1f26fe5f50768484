package move_test

import (
	"context"
	"os"
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

// smallDisk mounts a disk of so many megabytes that the server may write to, for the length of the test.
func smallDisk(t *testing.T, server *pglocal.Server, megabytes int) string {
	t.Helper()
	dir := filepath.Join(server.Dir, "small")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(megabytes)+"m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (%v): it takes root", err)
	}
	t.Cleanup(func() {
		require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
		require.NoError(t, syscall.Unmount(dir, 0))
	})
	info, err := os.Stat(server.DataDir)
	require.NoError(t, err)
	owner, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	require.NoError(t, os.Chown(dir, int(owner.Uid), int(owner.Gid)))
	return dir
}

// A copy whose target's disk is full waits, and says for what. It can be aborted, which gives the room back as soon as there is some for
// the taking away, and it goes on by itself when there is more.
func TestCopyToAFullDiskWaitsForRoom(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	disk := smallDisk(t, server, 24)
	r := newRemoval(t, testhouse.Options{Apart: map[string]*pglocal.Server{"b": server}}, place{shared, "a"}, place{schema, "b"})
	b, err := r.Catalog.Cluster(t.Context(), "b")
	require.NoError(t, err)
	admin, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "create tablespace small location '"+disk+"'")
	require.NoError(t, err)
	name := pgx.Identifier{b.SharedDatabase}.Sanitize()
	_, err = admin.Exec(t.Context(), "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = $1", b.SharedDatabase)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "alter database "+name+" set tablespace small")
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	_, err = r.router.Tenant(r.tenant.Tenant).Exec(t.Context(), `
insert into customers (email, name) select 'long' || n || '@example.com', repeat(md5(n::text), 60) from generate_series(1, 12000) n`)
	require.NoError(t, err)
	others := r.others(t)

	full := func(m placement.Move) <-chan error {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		waits := make(chan struct{})
		told := false
		mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
			if !told && s.Move.Phase == move.Copying && s.Waiting != "" {
				told = true
				t.Logf("it waits: %s", s.Waiting)
				close(waits)
			}
		}})
		require.NoError(t, err)
		ended := make(chan error, 1)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, err := mover.Drive(ctx, m.ID, move.Stay)
			ended <- err
		}()
		t.Cleanup(func() { stop(); <-gone })
		select {
		case <-waits:
		case err := <-ended:
			require.Fail(t, "it does not wait", "%v", err)
		}
		return ended
	}

	resize := func(size string) {
		t.Helper()
		require.NoError(t, syscall.Mount("", disk, "tmpfs", syscall.MS_REMOUNT, "size="+size))
	}
	m := r.begin(t, place{schema, "b"})
	ended := full(m)
	r.ask(t, m, placement.AskAbort)
	resize("32m") // to drop a table, the server writes to its catalogs
	m = r.await(t, m, move.Aborted)
	require.NoError(t, <-ended)
	require.Equal(t, others, r.others(t))
	r.nothingLeft(t, m)

	resize("24m")
	w := r.write(t, 1)
	m = r.begin(t, place{schema, "b"})
	ended = full(m)
	resize("200m")
	r.await(t, m, move.Verified)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.NoError(t, <-ended)
	w.more(t, 3)
	w.done(t)
	require.Equal(t, others, r.others(t))
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}
