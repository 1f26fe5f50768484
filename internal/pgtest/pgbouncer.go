package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer's variables.
const (
	BouncerEnv        = "LANDLORD_PGBOUNCER"         // the program; empty: the one in PATH or /usr/sbin
	RequireBouncerEnv = "LANDLORD_REQUIRE_PGBOUNCER" // 1: a machine without it fails the tests that need it
)

const (
	bouncerConsole = "landlord_console"
	bouncerTimeout = 20 * time.Second
	bouncerStarts  = 5 // its port may be taken between the look and the bind
)

// BouncerConfig says how a PgBouncer stands in front of a server.
type BouncerConfig struct {
	PoolSize int               // backends of each login in each database
	Users    map[string]string // passwords of logins; PgBouncer asks the server about those that it is not given
	Session  []string          // logins whose backends are theirs as long as they are connected
}

// Bouncer is a PgBouncer in transaction mode, for one test.
type Bouncer struct {
	Host string
	Port int

	cfg     BouncerConfig
	server  *pgx.ConnConfig
	dir     string
	console string // password of the admin console
	points  map[string]string
	leash   *os.File // closing it ends the process and deletes the folder
	exited  chan struct{}
}

// PgBouncer starts a PgBouncer in front of server. Where the program is missing, root and those who set
// LANDLORD_REQUIRE_PGBOUNCER=1 see the test fail, others see it skipped.
func PgBouncer(t testing.TB, server Info, cfg BouncerConfig) *Bouncer {
	t.Helper()
	program := findBouncer(t)
	conn, err := pgx.ParseConfig(server.DSN)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	b := &Bouncer{
		Host: "127.0.0.1", cfg: cfg, server: conn, console: random(), points: make(map[string]string),
	}
	for try := 1; ; try++ {
		err := b.start(t.Context(), program)
		if err == nil {
			break
		}
		log := b.log()
		b.end()
		if try == bouncerStarts || t.Context().Err() != nil {
			t.Fatalf("pgtest: start pgbouncer: %v; its log:\n%s", err, log)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pgtest: pgbouncer's log ends with:\n%s", b.log())
		}
		b.end()
	})
	return b
}

func findBouncer(t testing.TB) string {
	t.Helper()
	name := os.Getenv(BouncerEnv)
	if name == "" {
		name = "pgbouncer"
	}
	program, err := osexec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		program, err = osexec.LookPath("/usr/sbin/" + name)
	}
	if err == nil {
		return program
	}
	const hint = "pgtest: no pgbouncer here; install it (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer) or " +
		"set " + BouncerEnv + " to the program"
	if os.Getenv(RequireBouncerEnv) == "1" || os.Geteuid() == 0 {
		t.Fatalf("%s: %v", hint, err)
	}
	t.Skip(hint)
	return ""
}

// start makes a folder, starts the program there and waits until its console answers.
func (b *Bouncer) start(ctx context.Context, program string) (err error) {
	if b.dir, err = os.MkdirTemp(Scratch(), "landlord-bouncer-"); err != nil {
		return err
	}
	if b.Port, err = freePort(); err != nil {
		return err
	}
	// The shell ends the program when its input ends, as it does when this process has gone, however it went.
	const guard = `
dir=$1; shift
"$@" </dev/null >>"$dir/log" 2>&1 &
program=$!
read -r _
kill -s KILL "$program" 2>/dev/null
wait "$program"
rm -rf -- "$dir"`
	ini := filepath.Join(b.dir, "pgbouncer.ini")
	cmd := osexec.Command("/bin/sh", "-c", guard, "sh", b.dir, program, ini)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is for the tests, which end it
	if os.Geteuid() == 0 {                               // as whom it refuses to run
		cred, err := nobody()
		if err != nil {
			return err
		}
		cmd.SysProcAttr.Credential = cred
		if err := os.Chown(b.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	if err := b.write(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdin = r
	err = cmd.Start()
	_ = r.Close()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	b.leash, b.exited = w, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(b.exited)

	ctx, cancel := context.WithTimeout(ctx, bouncerTimeout)
	defer cancel()
	for {
		_, err := b.ask(ctx, "show version")
		if err == nil {
			return nil
		}
		if strings.Contains(b.log(), "FATAL") || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *Bouncer) end() {
	if b.leash != nil {
		_ = b.leash.Close()
		<-b.exited
		b.leash = nil
	}
	_ = os.RemoveAll(b.dir) // where it has not come to a start
}

func (b *Bouncer) log() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "log"))
	return string(bytes.TrimSpace(text[max(0, len(text)-3000):]))
}

// write writes the configuration.
func (b *Bouncer) write() error {
	host := fmt.Sprintf("host=%s port=%d", b.server.Host, b.server.Port)
	var ini strings.Builder
	ini.WriteString("[databases]\n")
	for _, name := range slices.Sorted(maps.Keys(b.points)) {
		fmt.Fprintf(&ini, "%s = %s dbname=%s\n", name, host, b.points[name])
	}
	fmt.Fprintf(&ini, "* = %s\n[users]\n", host)
	for _, login := range b.cfg.Session {
		fmt.Fprintf(&ini, "%s = pool_mode=session\n", login)
	}
	settings := map[string]string{
		"listen_addr": b.Host, "listen_port": strconv.Itoa(b.Port), "unix_socket_dir": "",
		"pool_mode": "transaction", "default_pool_size": strconv.Itoa(b.cfg.PoolSize), "max_client_conn": "500",
		"auth_type": "scram-sha-256", "auth_file": filepath.Join(b.dir, "userlist.txt"),
		"auth_user": b.server.User, "auth_query": "select usename, passwd from pg_shadow where usename = $1",
		"admin_users": bouncerConsole, "server_login_retry": "1", "server_tls_sslmode": "disable",
	}
	ini.WriteString("[pgbouncer]\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, settings[name])
	}
	var users strings.Builder
	fmt.Fprintf(&users, "%q %q\n%q %q\n", bouncerConsole, b.console, b.server.User, b.server.Password)
	for _, login := range slices.Sorted(maps.Keys(b.cfg.Users)) {
		fmt.Fprintf(&users, "%q %q\n", login, b.cfg.Users[login])
	}
	for name, text := range map[string]string{"pgbouncer.ini": ini.String(), "userlist.txt": users.String()} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Point leads clients that ask for one database to another, at once and under open connections, as an edited line of the
// configuration and a RELOAD do.
func (b *Bouncer) Point(t testing.TB, database, to string) {
	t.Helper()
	b.points[database] = to
	if err := b.write(); err != nil {
		t.Fatalf("pgtest: write pgbouncer's configuration: %v", err)
	}
	b.Console(t, "reload")
}

// Console runs a command of PgBouncer's admin console and returns its rows, by column name.
func (b *Bouncer) Console(t testing.TB, command string) []map[string]string {
	t.Helper()
	rows, err := b.ask(t.Context(), command)
	if err != nil {
		t.Fatalf("pgtest: ask pgbouncer's console %q: %v", command, err)
	}
	return rows
}

func (b *Bouncer) ask(ctx context.Context, command string) (rows []map[string]string, err error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=pgbouncer sslmode=disable",
		b.Host, b.Port, bouncerConsole, b.console))
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.PgConn().Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, result := range results {
		for _, values := range result.Rows {
			row := make(map[string]string)
			for i, f := range result.FieldDescriptions {
				row[f.Name] = string(values[i])
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func nobody() (*syscall.Credential, error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(errUID, errGID)
}
