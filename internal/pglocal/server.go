// Package pglocal runs PostgreSQL servers on this machine, for `landlord dev`, the demo, `landlord bench --local` and the
// tests, and a PgBouncer before one of them.
//
// It finds the server programs, sets up a data folder on first use and starts a server on a free port of the loopback
// interface. Root's servers run as `postgres` or `nobody`. A detached server goes on after the process that started
// it, and any later process finds it again by its folder; any other server ends with its process, even one that was
// killed, and takes its data with it. So does a PgBouncer.
//
// Logins, databases and everything else inside a server are left to the caller, who gets a superuser.
package pglocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the login that every local server has.
const Superuser = "postgres"

// readyTimeout bounds a start, set-up included, where the caller's context has no deadline.
const readyTimeout = 90 * time.Second

var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// hostileToPostgres are the bytes that pg_ctl, which starts the server through a shell, does not quote, and the comma that
// parts the folders of unix_socket_directories.
const hostileToPostgres = "\"$`\\,\n\r"

// Config describes one server. Dir and Name say which; the rest applies when it is set up or started.
type Config struct {
	Dir  string // folder that holds the servers; made when missing
	Name string // the server's own folder in Dir

	// Install is where the programs are. Zero: the version that the data folder needs, else what Find(0) returns.
	Install Install

	// Port on 127.0.0.1. Zero: the one it had last, else a free one.
	Port int

	// Password of the superuser, set at first start. Empty: a random one, kept in the server's folder.
	Password string

	// Settings for postgresql.conf, over this package's own (wal_level=logical, loopback only).
	Settings map[string]string

	// Detach lets the server outlive this process. False: the server must be new, and stops when this process ends,
	// and its folder goes with it.
	Detach bool

	// NoSync trades what survives a crash of the machine for speed. A killed server still loses nothing.
	NoSync bool
}

// Server is a local server, running or not. Its methods may be called from several goroutines.
type Server struct {
	Name      string
	Port      int
	Dir       string // all its files
	DataDir   string
	SocketDir string
	LogFile   string
	Install   Install

	cfg      Config
	account  account
	password string

	mu   sync.Mutex // guards proc; held through start and stop, which exclude each other
	proc *process   // the running server when it is not detached
}

// Start returns the server that cfg describes, ready for SQL. It sets the server up when it is new, and leaves one that
// already runs as it is.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start local server %s: %w", cfg.Name, err)
	}
	if err := s.setUpAndLaunch(ctx); err != nil {
		if !cfg.Detach {
			err = errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
		}
		return nil, fmt.Errorf("start local server %s: %w", cfg.Name, err)
	}
	return s, nil
}

// Open returns a server that Start set up earlier, in whatever process, running or not.
// The error wraps fs.ErrNotExist when there is none.
func Open(cfg Config) (*Server, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open local server %s: %w", cfg.Name, err)
	}
	return s, nil
}

func open(cfg Config) (*Server, error) {
	a, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	base, err := existing(a, cfg.Dir, cfg.Name)
	if err != nil {
		return nil, err
	}
	s := newServer(cfg, a, base)
	if err := s.recall(); err != nil {
		return nil, err
	}
	return s, nil
}

func prepare(ctx context.Context, cfg Config) (*Server, error) {
	if !serverName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("%q is no name for a server: it becomes a folder's (%s)", cfg.Name, serverName)
	}
	a, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if strings.ContainsAny(cfg.Dir, hostileToPostgres) {
		return nil, fmt.Errorf("the folder's path %q holds one of %s or a line break: PostgreSQL's own programs cannot work in there; choose another folder",
			cfg.Dir, `, " $ \ and the backquote`)
	}
	base, err := folder(ctx, a, cfg.Dir, cfg.Name)
	if err != nil {
		return nil, err
	}
	s := newServer(cfg, a, base)
	if _, err := os.Stat(s.DataDir); err == nil && !cfg.Detach {
		return nil, fmt.Errorf("%s holds a server already, which must not go with this process; choose another name", base)
	}
	return s, nil
}

func newServer(cfg Config, a account, base string) *Server {
	return &Server{
		Name:      cfg.Name,
		Dir:       base,
		DataDir:   filepath.Join(base, "data"),
		SocketDir: socketFolder(base),
		LogFile:   filepath.Join(base, "log"),
		cfg:       cfg,
		account:   a,
	}
}

