// Package pgtest gives tests a real PostgreSQL: one server per test binary, a database per test.
//
// The server is, in this order: the one that LANDLORD_TEST_DSN names (a superuser's DSN; it may be shared by any number
// of test binaries), a container started through Docker if its daemon answers (LANDLORD_TEST_IMAGE says which image,
// LANDLORD_TEST_DOCKER=off skips it and =must allows nothing else), or a local one made from the programs on this
// machine. What a test got is dropped when it ends, and the server goes with the test binary, even a killed one.
//
// Roles belong to the server, not to a database: tests that make roles must tolerate each other, or take OwnServer.
package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// The variables that choose the server.
const (
	DSNEnv    = "LANDLORD_TEST_DSN"
	DockerEnv = "LANDLORD_TEST_DOCKER"
	ImageEnv  = "LANDLORD_TEST_IMAGE"
)

const (
	startTimeout = 3 * time.Minute // an image may have to be pulled
	callTimeout  = time.Minute     // one administrative statement on a busy machine
)

// Info says what server the tests run on.
type Info struct {
	DSN     string // a superuser's, for the database postgres (or the one that LANDLORD_TEST_DSN names)
	Host    string
	Port    int
	Version int    // server_version_num: 150013
	Source  string // "dsn", "docker" or "local"
}

// Addr is the server's host:port.
func (i Info) Addr() string { return net.JoinHostPort(i.Host, strconv.Itoa(i.Port)) }

// settings fit many small databases and many tests at once.
var settings = map[string]string{
	"max_connections":       "300",
	"max_replication_slots": "50",
	"max_wal_senders":       "50",
	"max_worker_processes":  "64",
	"shared_buffers":        "128MB",
	"autovacuum_naptime":    "10min", // a worker in a template would be in the way of those who copy it
}

var shared struct {
	sync.Mutex // held while the server starts: the other tests wait for it
	tried      bool
	docker     bool // a Docker daemon was spoken to, with whatever result
	info       Info
	err        error
	stop       func(context.Context) error
}

// Main is the body of a TestMain. It runs the tests, stops the server, and fails when a goroutine was left behind.
func Main(m interface{ Run() int }) {
	code := m.Run()
	err := stopServer()
	if err == nil && code == 0 {
		err = goleak.Find(leakOptions()...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// leakOptions lists what may still run after the tests: nothing of ours.
func leakOptions() []goleak.Option {
	if !shared.docker {
		return nil
	}
	return []goleak.Option{
		// testcontainers keeps its HTTP connections to the Docker daemon open and offers no way to close them.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		// Its reaper, where enabled, holds a connection for as long as the process lives: that is how it works.
		goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1"),
	}
}

func stopServer() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.stop == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return shared.stop(ctx)
}

// Server starts the binary's server, or returns the one that runs already.
func Server(t testing.TB) Info {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.tried {
		shared.tried = true
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout) // the server outlives this test
		defer cancel()
		shared.info, shared.stop, shared.err = start(ctx)
	}
	if shared.err != nil {
		t.Fatalf("pgtest: %v", shared.err)
	}
	return shared.info
}

// start is called under shared's mutex.
func start(ctx context.Context) (Info, func(context.Context) error, error) {
	if dsn := os.Getenv(DSNEnv); dsn != "" {
		info, err := describe(ctx, dsn, "dsn")
		if err != nil {
			return Info{}, nil, fmt.Errorf("use the server that %s names: %w", DSNEnv, err)
		}
		return info, nil, nil
	}
	mode := os.Getenv(DockerEnv)
	if mode != "off" {
		info, stop, err := startDocker(ctx)
		shared.docker = !isNoDocker(err)
		if err == nil || mode == "must" {
			return info, stop, err
		}
		if shared.docker {
			fmt.Fprintf(os.Stderr, "pgtest: no server from Docker (%v); trying the programs on this machine\n", err)
		}
	}
	s, err := startLocal(ctx)
	if err != nil {
		return Info{}, nil, err
	}
	info, err := describe(ctx, s.DSN(), "local")
	return info, s.Remove, err
}

// describe asks the server what it is, which also shows that it answers SQL.
func describe(ctx context.Context, dsn, source string) (Info, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return Info{}, err
	}
	info := Info{DSN: dsn, Host: cfg.Host, Port: int(cfg.Port), Source: source}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return Info{}, err
	}
	defer conn.Close(ctx)
	var super bool
	const q = `select current_setting('server_version_num')::int, rolsuper from pg_roles where rolname = current_user`
	if err := conn.QueryRow(ctx, q).Scan(&info.Version, &super); err != nil {
		return Info{}, err
	}
	if !super {
		return Info{}, fmt.Errorf("%s is no superuser, and tests make roles and databases; name a superuser's login", cfg.User)
	}
	return info, nil
}
