package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// The attack suite: what is tried against a tenant from inside a service that another one has taken hold of, and in which modes it
// gets through. An attack that a mode is said not to stop must be seen to succeed there, so that what the documentation says of the
// limits is as true as what it says of the guarantees.
//
// Most attacks run in a session of the application's login that the attacker has to himself, where nothing but the database stands in
// the way: that is what SQL reaches which was built into one of the application's own functions, or which goes around the router.
// attack_door_test.go tries what can be said through the router. Mutants (mutant_test.go) prove that the suite would see it if a part
// of the isolation were missing.

// attack is one row of the table.
type attack struct {
	name string
	// through are the modes in which it succeeds, in a home as it is installed.
	through []isolation.Mode
	// hardened tells that landlord harden stops it, in every mode.
	hardened bool
	// try tells whether it has succeeded. It leaves everything as it was.
	try func(t *testing.T, s *scene) bool
}

var (
	everyMode = []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed}
	// unsigned are the modes in which enter asks for no token.
	unsigned = []isolation.Mode{isolation.Plain, isolation.Locked}
	// unowned are the modes that leave to the public what the server's superuser alone can take from it.
	unowned = []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC}
)

// attacks is the whole table.
func attacks() []attack {
	return slices.Concat(rowAttacks, rightAttacks, tokenAttacks, fenceAttacks, sessionAttacks, oracleAttacks, resourceAttacks,
		forgeryAttacks())
}

// scene is a house with a victim of each model, and a thief where there can be two in one database.
type scene struct {
	*testhouse.House
	mode          isolation.Mode
	database      string // where sessions are opened: the shared database, or a copy of it
	stamp         string
	server        int // its version number
	thief, victim map[placement.Model]placement.Placement
	fenced        map[isolation.FenceState]string // tenants that cannot be entered, by why
	careless      bool                            // nothing is reset between two transactions on a connection
}

const (
	canary     = "row of the victim"
	thiefRows  = 2
	victimRows = 3
	crowd      = 400 // rows of the victim with the same text, for the planner to notice
)

// attackTables are an application's tables, one of each kind.
var attackTables = fstest.MapFS{"00001_tables.sql": {Data: []byte(`-- +goose Up
create table note (
    tenant_id uuid,
    id        bigint generated always as identity,
    body      text not null,
    primary key (tenant_id, id),
    unique (tenant_id, body)
);
create table link (
    tenant_id uuid,
    id        bigint generated always as identity,
    note_id   bigint not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, note_id) references note (tenant_id, id)
);
create table coupon (tenant_id uuid, code text not null unique, primary key (tenant_id, code));
create table event (tenant_id uuid, id bigint not null, body text not null, primary key (tenant_id, id)) partition by hash (tenant_id);
create table event_0 partition of event for values with (modulus 1, remainder 0);
create table currency (code text primary key);
comment on table currency is 'landlord: reference';
insert into currency values ('EUR');
create table unclassed (body text primary key);
create view note_view as select * from note;
create materialized view note_copy as select * from note;
create function note_bodies() returns setof text language sql stable as 'select body from note';
create function note_definer() returns setof text language sql stable security definer as 'select body from note';
create sequence ticket;
-- +goose Down
drop table note;
`)}}

// newScene builds it. It is as installed: what hardening takes is still there.
func newScene(t *testing.T, opts testhouse.Options) *scene {
	t.Helper()
	opts.Clusters, opts.Soft, opts.Migrations = []string{"a"}, true, attackTables
	h := testhouse.New(t, opts)
	s := &scene{
		House: h, mode: opts.Mode, thief: make(map[placement.Model]placement.Placement), victim: make(map[placement.Model]placement.Placement),
		fenced: make(map[isolation.FenceState]string),
	}
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema} {
		s.thief[m] = h.Add(t, "thief-"+string(m), m, "a")
		s.fill(t, s.thief[m], "own row", thiefRows, 1)
	}
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		s.victim[m] = h.Add(t, "victim-"+string(m), m, "a")
		s.fill(t, s.victim[m], canary, victimRows, crowd)
	}
	s.database = s.thief[placement.ModelShared].Home.Database
	super := s.superuser(t)
	defer super.Close(context.Background()) // nothing is left to say
	ctx := t.Context()
	require.NoError(t, super.QueryRow(ctx, "select stamp::text, current_setting('server_version_num')::int from landlord.identity").
		Scan(&s.stamp, &s.server))
	for _, state := range []isolation.FenceState{"importing", "fenced", "moved", "suspended"} {
		s.fenced[state] = uuid.NewString()
		_, err := super.Exec(ctx, `insert into landlord.fence (tenant, home, slug, model, epoch, state) values ($1, $2, $3, 'shared', 5, $3)`,
			s.fenced[state], s.home(), string(state))
		require.NoError(t, err)
	}
	// Two tenants whose names and homes read the same when they are put together without their lengths.
	_, err := super.Exec(ctx, `
insert into landlord.fence (tenant, home, slug, model, epoch, state) values
       ('x|a', 'b', 'one', 'shared', 1, 'open'), ('x', 'a|b', 'other', 'shared', 1, 'open')`)
	require.NoError(t, err)
	return s
}

