package integration_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// TestTheExampleServiceStartsWithOneCommand does what its page says: one command, then requests of two customers.
func TestTheExampleServiceStartsWithOneCommand(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return (strings.HasPrefix(kv, "LANDLORD_") && !strings.HasPrefix(kv, pglocal.BinEnv+"=")) || strings.HasPrefix(kv, "SERVICE_")
	})
	start := exec.Command(filepath.Join(root(), "examples", "service", "start.sh"))
	start.Env = append(env, "SERVICE_FOLDER="+folder, "SERVICE_ADDR=127.0.0.1:0")
	output := filepath.Join(folder, "output")
	file, err := os.Create(output)
	require.NoError(t, err)
	defer file.Close()
	start.Stdout, start.Stderr = file, file
	said := func() string {
		text, err := os.ReadFile(output)
		require.NoError(t, err)
		return string(text)
	}
	require.NoError(t, start.Start())
	ended := make(chan error, 1)
	go func() { ended <- start.Wait() }()
	t.Cleanup(func() {
		_ = start.Process.Kill() // if it has not ended by itself
		down := exec.Command(filepath.Join(folder, "bin", "landlord"), "dev", "down", "--purge")
		down.Dir, down.Env = folder, env
		out, err := down.CombinedOutput()
		require.NoError(t, err, "%s", out)
	})

	serving := regexp.MustCompile(`"msg":"serving","address":"([^"]+)"`)
	var address string
	for wait := time.Now().Add(5 * time.Minute); address == ""; time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-ended:
			require.Fail(t, "it ended", "%v\n%s", err, said())
		default:
		}
		if m := serving.FindStringSubmatch(said()); m != nil {
			address = m[1]
		}
		require.False(t, time.Now().After(wait), said())
	}
	require.Contains(t, said(), "curl -s acme.localhost:")

	call := func(customer, method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Host = customer + ".localhost"
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err, said())
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	ids := map[string]string{}
	for _, customer := range []string{"acme", "bigco", "bank"} {
		status, text := call(customer, http.MethodPost, "/projects", `{"name": "only `+customer+`'s"}`)
		require.Equal(t, http.StatusCreated, status, text)
		var project struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(text), &project), text)
		ids[customer] = project.ID
	}
	const never = "00000000-0000-4000-8000-000000000000"
	for customer, id := range ids {
		status, text := call(customer, http.MethodGet, "/projects/"+id, "")
		require.Equal(t, http.StatusOK, status, text)
		_, list := call(customer, http.MethodGet, "/projects", "")
		_, nothing := call(customer, http.MethodGet, "/projects/"+never, "")
		for other, foreign := range ids {
			require.Equal(t, other == customer, strings.Contains(list, "only "+other+"'s"), list)
			if other == customer {
				continue
			}
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				status, text := call(customer, method, "/projects/"+foreign, "")
				require.Equal(t, http.StatusNotFound, status, text)
				require.Equal(t, nothing, text, "as what never was")
			}
		}
	}

	require.NoError(t, start.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		require.NoError(t, err, said())
	case <-time.After(time.Minute):
		require.Fail(t, "it does not end", said())
	}
	require.NotContains(t, said(), `"level":"ERROR"`)
	_, err = net.Dial("tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}
