package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

const (
	defaultImage = "postgres:17-alpine"
	port         = "5432/tcp"

	// A machine without a daemon says so at once; this bounds one that hangs.
	daemonTimeout = 5 * time.Second
)

// noDockerError reports that no Docker daemon answers, which is no failure: the next kind of server is tried.
type noDockerError struct{ cause error }

func (e *noDockerError) Error() string { return "reach Docker: " + e.cause.Error() }
func (e *noDockerError) Unwrap() error { return e.cause }

func isNoDocker(err error) bool {
	_, ok := errors.AsType[*noDockerError](err)
	return ok
}

// startDocker runs a container. Should the test binary be killed, testcontainers' reaper (Ryuk) removes it, unless
// TESTCONTAINERS_RYUK_DISABLED is set, as it must be where Ryuk's image cannot be pulled.
func startDocker(ctx context.Context) (Info, func(context.Context) error, error) {
	tclog.SetDefault(tclog.NewNoopLogger()) // it reports every step; errors come back as errors
	if err := daemonAnswers(ctx); err != nil {
		return Info{}, nil, &noDockerError{err}
	}
	image := cmp.Or(os.Getenv(ImageEnv), defaultImage)
	password := random()
	args := []string{"postgres", "-c", "wal_level=logical", "-c", "fsync=off", "-c", "full_page_writes=off"}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd(args...),
		testcontainers.WithEnv(map[string]string{
			"POSTGRES_PASSWORD":    password,
			"POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C --no-sync",
			"PGDATA":               "/pgdata/data",
		}),
		testcontainers.WithTmpfs(map[string]string{"/pgdata": "rw"}),
		testcontainers.WithExposedPorts(port),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.ShmSize = 256 << 20 // Docker's 64 MB are too few for parallel queries on several connections
		}),
	)
	stop := func(ctx context.Context) error {
		return testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0))
	}
	if err == nil {
		var info Info
		if info, err = awaitContainer(ctx, c, password); err == nil {
			return info, stop, nil
		}
	}
	return Info{}, nil, errors.Join(fmt.Errorf("run image %s: %w", image, err), stop(context.WithoutCancel(ctx)))
}

func daemonAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonTimeout)
	defer cancel()
	client, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	return client.Close()
}

// awaitContainer asks by SQL over TCP until it gets an answer: during set-up the official image runs a server that
// listens on its Unix socket alone, and its log says "ready" twice.
func awaitContainer(ctx context.Context, c testcontainers.Container, password string) (Info, error) {
	host, err := c.Host(ctx)
	if err != nil {
		return Info{}, err
	}
	mapped, err := c.MappedPort(ctx, port)
	if err != nil {
		return Info{}, err
	}
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", password),
		Host:     net.JoinHostPort(host, mapped.Port()),
		Path:     "/postgres",
		RawQuery: "sslmode=disable&connect_timeout=5",
	}
	for {
		info, err := describe(ctx, dsn.String(), "docker")
		if err == nil {
			return info, nil
		}
		if state, stateErr := c.State(ctx); stateErr == nil && !state.Running {
			return Info{}, fmt.Errorf("the container exited with status %d: %w", state.ExitCode, err)
		}
		select {
		case <-ctx.Done():
			return Info{}, fmt.Errorf("wait until it answers: %w (last answer: %w)", context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
