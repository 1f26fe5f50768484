package pgtest

import (
	"context"
	"crypto/rand"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// memory is a file system in memory, on Linux; a container's is often too small for a server.
const (
	memory     = "/dev/shm"
	memoryNeed = 2 << 30
)

func startLocal(ctx context.Context) (*pglocal.Server, error) {
	return pglocal.Start(ctx, localConfig())
}

func localConfig() pglocal.Config {
	return pglocal.Config{
		Dir:      Scratch(),
		Name:     "landlord-test-" + random(),
		Settings: maps.Clone(settings),
		NoSync:   true,
	}
}

// Scratch is a folder for the files of servers that tests start: in memory where there is room, since setting up a
// server is hard on a disk.
func Scratch() string {
	var st syscall.Statfs_t
	if syscall.Statfs(memory, &st) == nil && uint64(st.Bavail)*uint64(st.Bsize) >= memoryNeed {
		return memory
	}
	return os.TempDir()
}

// OwnServer starts a local server for one test, which may stop, kill and restart it. It is removed when the test ends.
// It needs PostgreSQL's programs on this machine, whatever the other tests run on.
func OwnServer(t testing.TB) *pglocal.Server {
	t.Helper()
	return own(t, localConfig())
}

// DiskServer is what OwnServer is, but as in production: its files are on a disk, to which every commit is flushed. It is for
// benchmarks.
func DiskServer(t testing.TB) *pglocal.Server {
	t.Helper()
	cfg := localConfig()
	cfg.Dir, cfg.NoSync = os.TempDir(), false
	return own(t, cfg)
}

func own(t testing.TB, cfg pglocal.Config) *pglocal.Server {
	t.Helper()
	s, err := pglocal.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("pgtest: this test needs a server of its own: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
		defer cancel()
		if t.Failed() {
			t.Logf("pgtest: the server's log ends with:\n%s", s.LogTail())
		}
		if err := s.Remove(ctx); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s
}

// Describe says how to reach a server of one's own.
func Describe(t testing.TB, s *pglocal.Server) Info {
	t.Helper()
	info, err := describe(t.Context(), s.DSN(), "local")
	if err != nil {
		t.Fatalf("pgtest: describe the test's own server: %v", err)
	}
	return info
}

func random() string { return strings.ToLower(rand.Text()[:12]) }
