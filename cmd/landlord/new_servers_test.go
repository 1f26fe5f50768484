package main_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
)

// newServers are the folders of two servers that have been set up and have never been used, made once for all tests. Each has a
// system identifier of its own; those of a copy are the same, which no two servers of one shop have.
var newServers struct {
	sync.Mutex
	dir string
	err error
}

func setUpNewServers(ctx context.Context) (dir string, err error) {
	if dir, err = os.MkdirTemp(pgtest.Scratch(), "landlord-new-"); err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	for _, name := range []string{"a", "b"} {
		s, err := pglocal.Start(ctx, pglocal.Config{Dir: dir, Name: name, Detach: true})
		if err == nil {
			err = s.Stop(ctx)
		}
		if err != nil {
			return dir, err
		}
		// Without a port the copies choose one each, and do not try for the same one.
		conf := filepath.Join(s.DataDir, "postgresql.conf")
		text, err := os.ReadFile(conf)
		if err == nil {
			err = os.WriteFile(conf, regexp.MustCompile(`(?m)^port = .*\n`).ReplaceAll(text, nil), 0o600)
		}
		if err = errors.Join(err, os.Remove(s.LogFile)); err != nil {
			return dir, err
		}
	}
	return dir, nil
}

func copyNewServers(t *testing.T, s *shop) {
	t.Helper()
	newServers.Lock()
	defer newServers.Unlock()
	if newServers.dir == "" {
		newServers.dir, newServers.err = setUpNewServers(context.WithoutCancel(t.Context()))
	}
	require.NoError(t, newServers.err)
	folder := filepath.Join(s.dir, ".landlord")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	// The files stay their owner's, which Go's own copying does not see to.
	out, err := exec.CommandContext(t.Context(), "cp", "-a", newServers.dir, filepath.Join(folder, "servers")).CombinedOutput()
	require.NoError(t, err, string(out))
}

func removeNewServers() error {
	newServers.Lock()
	defer newServers.Unlock()
	return os.RemoveAll(newServers.dir)
}
