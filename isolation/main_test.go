package isolation_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	modes  = []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed}
	sealed = []isolation.Mode{isolation.SealedMAC, isolation.Sealed}
	models = []string{"shared", "schema", "database"}
)

// passwords are those of testhouse: roles belong to the server, which all tests share.
var passwords = isolation.Passwords{
	App:      placement.DerivePassword("secret of the tests' application", isolation.AppRole),
	Admin:    placement.DerivePassword("secret of the tests' admin", isolation.AdminRole),
	Migrator: placement.DerivePassword("secret of the tests' admin", isolation.MigratorRole),
}

// home is one database with landlord's objects.
type home struct {
	server   pgtest.Info
	database string
	want     isolation.Identity
	ring     isolation.Keyring
	password string               // of want.AppLogin
	kept     map[string]*pgx.Conn // connections that tests share one after the other
}

var rolesOnce sync.Once

// ensureRoles makes landlord's roles on the server that all tests use.
func ensureRoles(t *testing.T, dsn string) {
	t.Helper()
	rolesOnce.Do(func() {
		_, err := isolation.EnsureRoles(t.Context(), dial(t, dsn, nil), isolation.Sealed, passwords)
		require.NoError(t, err)
	})
}

// newHome makes a database in a mode, installs landlord's objects, and hardens it.
func newHome(t *testing.T, mode isolation.Mode) *home {
	t.Helper()
	h := newDatabase(t, mode)
	_, err := isolation.Install(t.Context(), h.super(t), h.want, h.ring)
	require.NoError(t, err)
	_, err = isolation.Harden(t.Context(), h.super(t), false, false)
	require.NoError(t, err)
	return h
}

// newDatabase makes a database without landlord's objects.
func newDatabase(t *testing.T, mode isolation.Mode) *home {
	t.Helper()
	h := &home{
		server: pgtest.Server(t), database: "home_" + suffix(), password: passwords.App, ring: isolation.Keyring{newKey(t, 1)},
		kept: make(map[string]*pgx.Conn),
	}
	h.want = isolation.Identity{
		Installation: uuid.NewString(), Cluster: "a", Stamp: uuid.NewString(), AppLogin: isolation.AppRole, Mode: mode,
	}
	ensureRoles(t, h.server.DSN)
	_, err := isolation.CreateDatabase(t.Context(), dial(t, h.server.DSN, nil), h.database, isolation.SharedMark(h.want.Installation))
	require.NoError(t, err)
	t.Cleanup(func() { superExec(t, h.server.DSN, "drop database if exists "+ident(h.database)+" with (force)") })
	return h
}

// dedicate gives the database a login of its own, as dedicated databases have.
func (h *home) dedicate(t *testing.T) {
	t.Helper()
	h.want.AppLogin, h.password = h.database+"_app", "the password of one database"
	_, err := isolation.EnsureLogin(t.Context(), dial(t, h.server.DSN, nil), h.want.AppLogin, h.password)
	require.NoError(t, err)
	t.Cleanup(func() {
		superExec(t, h.server.DSN, "drop database if exists "+ident(h.database)+" with (force)")
		superExec(t, h.server.DSN, "drop role if exists "+ident(h.want.AppLogin))
	})
}

// super and migrator return connections that a test has again and again: one at a time, and in no transaction.
func (h *home) super(t *testing.T) *pgx.Conn {
	return h.keep("super", func() *pgx.Conn { return h.dial(t, nil) })
}

func (h *home) migrator(t *testing.T) *pgx.Conn {
	return h.keep("migrator", func() *pgx.Conn { return h.login(t, isolation.MigratorRole, passwords.Migrator) })
}

func (h *home) keep(key string, open func() *pgx.Conn) *pgx.Conn {
	if h.kept[key] == nil || h.kept[key].IsClosed() {
		h.kept[key] = open()
	}
	return h.kept[key]
}

func (h *home) admin(t *testing.T) *pgx.Conn { return h.login(t, isolation.AdminRole, passwords.Admin) }

func (h *home) app(t *testing.T) *pgx.Conn { return h.login(t, h.want.AppLogin, h.password) }