// fill gives a tenant its rows, around the policies.
func (s *scene) fill(t *testing.T, p placement.Placement, body string, rows, events int) {
	t.Helper()
	s.SuperExec(t, p.Home.Database, fmt.Sprintf(`
set search_path = %[1]s;
insert into note (tenant_id, body) select '%[2]s', '%[3]s ' || i from generate_series(1, %[4]d) i;
insert into link (tenant_id, note_id) select tenant_id, min(id) from note where tenant_id = '%[2]s' group by 1;
insert into coupon (tenant_id, code) values ('%[2]s', 'coupon of %[5]s');
insert into event (tenant_id, id, body) select '%[2]s', i, '%[3]s' from generate_series(1, %[6]d) i;
insert into unclassed values ('%[3]s of %[5]s');
alter materialized view note_copy owner to current_user;
refresh materialized view note_copy;
alter materialized view note_copy owner to landlord_owner;
analyze note, link, coupon, event, event_0`,
		pgx.Identifier{p.Home.Schema}.Sanitize(), p.Tenant, body, rows, p.Slug, events))
}

// home is the shared home's name.
func (s *scene) home() string { return s.thief[placement.ModelShared].Home.String() }

// superuser and app connect to the scene's database.
func (s *scene) superuser(t *testing.T) *pgx.Conn {
	t.Helper()
	return s.Super(t, s.database)
}

func (s *scene) app(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := s.Login(t, s.database, isolation.AppRole)
	require.NoError(t, err)
	return conn
}

// entry is how the router enters a tenant of the scene.
func entry(p placement.Placement) isolation.Entry {
	return isolation.Entry{Tenant: p.Tenant.String(), Home: p.Home.String(), Epoch: p.Epoch}
}

// own and other are the thief's and the victim's entries in the shared home.
func (s *scene) own() isolation.Entry   { return entry(s.thief[placement.ModelShared]) }
func (s *scene) other() isolation.Entry { return entry(s.victim[placement.ModelShared]) }

// token makes the parameters of enter for a server process (0: any), as if it were made now.
func (s *scene) token(t *testing.T, e isolation.Entry, pid uint32, now time.Time) [][]byte {
	t.Helper()
	sealer, err := isolation.NewSealer(s.mode, s.Keys, s.stamp)
	require.NoError(t, err)
	return sealer.Params(e, pid, now)
}

// present calls enter.
func present(t *testing.T, conn *pgx.Conn, params [][]byte) error {
	t.Helper()
	return conn.PgConn().ExecParams(t.Context(), isolation.EnterSQL, params, nil, nil, nil).Read().Err
}

// begin opens a transaction and enters a tenant, who has to be served.
func (s *scene) begin(t *testing.T, conn *pgx.Conn, e isolation.Entry, options ...string) {
	t.Helper()
	run(t, conn, "begin "+strings.Join(options, " "))
	require.NoError(t, present(t, conn, s.token(t, e, conn.PgConn().PID(), time.Now())), "enter as the router does")
}

// run sends SQL that has to work.
func run(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	a := say(t, conn, sql)
	require.NoError(t, a.err, sql)
	return a.rows
}

// answer is all that a session is told.
type answer struct {
	rows     string // every value, also of what came before an error
	affected int64  // by the last statement
	err      error
}

// String is the answer as one would compare it with another.
func (a answer) String() string {
	text := ""
	if said, ok := errors.AsType[*pgconn.PgError](a.err); ok {
		text = strings.Join([]string{said.Code, said.Message, said.Detail, said.Hint, said.ConstraintName}, "|")
	}
	return fmt.Sprintf("%s (%d) %s", a.rows, a.affected, text)
}

