// Package integration tests what is promised of the whole: with the real binary, with several processes, and with broken
// networks between them.
package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := runChild(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(scored{m})
}

// scored prints the score of the mutants when all else is said.
type scored struct{ *testing.M }

func (s scored) Run() int {
	code := s.M.Run()
	printScore(os.Stdout)
	return code
}

// root is the folder of the module.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}

var binary struct {
	sync.Once
	path string
	err  error
	out  []byte
}

// landlord builds the real program, once, and returns its path.
func landlord(t *testing.T) string {
	t.Helper()
	binary.Do(func() {
		binary.path = filepath.Join(filepath.Dir(os.Args[0]), "landlord") // beside the test binary, and removed with it
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", binary.path, "./cmd/landlord")
		cmd.Dir = root()
		binary.out, binary.err = cmd.CombinedOutput()
	})
	require.NoError(t, binary.err, "%s", binary.out)
	return binary.path
}
