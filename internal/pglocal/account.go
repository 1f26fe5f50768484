package pglocal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// account is the operating system user that a server runs as. PostgreSQL refuses to run as root, so root's servers run
// as `postgres`, which its packages create, or as `nobody` where the programs came without a package.
type account struct {
	name     string
	uid, gid int
	dropped  bool // not the user that this process runs as
}

func serverAccount() (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{name: "uid " + strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil || uid == 0 {
			continue
		}
		return account{name: name, uid: uid, gid: gid, dropped: true}, nil
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as; " +
		"create one (useradd --system postgres) or start as an ordinary user")
}

// command prepares a program to be run as the account, in a session of its own: a Ctrl-C at the terminal reaches
// the caller, which decides about its servers, and not the servers.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/" // the account may have no right to enter the current folder
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.dropped {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// run runs a program as the account and returns what it printed inside the error.
func (a account) run(ctx context.Context, program string, args ...string) error {
	var out bytes.Buffer
	cmd := a.command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if s := strings.TrimSpace(out.String()); s != "" {
			return fmt.Errorf("%w: %s", err, s)
		}
		return err
	}
	return nil
}

// write replaces a file as the account, readable by the account alone. Root writes nothing into a folder that
// belongs to somebody else: a link planted there would lead it astray.
func (a account) write(ctx context.Context, path, content string) error {
	cmd := a.command(ctx, "/bin/sh", "-c", `umask 077 && cat >"$1.new" && mv -f -- "$1.new" "$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write %s: %w: %s", path, err, bytes.TrimSpace(out))
	}
	return nil
}

// cleanEnv is the environment without what would steer PostgreSQL's programs or translate their messages.
func cleanEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return env
}
