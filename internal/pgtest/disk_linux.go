package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// Disk is a small one that a server may write to, to be filled. It lies in Dir.
type Disk struct{ Dir string }

// SmallDisk mounts a disk of so many megabytes for the length of the test. server is the test's own, and is stopped before the disk
// goes. Where nothing can be mounted the test is skipped: it takes root.
func SmallDisk(t *testing.T, server *pglocal.Server, megabytes int) Disk {
	t.Helper()
	dir := filepath.Join(server.Dir, "small")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size(megabytes)); err != nil {
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
	return Disk{dir}
}

// Resize gives the disk so many megabytes, no less than it holds.
func (d Disk) Resize(t *testing.T, megabytes int) {
	t.Helper()
	require.NoError(t, syscall.Mount("", d.Dir, "tmpfs", syscall.MS_REMOUNT, size(megabytes)))
}

func size(megabytes int) string { return "size=" + strconv.Itoa(megabytes) + "m" }