func (h *home) login(t *testing.T, user, password string) *pgx.Conn {
	return h.dial(t, func(cfg *pgx.ConnConfig) { cfg.User, cfg.Password = user, password })
}

func (h *home) dial(t *testing.T, change func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	return dial(t, pgtest.WithDatabase(h.server.DSN, h.database), change)
}

// build runs DDL in a schema as the migrator and secures it, in one transaction. tenant is that of a schema or database home.
func (h *home) build(t *testing.T, schema, tenant, ddl string) {
	t.Helper()
	conn := h.migrator(t)
	exec(t, conn, "begin; set local search_path = "+ident(schema)+", extensions, pg_temp;"+ddl+";"+secureSQL(schema, tenant)+"; commit")
}

func secureSQL(schema, tenant string) string {
	if tenant == "" {
		return "call landlord.secure(" + lit(schema) + ")"
	}
	return "call landlord.secure(" + lit(schema) + ", " + lit(tenant) + ")"
}

// open puts an open fence for a tenant.
func (h *home) open(t *testing.T, tenant, name, model string) {
	t.Helper()
	require.NoError(t, isolation.PutFence(t.Context(), h.super(t), isolation.Fence{
		Tenant: tenant, Slug: "slug", Model: model, Home: name, Epoch: 1, State: isolation.Open,
	}))
}

// enter opens a tenant in the transaction of conn, as the router does.
func (h *home) enter(ctx context.Context, conn *pgx.Conn, e isolation.Entry) error {
	return h.enterWith(ctx, conn, h.ring, e)
}

func (h *home) enterWith(ctx context.Context, conn *pgx.Conn, ring isolation.Keyring, e isolation.Entry) error {
	sealer, err := isolation.NewSealer(h.want.Mode, ring, h.want.Stamp)
	if err != nil {
		return err
	}
	return present(ctx, conn, sealer.Params(e, conn.PgConn().PID(), time.Now()))
}

// present calls enter with parameters in text form.
func present(ctx context.Context, conn *pgx.Conn, params [][]byte) error {
	return conn.PgConn().ExecParams(ctx, isolation.EnterSQL, params, nil, nil, nil).Read().Err
}

// place is a home of one model in which two tenants' rows lie: in the schema and database models the neighbour's have no
// business there, and only the policies hide them.
type place struct {
	*home
	model, schema, name string
	tenant, other       string
}

const (
	ownRows   = 2
	otherRows = 3
	canary    = "row of the neighbour"
)

// newPlace makes a home with a table note, in which tenant has ownRows rows and other has otherRows, and a reference table.
func newPlace(t *testing.T, mode isolation.Mode, model string) *place {
	t.Helper()
	p := &place{model: model, schema: isolation.SharedSchema, tenant: uuid.NewString(), other: uuid.NewString()}
	p.home = newDatabase(t, mode)
	if model == "database" {
		p.dedicate(t)
	}
	super := p.super(t)
	_, err := isolation.Install(t.Context(), super, p.want, p.ring)
	require.NoError(t, err)
	if model == "schema" {
		p.schema = "t_" + suffix()
		require.NoError(t, isolation.CreateSchema(t.Context(), super, p.schema, p.tenant))
	}
	p.name = "a/" + p.database + "/" + p.schema
	p.build(t, p.schema, p.owner(), `
create table note (tenant_id uuid, id bigint generated always as identity, body text not null, primary key (tenant_id, id));
create table reference (code text primary key);
comment on table reference is 'landlord: reference';
insert into reference values ('EUR')`)
	p.fill(t, "note", p.tenant, ownRows, "own row")
	p.fill(t, "note", p.other, otherRows, canary)
	p.open(t, p.tenant, p.name, model)
	p.open(t, p.other, p.name, model)
	return p
}

// owner is what landlord.secure is told.
func (p *place) owner() string {
	if p.model == "shared" {
		return ""
	}
	return p.tenant
}