// say sends SQL as stacked statements arrive, in one message.
func say(t *testing.T, conn *pgx.Conn, sql string) (a answer) {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	a.err = err
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			for _, v := range row {
				b.Write(v)
				b.WriteByte('\n')
			}
		}
		a.affected = r.CommandTag.RowsAffected()
	}
	a.rows = b.String()
	return a
}

// inside runs SQL in a transaction of the thief's that is rolled back.
func (s *scene) inside(t *testing.T, sql string) answer {
	t.Helper()
	conn := s.app(t)
	defer conn.Close(context.Background()) // a session for each attack
	s.begin(t, conn, s.own())
	return say(t, conn, s.write(sql))
}

// write fills names into SQL, those of package forgery and those of the schema home: {other schema}.
func (s *scene) write(sql string) string {
	p := s.victim[placement.ModelShared]
	sql = strings.NewReplacer("{other schema}", pgx.Identifier{s.victim[placement.ModelSchema].Home.Schema}.Sanitize(),
		"{own}", s.thief[placement.ModelShared].Tenant.String()).Replace(sql)
	return s.names(p).Write(sql)
}

func in(modes []isolation.Mode, m isolation.Mode) bool { return slices.Contains(modes, m) }

func TestEveryAttackIsStoppedOrSucceedsAsIsSaid(t *testing.T) {
	t.Parallel()
	for _, mode := range everyMode {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, testhouse.Options{Mode: mode})
			for _, a := range attacks() {
				if through := in(a.through, mode); through != a.try(t, s) {
					t.Errorf("mode %s is said to let %q through: %v. It is not so", mode, a.name, through)
				}
			}
			_, err := s.Service.Harden(t.Context(), false, false)
			require.NoError(t, err)
			for _, a := range attacks() {
				if through := in(a.through, mode) && !a.hardened; through != a.try(t, s) {
					t.Errorf("mode %s, hardened, is said to let %q through: %v. It is not so", mode, a.name, through)
				}
			}
			s.requireUntouched(t)
		})
	}
}

// requireUntouched asserts that the victims have what they had.
func (s *scene) requireUntouched(t *testing.T) {
	t.Helper()
	r := s.Router(t)
	for m, p := range s.victim {
		var notes, events int
		db := r.Tenant(p.Tenant)
		require.NoError(t, db.QueryRow(t.Context(), "select count(*) from note where body like $1 || '%'", canary).Scan(&notes))
		require.NoError(t, db.QueryRow(t.Context(), "select count(*) from event").Scan(&events))
		require.Equal(t, []int{victimRows, crowd}, []int{notes, events}, m)
	}
}

// The rows of the table of docs/guarantees.md, and the attacks that stand for each.
func TestThePageSaysOfEachModeWhatTheSuiteSees(t *testing.T) {
	t.Parallel()
	rows := map[string][]string{
		"a query without a filter":                 {"read without a filter", "change without a filter", "delete without a filter"},
		"`set_config` injected into one statement": {"forge: set_config in a CTE"},
		"`SET` of the tenant's setting":            {"forge: set local", "forge: set session"},
		"calling `enter` for another tenant":       {"enter another tenant", "forge: enter once more"},
		"another tenant's advisory locks, large objects or sessions": {
			"hold another tenant's lock", "read another tenant's large object", "end another tenant's session",
		},
	}
	table := attacks()
	for line := range strings.SplitSeq(page(t, "docs/guarantees.md"), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		names, ok := rows[cells[0]]
		if !ok {
			continue
		}
		delete(rows, cells[0])
		for i, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.Sealed, isolation.SealedMAC} {
			cell := cells[i+1]
			if cell == "the same" {
				cell = cells[i]
			}
			stopped := !strings.Contains(cell, "not stopped")
			for _, name := range names {
				at := slices.IndexFunc(table, func(a attack) bool { return a.name == name })
				require.GreaterOrEqual(t, at, 0, name)
				if strings.HasPrefix(cell, "stopped once a tenant is entered") && name == "enter another tenant" {
					continue // in a transaction that has entered none
				}
				require.Equal(t, stopped, !in(table[at].through, mode), "%s in mode %s", name, mode)
			}
		}
	}
	require.Empty(t, rows, "not on the page")
}

// routerOf is a router whose pools hold one connection, so that each call meets what the one before has left.
func (s *scene) routerOf(t *testing.T) *router.Router {
	t.Helper()
	return s.Router(t, func(c *router.Config) { c.Pools.MaxConns = 1 })
}

// page reads one of the project's pages.
func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), path))
	require.NoError(t, err)
	return string(text)
}
