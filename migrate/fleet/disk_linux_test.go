package fleet_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrate/fleet"
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

func TestAFullDiskFailsTheHomesOnItAndNoOther(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	disk := smallDisk(t, server, 24)
	h, all := ownStreet(t, server)
	cramped := all[1].Home
	h.SuperExec(t, "postgres", "create tablespace small location '"+disk+"'")
	h.SuperExec(t, "postgres", "alter database "+pgx.Identifier{cramped.Database}.Sanitize()+" set tablespace small")

	set := with(t, "00004_attic.sql", addNote+"create table attic (tenant_id uuid, id int, stuff text, primary key (tenant_id, id));\n"+
		"insert into attic select gen_random_uuid(), n, repeat(md5(n::text), 60) from generate_series(1, 12000) n;")
	f := newFleet(t, h, set)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Len(t, s.Failures, 1)
	require.Equal(t, pgerr.DiskFull, s.Failures[0].SQLState, s.Failures[0].Error)
	require.Equal(t, []placement.Home{cramped}, s.Failures[0].Homes)
	require.False(t, has(t, h, cramped, "note"), "nothing of it is left")
	require.Equal(t, 2, s.Counts[placement.TargetVerified])

	// With more room it goes on.
	require.NoError(t, syscall.Mount("", disk, "tmpfs", syscall.MS_REMOUNT, "size=200m"))
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
}
