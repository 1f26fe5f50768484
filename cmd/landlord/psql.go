package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// psql runs the real psql with the given session settings until it ends. What it prints and reads is the caller's.
func (a *app) psql(to psqlTarget, commands []string) error {
	args := []string{"--no-psqlrc"}
	for _, c := range commands {
		args = append(args, "--command="+c)
	}
	return a.runPsql(to, nil, args, nil)
}

// runPsql runs psql. The first of files is /dev/fd/3 to it, and so on; they are closed here. talk, unless nil, runs beside
// psql, must end when psql ends, and is waited for.
func (a *app) runPsql(to psqlTarget, env, args []string, talk func(), files ...*os.File) error {
	defer func() {
		for _, f := range files {
			_ = f.Close() // once more is no harm
		}
	}()
	program, err := findPsql()
	if err != nil {
		return err
	}
	where, err := to.conninfo()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, append([]string{"--dbname=" + where, "--set=VERBOSITY=verbose", "--set=ON_ERROR_STOP=1"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	cmd.Env, cmd.ExtraFiles = append(to.env(), env...), files

	// A signal cancels psql's query, not psql: only psql knows what Ctrl-C means at its prompt.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	forwarded := make(chan struct{})
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		return fmt.Errorf("start psql: %w", err)
	}
	for _, f := range files {
		_ = f.Close() // psql has them: its end is theirs
	}
	talked := make(chan struct{})
	go func() {
		defer close(talked)
		if talk != nil {
			talk()
		}
	}()
	go func() {
		defer close(forwarded)
		for s := range signals {
			_ = cmd.Process.Signal(s) // fails once psql has ended, and then nothing is lost
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	close(signals)
	<-forwarded
	<-talked

	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return &statusError{status: exitFailed} // psql has said why
	}
	if err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	return nil
}

// findPsql prefers the client of the newest server programs here to whatever comes first in PATH.
func findPsql() (string, error) {
	if install, err := pglocal.Find(0); err == nil {
		if program, err := exec.LookPath(filepath.Join(install.Bin, "psql")); err == nil {
			return program, nil
		}
	}
	program, err := exec.LookPath("psql")
	if err != nil {
		return "", errors.New("find psql: it is neither in PATH nor beside PostgreSQL's server programs: install it (Debian: apt-get install postgresql-client)")
	}
	return program, nil
}
