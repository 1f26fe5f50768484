package pglocal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// starts is how often a start is tried, in about three seconds: the port may be taken between the look and the bind,
// and after a crash the old server's last processes keep the data folder for a moment.
const starts = 16

var errExited = errors.New("it exited")

// process is a program that ends with this one. It runs under a shell that reads from a pipe whose other end only
// this process has: when this process is gone, however it went, the kernel closes the pipe, the shell sees the end
// of its input, kills the program and deletes the folders. (Linux could signal the child at the death of its parent;
// but that is the death of the parent's thread, which Go's scheduler decides, and other systems have no such thing.)
type process struct {
	leash  *os.File      // closing it ends the program and deletes the folders
	exited chan struct{} // closed when the program has ended and been waited for
	err    error         // its exit status; read after exited
}

// guardScript gets the signal that ends the program, the log and two folders as arguments, then the program. The inner
// shell waits for the end of input, and from then on is not to be stopped; the outer one is the program's parent, so that
// the pid cannot have become another's.
const guardScript = `
signal=$1 log=$2 dir=$3 socket=$4
shift 4
exec 3<&0 </dev/null
"$@" >>"$log" 2>&1 3<&- &
program=$!
(
	read -r _ <&3
	trap '' TERM
	kill -s "$signal" "$program" 2>/dev/null
	exit 0
) &
watcher=$!
exec 3<&-
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
wait "$watcher" && rm -rf -- "$dir" "$socket" 2>/dev/null
exit "$status"
`

func (s *Server) guarded(signal, program string, args ...string) (*process, error) {
	return s.account.guarded(signal, s.LogFile, [2]string{s.Dir, s.SocketDir}, program, args...)
}

func (a account) guarded(signal, log string, folders [2]string, program string, args ...string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// The guard outlives every context: it ends with this process, or when the program does.
	cmd := a.command(context.Background(), "/bin/sh",
		append([]string{"-c", guardScript, "sh", signal, log, folders[0], folders[1], program}, args...)...)
	cmd.Stdin = r
	err = cmd.Start()
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	p := &process{leash: w, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready returns once ask succeeds. A program that does not come to that is ended; one that has exited by itself, which is
// errExited, leaves its folders.
func (p *process) ready(ctx context.Context, ask func(context.Context) error) error {
	err := await(ctx, p.exited, ask)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errExited):
		_ = p.leash.Close()
		return err
	default:
		return errors.Join(err, p.end(context.WithoutCancel(ctx)))
	}
}

// end kills the program, folders and all, and waits until it is gone.
func (p *process) end(ctx context.Context) error {
	_ = p.leash.Close()
	return p.wait(ctx)
}

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.exited:
		_ = p.leash.Close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until it has ended: %w", context.Cause(ctx))
	}
}

// initdb makes the data folder under another name first: a folder called data is always whole.
func (s *Server) initdb(ctx context.Context) error {
	in := s.cfg.Install
	if in.Bin == "" {
		var err error
		if in, err = Find(0); err != nil {
			return err
		}
	}
	if err := s.account.run(ctx, in.program("initdb"), "-V"); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s may not run %s: put the programs where that user can reach them: %w",
			s.account.name, in.program("initdb"), err)
	} else if err != nil {
		return fmt.Errorf("run %s: %w", in.program("initdb"), err)
	}
	password := s.cfg.Password
	if password == "" {
		password = rand.Text()
	}
	if err := s.account.write(ctx, filepath.Join(s.Dir, "password"), password); err != nil {
		return err
	}
	fresh := s.DataDir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	args := []string{
		"-D", fresh, "-U", Superuser, "--pwfile", filepath.Join(s.Dir, "password"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if s.cfg.NoSync {
		args = append(args, "--no-sync")
	}
	if err := s.runTied(ctx, in.program("initdb"), args...); err != nil {
		return fmt.Errorf("set up its data folder: %w", err)
	}
	return os.Rename(fresh, s.DataDir)
}

// runTied runs a program to its end. That of a server that is not detached leaves nothing behind if this process dies.
func (s *Server) runTied(ctx context.Context, program string, args ...string) error {
	if s.cfg.Detach {
		return s.account.run(ctx, program, args...)
	}
	p, err := s.guarded("TERM", program, args...)
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return errors.Join(err, p.end(context.WithoutCancel(ctx)))
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, s.LogTail())
	}
	return nil
}

