package main_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestADemoTakesAwayWhatAKilledOneHasLeft(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.env = []string{"TMPDIR=" + s.dir}
	killed := s.command("demo")
	require.NoError(t, killed.Start())
	var made []string
	require.Eventually(t, func() bool {
		made, _ = filepath.Glob(filepath.Join(s.dir, "landlord-demo-*", "landlord.yaml"))
		return len(made) == 1
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, killed.Process.Kill())
	require.Error(t, killed.Wait())
	folder, err := filepath.Rel(s.dir, filepath.Dir(made[0]))
	require.NoError(t, err)
	cfg, err := pgx.ParseConfig(strings.TrimSpace(read(t, s, filepath.Join(folder, "secrets/b.operator.dsn"))))
	require.NoError(t, err)
	reach := func() error {
		conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(cfg.Port)})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	require.NoError(t, reach(), "its servers go on")

	require.Contains(t, s.run("demo").stderr, "taking away what a demo has left in "+filepath.Join(s.dir, folder))
	require.Error(t, reach())
	left, err := filepath.Glob(filepath.Join(s.dir, "landlord-demo-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}