// recall reads what an earlier start left: the password, the port and the version of the data.
func (s *Server) recall() error {
	password, err := os.ReadFile(filepath.Join(s.Dir, "password"))
	if err != nil {
		return err
	}
	s.password = string(password)
	version, err := os.ReadFile(filepath.Join(s.DataDir, "PG_VERSION"))
	if err != nil {
		return err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(version)))
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(s.DataDir, "PG_VERSION"), err)
	}
	if s.Install = s.cfg.Install; s.Install.Bin == "" {
		if s.Install, err = Find(major); err != nil {
			return err
		}
	} else if s.Install.Major != major {
		return fmt.Errorf("%s holds data of PostgreSQL %d, and %s is version %d; remove the folder or use the older programs",
			s.DataDir, major, s.Install.Bin, s.Install.Major)
	}
	s.Port, err = readPort(filepath.Join(s.DataDir, configFile))
	return err
}

func (s *Server) setUpAndLaunch(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	release, err := lock(ctx, filepath.Join(s.Dir, "lock"), os.O_CREATE|os.O_RDWR) // nobody else sets it up meanwhile
	if err != nil {
		return err
	}
	defer release()

	if _, err := os.Stat(s.DataDir); err != nil {
		if err := s.initdb(ctx); err != nil {
			return err
		}
	}
	if err := s.recall(); err != nil {
		return err
	}
	if s.alive(ctx) {
		return await(ctx, nil, s.ask)
	}
	return s.launch(ctx, s.cfg.Port, s.Port)
}

// DSN is a superuser's, for the database postgres.
func (s *Server) DSN() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(Superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Account is the operating system user that the server runs as.
func (s *Server) Account() string { return s.account.name }

// Running reports whether the server's main process lives.
func (s *Server) Running(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive(ctx)
}

// PID is the main process's, 0 when the server left no pid file.
func (s *Server) PID() int {
	b, err := os.ReadFile(filepath.Join(s.DataDir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line)) // 0 while the file is still being written
	return pid
}

// Stop shuts the server down: sessions are disconnected, their open transactions rolled back, and everything committed
// is on disk once Stop returns. A server that does not run is no error. If ctx ends first, the server goes on stopping.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx)
}

// Kill ends the main process with SIGKILL, as a crash would, and returns when it is gone.
func (s *Server) Kill(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid := s.PID()
	if pid == 0 || !s.alive(ctx) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill local server %s: %w", s.Name, err)
	}
	for s.alive(ctx) {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("kill local server %s: %w", s.Name, err)
		}
	}
	return nil
}

// Restart stops the server if it runs and starts it on the same port and data.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(ctx); err != nil {
		return err
	}
	if err := s.launch(ctx, s.Port, s.Port); err != nil {
		return fmt.Errorf("restart local server %s: %w", s.Name, err)
	}
	return nil
}

// Remove stops the server and deletes its folder.
func (s *Server) Remove(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.abandon(ctx)
	if err == nil {
		err = errors.Join(os.RemoveAll(s.SocketDir), removeFolder(s.cfg.Dir, s.Dir))
	}
	if err != nil {
		return fmt.Errorf("remove local server %s: %w", s.Name, err)
	}
	return nil
}

// await returns once ask succeeds. exited is closed when the program's process ends; nil means that nobody watches it.
func await(ctx context.Context, exited <-chan struct{}, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("wait until it answers: %w (last answer: %w)", context.Cause(ctx), err)
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// ask makes sure that the server answers SQL as itself. Another server on the same port does not count: it has another data
// folder.
func (s *Server) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, `select current_setting('data_directory')`).Scan(&dir); err != nil {
		return err
	}
	if dir != s.DataDir {
		return fmt.Errorf("port %d answers for another server", s.Port)
	}
	return nil
}

// LogTail returns the end of the server's log, for error reports.
func (s *Server) LogTail() string { return logTail(s.LogFile) }

func logTail(path string) string {
	const size = 2000
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-size), io.SeekStart)
	}
	b, _ := io.ReadAll(f) // what could be read is all there is to show
	return strings.TrimSpace(string(b))
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, readyTimeout)
}