// launch starts the server on the wanted port, or with 0 on the last one if that is free, else on any other.
func (s *Server) launch(ctx context.Context, wanted, last int) error {
	if own := filepath.Dir(s.SocketDir) == s.Dir; own {
		if err := s.account.run(ctx, "/bin/mkdir", "-p", "-m", "700", s.SocketDir); err != nil {
			return fmt.Errorf("make %s: %w", s.SocketDir, err)
		}
	} else if err := makeFolder(ctx, s.account, s.SocketDir); err != nil {
		return err
	}
	return retry(ctx, s.LogTail, func() (err error) {
		if s.Port, err = choosePort(wanted, last); err != nil {
			return err
		}
		last = 0
		return s.tryLaunch(ctx)
	})
}

// retry starts a program again as long as it exits at once.
func retry(ctx context.Context, logTail func() string, start func() error) error {
	for try := 1; ; try++ {
		err := start()
		if err == nil || !errors.Is(err, errExited) {
			return err
		}
		if try == starts || ctx.Err() != nil {
			return fmt.Errorf("%w: its log ends with:\n%s", err, logTail())
		}
		if err := pause(ctx, time.Duration(try-1)*25*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *Server) tryLaunch(ctx context.Context) error {
	conf, err := s.config()
	if err != nil {
		return err
	}
	if err := s.account.write(ctx, filepath.Join(s.DataDir, configFile), conf); err != nil {
		return err
	}
	// Settings that the server cannot use are reported at once, and not taken for a port that was lost.
	if err := s.account.run(ctx, s.Install.program("postgres"), "-D", s.DataDir, "-C", "port"); err != nil {
		return fmt.Errorf("check %s: %w", configFile, err)
	}
	if s.cfg.Detach {
		// pg_ctl's server is nobody's child: it neither dies with this process nor stays behind as a zombie.
		err := s.account.run(ctx, s.Install.program("pg_ctl"), "start", "-D", s.DataDir, "-l", s.LogFile, "-s", "-w")
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(err, s.stop(context.WithoutCancel(ctx)))
			}
			return errors.Join(errExited, err)
		}
		return await(ctx, nil, s.ask)
	}
	p, err := s.guarded("QUIT", s.Install.program("postgres"), "-D", s.DataDir)
	if err != nil {
		return err
	}
	if err := p.ready(ctx, s.ask); err != nil {
		return err
	}
	s.proc = p
	return nil
}

func (s *Server) alive(ctx context.Context) bool {
	if s.proc != nil {
		select {
		case <-s.proc.exited:
			return false
		default:
			return true
		}
	}
	// Asked as the account: the pid in the file may by now be another user's process.
	pid := s.PID()
	return pid != 0 && s.account.run(ctx, s.Install.program("pg_ctl"), "status", "-D", s.DataDir) == nil && !zombie(pid)
}

// zombie reports whether a process has ended and only waits to be reaped. Nobody may do that to a detached server in a
// container, and pg_ctl takes it for alive. Where there is no /proc, there is an init that reaps.
func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	end := bytes.LastIndexByte(stat, ')') // of the program's name, which may hold anything
	return err == nil && end >= 0 && bytes.HasPrefix(stat[end:], []byte(") Z"))
}

func (s *Server) stop(ctx context.Context) error {
	if !s.alive(ctx) {
		return nil
	}
	if s.proc == nil {
		err := s.account.run(ctx, s.Install.program("pg_ctl"), "stop", "-D", s.DataDir, "-m", "fast", "-s", "-w", "-t", "3600")
		if err != nil && s.alive(context.WithoutCancel(ctx)) {
			return fmt.Errorf("stop local server %s: %w", s.Name, err)
		}
		return nil
	}
	if err := syscall.Kill(s.PID(), syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop local server %s: %w", s.Name, err)
	}
	if err := s.proc.wait(ctx); err != nil {
		return fmt.Errorf("stop local server %s: %w", s.Name, err)
	}
	return nil
}

// abandon stops a server whose data nobody needs any more.
func (s *Server) abandon(ctx context.Context) error {
	if s.proc != nil {
		return s.proc.end(ctx)
	}
	if !s.alive(ctx) {
		return nil
	}
	return s.account.run(ctx, s.Install.program("pg_ctl"), "stop", "-D", s.DataDir, "-m", "immediate", "-s", "-w")
}

// Ports are sought below the ranges from which operating systems take the local ports of outgoing connections: one
// of those could be taken at any moment, also while the server restarts.
const (
	firstPort = 20000
	lastPort  = 31999
)

func choosePort(wanted, last int) (int, error) {
	switch {
	case wanted != 0 && portFree(wanted):
		return wanted, nil
	case wanted != 0:
		return 0, fmt.Errorf("port %d is in use; free it or choose another", wanted)
	case last != 0 && portFree(last):
		return last, nil
	default:
		return freePort(), nil
	}
}

func freePort() int {
	for range 100 {
		if p := firstPort + mathrand.IntN(lastPort-firstPort+1); portFree(p) {
			return p
		}
	}
	return firstPort // the server itself will say that it is taken
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
