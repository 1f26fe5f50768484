package pglocal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fallbackParent holds the folders of servers whose own place is out of reach for the account they run as. It is
// sticky, so nobody else can move a folder in it, and it survives a reboot.
const fallbackParent = "/var/tmp"

// maxSocketPath is what every platform allows for the path of a Unix socket, with some room.
const maxSocketPath = 100

// folder finds or makes the folder of one server, which belongs to the account: dir/name or, where the account cannot
// get there (a checkout under a home with mode 0700, a mount that knows no owners), one under /var/tmp whose name
// follows from dir, so that later processes find it too.
func folder(ctx context.Context, a account, dir, name string) (string, error) {
	base := filepath.Join(dir, name)
	err := makeAlone(ctx, a, base)
	if err == nil || !a.dropped || ctx.Err() != nil {
		return base, err
	}
	aside, asideErr := fallback(dir)
	if asideErr == nil {
		base = filepath.Join(aside, name)
		asideErr = makeAlone(ctx, a, base)
	}
	if asideErr != nil {
		_ = os.Remove(aside) // unless it holds other servers
		return "", errors.Join(err, asideErr)
	}
	return base, nil
}

// removeFolder deletes what folder made in dir.
func removeFolder(dir, base string) error {
	if err := os.RemoveAll(base); err != nil {
		return err
	}
	if aside := filepath.Dir(base); aside == fallbackPath(dir) {
		_ = os.Remove(aside) // fails, rightly, while others are in it
	}
	return nil
}

// existing finds the folder that an earlier call of folder made.
func existing(a account, dir, name string) (string, error) {
	candidates := []string{filepath.Join(dir, name)}
	if a.dropped {
		candidates = append(candidates, filepath.Join(fallbackPath(dir), name))
	}
	for _, base := range candidates {
		if _, err := os.Stat(filepath.Join(base, "data", "PG_VERSION")); err == nil {
			return base, owned(base, a.uid)
		}
	}
	return "", fmt.Errorf("no server %s in %s: %w", name, dir, fs.ErrNotExist)
}

func fallbackPath(dir string) string { return filepath.Join(fallbackParent, shortName(dir)) }

func fallback(dir string) (string, error) {
	path := fallbackPath(dir)
	switch err := os.Mkdir(path, 0o755); {
	case err == nil:
		return path, os.Chmod(path, 0o755) // whatever the umask is
	case errors.Is(err, fs.ErrExist):
		return path, owned(path, os.Geteuid())
	default:
		return "", err
	}
}

// makeAlone is makeFolder for a folder that other processes may be making too: between its making and its handing over to the
// account it is nobody's that they know, and they would go elsewhere.
func makeAlone(ctx context.Context, a account, base string) error {
	if !a.dropped {
		return makeFolder(ctx, a, base)
	}
	parent := filepath.Dir(base)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	release, err := lock(ctx, parent, syscall.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer release()
	return makeFolder(ctx, a, base)
}

func makeFolder(ctx context.Context, a account, base string) error {
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(base, 0o700)
	made := err == nil
	switch {
	case made && a.dropped:
		err = os.Lchown(base, a.uid, a.gid)
	case errors.Is(err, fs.ErrExist):
		err = owned(base, a.uid)
	}
	if err == nil {
		// Asking the account itself sees ACLs, mounts and the folders above, which permission bits do not.
		if err = a.run(ctx, "/bin/sh", "-c", `cd -- "$1" && test -w .`, "sh", base); err != nil {
			err = fmt.Errorf("%s is out of reach for %s: %w", base, a.name, err)
		}
	}
	if err != nil && made {
		_ = os.Remove(base)
	}
	return err
}

// owned refuses a folder that somebody else prepared, which /var/tmp and /dev/shm allow.
func owned(path string, uid int) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != uid {
		return fmt.Errorf("%s exists and is not a folder of uid %d; remove it or choose another folder", path, uid)
	}
	return nil
}

// socketFolder is where the server's Unix socket lies: in its own folder, or where that path would be too long for
// the operating system, in one with a short name that follows from it.
func socketFolder(base string) string {
	own := filepath.Join(base, "run")
	if len(filepath.Join(own, ".s.PGSQL.65535.lock")) < maxSocketPath {
		return own
	}
	return filepath.Join("/tmp", shortName(base))
}

func shortName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "landlord-" + hex.EncodeToString(sum[:6])
}

// lock keeps other processes from what a file or folder stands for. The kernel releases it with the process.
func lock(ctx context.Context, path string, flags int) (release func(), err error) {
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("wait for another process to finish with %s: %w", filepath.Dir(path), err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