// fill inserts rows of a tenant as the migrator, who may.
func (p *place) fill(t *testing.T, table, tenant string, rows int, body string) {
	t.Helper()
	_, err := p.migrator(t).Exec(t.Context(), fmt.Sprintf(
		"insert into %s (tenant_id, body) select $1, $2 from generate_series(1, %d)", ident(p.schema, table), rows), tenant, body)
	require.NoError(t, err)
}

func (p *place) entry(tenant string) isolation.Entry {
	return isolation.Entry{Tenant: tenant, Home: p.name, Epoch: 1}
}

// begin opens a transaction on conn and enters tenant.
func (p *place) begin(t *testing.T, conn *pgx.Conn, tenant string, options ...string) {
	t.Helper()
	exec(t, conn, "begin "+strings.Join(options, " "))
	require.NoError(t, p.enter(t.Context(), conn, p.entry(tenant)))
	exec(t, conn, "set local search_path = "+ident(p.schema)+", extensions, pg_temp")
}

// visit runs fn in a transaction of a tenant and rolls it back.
func (p *place) visit(t *testing.T, tenant string, fn func(conn *pgx.Conn)) {
	t.Helper()
	conn := p.app(t)
	p.begin(t, conn, tenant)
	fn(conn)
	exec(t, conn, "rollback")
}

func newKey(t *testing.T, id int) isolation.Key {
	t.Helper()
	k, err := isolation.NewKey(id)
	require.NoError(t, err)
	return k
}

func dial(t testing.TB, dsn string, change func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if change != nil {
		change(cfg)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the test may have killed it
	})
	return conn
}

// superExec also works while the test is being cleaned up.
func superExec(t testing.TB, dsn, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
}

// simple sends text through the simple protocol, as stacked SQL would arrive, and returns every value of every row, also
// of those that came before an error.
func simple(ctx context.Context, conn *pgx.Conn, text string) (values string, err error) {
	results, err := conn.PgConn().Exec(ctx, text).ReadAll()
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			for _, v := range row {
				b.Write(v)
				b.WriteByte('\n')
			}
		}
	}
	return b.String(), err
}

func exec(t testing.TB, conn *pgx.Conn, text string) {
	t.Helper()
	_, err := simple(t.Context(), conn, text)
	require.NoError(t, err, "%s", text)
}

func text(t testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var s string
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&s), "%s", sql)
	return s
}

func count(t testing.TB, conn *pgx.Conn, sql string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from ("+sql+") as rows", args...).Scan(&n), "%s", sql)
	return n
}

// requireCode asserts that PostgreSQL raised err with a SQLSTATE.
func requireCode(t testing.TB, code string, err error, what ...any) *pgconn.PgError {
	t.Helper()
	require.Error(t, err, what...)
	require.Equal(t, code, pgerr.Code(err), "%v: %v", err, what)
	var answer *pgconn.PgError
	require.ErrorAs(t, err, &answer)
	return answer
}

// refuses asserts that SQL fails with a code and leaves the transaction usable.
func refuses(t testing.TB, conn *pgx.Conn, code, sql string) {
	t.Helper()
	if conn.PgConn().TxStatus() == 'I' {
		_, err := simple(t.Context(), conn, sql)
		requireCode(t, code, err, sql)
		return
	}
	exec(t, conn, "savepoint refused")
	_, err := simple(t.Context(), conn, sql)
	requireCode(t, code, err, sql)
	exec(t, conn, "rollback to savepoint refused")
}

func ident(names ...string) string { return pgx.Identifier(names).Sanitize() }

func lit(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func suffix() string { return strings.ReplaceAll(uuid.NewString(), "-", "")[:12] }

// eachPlace runs fn in every model and mode.
func eachPlace(t *testing.T, fn func(t *testing.T, p *place)) {
	for _, mode := range modes {
		for _, model := range models {
			t.Run(string(mode)+"/"+model, func(t *testing.T) {
				t.Parallel()
				fn(t, newPlace(t, mode, model))
			})
		}
	}
}

// eachMode runs fn in a shared home of each of the modes.
func eachMode(t *testing.T, modes []isolation.Mode, fn func(t *testing.T, p *place)) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			fn(t, newPlace(t, mode, "shared"))
		})
	}
}
