package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// demoFolders is how many demos of one user can run at once.
const demoFolders = 100

var errClaimed = errors.New("another process has it")

// claimDemoFolder makes the first free folder for a demo and keeps it until release. Those that demos have left which were
// killed, with servers in them that still run, are taken away first.
func (a *app) claimDemoFolder(ctx context.Context) (d devEnv, release func() error, err error) {
	base := filepath.Join(os.TempDir(), fmt.Sprintf("landlord-demo-%d-", os.Geteuid()))
	left, err := filepath.Glob(base + "*")
	if err != nil {
		return d, nil, err
	}
	for _, folder := range left {
		lock, err := claimFolder(folder)
		if err != nil {
			continue // it is in use, or somebody else's
		}
		a.progress("taking away what a demo has left in %s", folder)
		if err := errors.Join(devEnv{folder}.down(ctx, true), lock.Close()); err != nil {
			return d, nil, err
		}
	}
	for n := range demoFolders {
		folder := fmt.Sprintf("%s%d", base, n+1)
		if err := os.Mkdir(folder, 0o700); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return d, nil, err
		}
		lock, err := claimFolder(folder)
		if errors.Is(err, errClaimed) { // by a demo that takes it for a dead one's, and takes it away
			continue
		}
		if err != nil {
			return d, nil, err
		}
		return devEnv{folder}, lock.Close, nil
	}
	return d, nil, fmt.Errorf("%d demos run already", demoFolders)
}

// claimFolder locks a folder of this user's. The kernel releases it with the process.
func claimFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(folder, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errClaimed
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		// The path may lead elsewhere by now: whoever had the lock has deleted the folder.
		now, statErr := os.Lstat(folder)
		owner, ok := info.Sys().(*syscall.Stat_t)
		if statErr != nil || !os.SameFile(info, now) || !ok || int(owner.Uid) != os.Geteuid() {
			err = errClaimed
		}
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = errClaimed
	}
	return nil, errors.Join(err, f.Close())
}
