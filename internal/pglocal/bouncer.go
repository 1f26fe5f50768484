package pglocal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// BouncerEnv names the variable that points at the program.
const BouncerEnv = "LANDLORD_PGBOUNCER"

// bouncerConsole is the login of the admin console, with a password of its own.
const bouncerConsole = "landlord_console"

// BouncerConfig says how a PgBouncer stands before a server.
type BouncerConfig struct {
	Dir      string            // where its folder is made; empty: the one for temporary files
	Server   string            // a superuser's DSN, by TCP and without TLS
	Mode     string            // session, transaction or statement; empty: transaction
	PoolSize int               // backends of each login in each database
	Users    map[string]string // passwords of logins; PgBouncer asks the server about those that it is not given
	Session  []string          // logins whose backends are theirs as long as they are connected
}

// Bouncer is a PgBouncer. It ends with this process, and its folder goes with it. One goroutine at a time
// may call its methods.
type Bouncer struct {
	Host    string
	Port    int
	Version string // as it says it: "PgBouncer 1.18.0"

	cfg     BouncerConfig
	account account
	server  *pgx.ConnConfig
	dir     string
	console string            // password of the admin console
	points  map[string]string // databases that are led elsewhere
	proc    *process
}

// FindBouncer returns PgBouncer's program: the one that LANDLORD_PGBOUNCER names, else that in PATH or /usr/sbin.
func FindBouncer() (string, error) {
	name := cmp.Or(os.Getenv(BouncerEnv), "pgbouncer")
	program, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		program, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", fmt.Errorf("find PgBouncer: %w; install it (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer) "+
			"or set %s to the program", err, BouncerEnv)
	}
	return filepath.Abs(program)
}

// StartBouncer starts the PgBouncer that FindBouncer finds, on a free port of the loopback interface.
func StartBouncer(ctx context.Context, cfg BouncerConfig) (*Bouncer, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	b, err := startBouncer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	return b, nil
}

func startBouncer(ctx context.Context, cfg BouncerConfig) (*Bouncer, error) {
	program, err := FindBouncer()
	if err != nil {
		return nil, err
	}
	server, err := pgx.ParseConfig(cfg.Server)
	if err != nil {
		return nil, err
	}
	a, err := serverAccount() // PgBouncer too refuses to run as root
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cmp.Or(cfg.Dir, os.TempDir())); err != nil {
		return nil, err
	}
	b := &Bouncer{Host: "127.0.0.1", cfg: cfg, account: a, server: server, console: rand.Text(), points: map[string]string{}}
	if b.dir, err = folder(ctx, a, cfg.Dir, "landlord-bouncer-"+strings.ToLower(rand.Text()[:12])); err != nil {
		return nil, err
	}
	err = retry(ctx, b.LogTail, func() error {
		b.Port = freePort()
		return b.launch(ctx, program)
	})
	if err != nil {
		return nil, errors.Join(err, removeFolder(cfg.Dir, b.dir))
	}
	return b, nil
}

func (b *Bouncer) launch(ctx context.Context, program string) error {
	if err := b.write(ctx); err != nil {
		return err
	}
	p, err := b.account.guarded("KILL", b.file("log"), [2]string{b.dir, b.dir}, program, b.file("pgbouncer.ini"))
	if err != nil {
		return err
	}
	b.proc = p
	return p.ready(ctx, func(ctx context.Context) error {
		rows, err := b.Console(ctx, "show version")
		if err == nil && len(rows) > 0 {
			b.Version = rows[0]["version"]
		}
		return err
	})
}

// Close ends PgBouncer, whoever is connected, and deletes its folder.
func (b *Bouncer) Close() error {
	err := b.proc.end(context.Background()) // a killed process is gone at once
	return errors.Join(err, removeFolder(b.cfg.Dir, b.dir))
}

// Addr is where it listens: host:port.
func (b *Bouncer) Addr() string { return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) }

// LogTail returns the end of its log, for error reports.
func (b *Bouncer) LogTail() string { return logTail(b.file("log")) }

func (b *Bouncer) file(name string) string { return filepath.Join(b.dir, name) }

// write writes the configuration.
func (b *Bouncer) write(ctx context.Context) error {
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
		"pool_mode": cmp.Or(b.cfg.Mode, "transaction"), "default_pool_size": strconv.Itoa(b.cfg.PoolSize), "max_client_conn": "500",
		"auth_type": "scram-sha-256", "auth_file": b.file("userlist.txt"),
		"auth_user": b.server.User, "auth_query": "select usename, passwd from pg_shadow where usename = $1",
		"admin_users": bouncerConsole, "server_login_retry": "1", "server_tls_sslmode": "disable",
	}
	ini.WriteString("[pgbouncer]\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, settings[name])
	}
	passwords := map[string]string{bouncerConsole: b.console, b.server.User: b.server.Password}
	maps.Copy(passwords, b.cfg.Users)
	var users strings.Builder
	for _, login := range slices.Sorted(maps.Keys(passwords)) {
		fmt.Fprintf(&users, "%s %s\n", bouncerQuote(login), bouncerQuote(passwords[login]))
	}
	if err := b.account.write(ctx, b.file("userlist.txt"), users.String()); err != nil {
		return err
	}
	return b.account.write(ctx, b.file("pgbouncer.ini"), ini.String())
}

func bouncerQuote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Point leads clients that ask for one database to another, at once and under open connections, as an edited line of the
// configuration and a RELOAD do.
func (b *Bouncer) Point(ctx context.Context, database, to string) error {
	b.points[database] = to
	if err := b.write(ctx); err != nil {
		return err
	}
	_, err := b.Console(ctx, "reload")
	return err
}

// Console runs a command of the admin console and returns its rows, by column name.
func (b *Bouncer) Console(ctx context.Context, command string) (rows []map[string]string, err error) {
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
		return nil, fmt.Errorf("ask PgBouncer %q: %w", command, err)
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
