package integration_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// mutant is a home in which one part of the isolation is missing or wrong. The suite has to see it: the attack that the mode stops
// succeeds.
type mutant struct {
	name string
	mode isolation.Mode // empty: sealed
	// sql makes the change, as the superuser. {database} is where.
	sql string
	// Or: in landlord's function of this name, old is replaced.
	function, old, new string
	// undo takes back what belongs to the whole server. Such mutants live one at a time.
	undo string
	seen string // the attack
}

// on changes both policies of a table.
func on(table, using, check string) string {
	var b strings.Builder
	for _, policy := range []string{"landlord_allow", "landlord_fence"} {
		fmt.Fprintf(&b, "alter policy %s on %s using (%s) with check (%s);", policy, table, using, check)
	}
	return b.String()
}

const (
	isTenants = "tenant_id = (select landlord.tenant()::uuid)"
	globalKey = "alter table note add unique (id); alter table link drop constraint link_tenant_id_note_id_fkey, " +
		"add foreign key (note_id) references note (id)"
	lockLine = "perform pg_advisory_xact_lock_shared(landlord.lock_key(p_tenant, p_home, v_read_only));"
)

var mutants = []mutant{
	// Policies and what makes them count.
	{name: "row security off", sql: "alter table note disable row level security", seen: "read without a filter"},
	{name: "row security off on a partitioned table", sql: "alter table event disable row level security", seen: "delete without a filter"},
	{
		name: "row security not forced", sql: "alter table note no force row level security",
		seen: "read as a function does that runs as the tables' owner",
	},
	{name: "policies that are always true", sql: on("note", "true", isTenants), seen: "read without a filter"},
	{name: "policies that are or-ed open", sql: on("note", isTenants+" or body like '%victim%'", isTenants), seen: "read by the victim's id"},
	{name: "policies without a check", sql: on("note", isTenants, "true"), seen: "write a row for the victim"},
	{name: "policies that check only that there is a tenant", sql: on("event", isTenants, "tenant_id is not null"), seen: "give a row away"},
	{
		name: "no fence beside a policy for one command",
		sql:  "drop policy landlord_fence on event; create policy later on event for delete using (true)", seen: "delete without a filter",
	},
	{
		name: "no fence beside a policy that was added later",
		sql:  "drop policy landlord_fence on note; create policy later on note for select using (true)", seen: "copy a table out",
	},
	{
		name: "policies that ask for the role",
		sql:  on("note", isTenants+" or current_user = 'landlord_app'", isTenants), seen: "lock the victim's rows",
	},
	{
		name: "policies that let in who has no tenant",
		sql:  on("note", "current_setting('backtrace_functions') = '' or "+isTenants, isTenants), seen: "read without a tenant",
	},
	{
		name: "a missing tenant is no error", function: "no_tenant", old: "raise exception 'no tenant in this transaction'",
		new:  "return null; raise exception 'x'",
		seen: "read without a tenant",
	},
	{
		name: "a table without tenant_id open in another's schema", sql: "alter table {other schema}.unclassed disable row level security",
		seen: "read a table without tenant_id in another's schema home",
	},
	{
		name: "a schema home's table without its constant",
		sql: `alter policy landlord_allow on {other schema}.unclassed using ((select landlord.tenant()) is not null);
			alter policy landlord_fence on {other schema}.unclassed using ((select landlord.tenant()) is not null)`,
		seen: "read a table without tenant_id in another's schema home",
	},
	{
		name: "a schema home's policies open", sql: "alter table {other schema}.note disable row level security",
		seen: "read another's schema home",
	},
	{
		name: "a view of a superuser's that runs as its owner",
		sql:  "alter view note_view owner to current_user; alter view note_view set (security_invoker = false)",
		seen: "read through a view",
	},
	{
		name: "a function of a superuser's that runs as its owner",
		sql:  "alter function note_bodies() owner to current_user; alter function note_bodies() security definer", seen: "read through a function",
	},

	// Rights.
	{name: "TRUNCATE granted", sql: "grant truncate on note, link to landlord_app", seen: "truncate"},
	{name: "TRIGGER granted", sql: "grant trigger on note to landlord_app", seen: "a right that no policy guards"},
	{name: "REFERENCES granted", sql: "grant references on note to landlord_app", seen: "a right that no policy guards"},
	{name: "a partition granted", sql: "grant select on event_0 to landlord_app", seen: "read a partition past its parent"},
	{name: "a materialised view granted", sql: "grant select on note_copy to landlord_app", seen: "read a materialised view"},
	{
		name: "a definer function granted", sql: "grant execute on function note_definer() to public",
		seen: "call what runs with its owner's rights",
	},
	{name: "a table of no class granted", sql: "grant select (body) on unclassed to landlord_app", seen: "read a table of no class"},
	{name: "a reference table writable", sql: "grant insert on currency to landlord_app", seen: "write a table of everybody's"},
	{name: "a sequence readable", sql: "grant select on sequence ticket to landlord_app", seen: "read a sequence"},
	{name: "temporary tables granted", sql: "grant temporary on database {database} to public", seen: "make a temporary table"},
	{name: "CREATE in the home's schema granted", sql: "grant create on schema public to public", seen: "make a table"},
	{name: "seal keys readable", sql: "grant select on landlord.seal_key to landlord_app", seen: "read the seal keys"},
	{name: "seal keys writable", sql: "grant insert on landlord.seal_key to landlord_app", seen: "add a seal key"},
	{name: "fences readable", sql: "grant select on landlord.fence to public", seen: "read the fences"},
	{name: "fences writable", sql: "grant update on landlord.fence to landlord_app", seen: "open a fence"},
	{name: "identity writable", sql: "grant update on landlord.identity to landlord_app", seen: "write the identity"},
	{name: "versions deletable", sql: "grant delete on landlord.schema_version to landlord_app", seen: "write a version"},
	{name: "the admin's log readable", sql: "grant select on landlord.admin_log to landlord_app", seen: "read who worked across tenants"},
	{name: "admin_enter granted", sql: "grant execute on function landlord.admin_enter to landlord_app", seen: "work across tenants"},
	{
		name: "moves readable", sql: "grant select on landlord.move_hold to landlord_app",
		seen: "a right that no policy guards",
	},
	{name: "signatures checkable", sql: "grant execute on function landlord.seal_ok to landlord_app", seen: "a right that no policy guards"},
	{name: "secure_table callable", sql: "grant execute on procedure landlord.secure_table to public", seen: "a right that no policy guards"},
	{
		name: "the register's writer callable", seen: "forge: the guard's own function",
		sql: "alter function landlord.seal security definer; grant execute on function landlord.seal to landlord_app",
	},
	{
		name: "advisory locks given back", sql: "grant execute on function pg_advisory_xact_lock(bigint) to public",
		seen: "hold another tenant's lock",
	},
	{
		name: "session locks given back", seen: "take another tenant's lock to oneself for ever",
		sql: "grant execute on function pg_advisory_lock(bigint) to public",
	},
	{
		name: "large objects given back", seen: "read another tenant's large object",
		sql: "grant execute on function lo_from_bytea(oid, bytea), lo_get(oid), lo_unlink(oid) to public",
	},
	{
		name: "pg_terminate_backend given back", sql: "grant execute on function pg_terminate_backend(int, bigint) to public",
		seen: "end another tenant's session",
	},
	{name: "DO blocks given back", sql: "grant usage on language plpgsql to public", seen: "run a DO block"},
	{
		name: "set_config given back", mode: isolation.Locked, seen: "forge: set_config in a CTE",
		sql: "grant execute on function set_config(text, text, boolean) to public",
	},

	// Keys that leave the tenant out.
	{name: "a unique key without tenant_id", sql: "create unique index on note (body)", seen: "ask by a unique key"},
	{
		name: "a unique key without tenant_id, asked quietly", sql: "create unique index on note (body)", seen: "ask by a unique key and on conflict",
	},
	{
		name: "a foreign key without tenant_id", seen: "ask by a foreign key",
		sql: globalKey,
	},
	{
		name: "a foreign key to rows of all tenants", seen: "refer to the victim's row",
		sql: globalKey,
	},

	// The door: who comes in.
	{
		name: "no token asked for", function: "enter", old: "landlord.seal_ok(p_tenant, p_home, p_kid, p_exp, p_mac) is not true", new: "false",
		seen: "enter another tenant",
	},
	{
		name: "a null signature accepted", function: "enter", old: "p_mac) is not true", new: "p_mac) = false",
		seen: "enter without a signature",
	},
	{
		name: "a token for two tenants", function: "enter", old: "v_sealed <> p_tenant", new: "false",
		seen: "enter a second tenant with a token of its own",
	},
	{
		name: "a token for two tenants, plain", mode: isolation.Plain, function: "enter", old: "v_sealed <> p_tenant", new: "false",
		seen: "enter a second tenant with a token of its own",
	},
	{
		name: "a key that does not matter", function: "seal_ok", old: ")) = p_mac\n", new: ")) is not null\n",
		seen: "enter with another installation's key",
	},
	{
		name: "a token that is bound to another session", function: "seal_ok", old: "pg_backend_pid(), p_exp",
		new:  "pg_backend_pid() + 1, p_exp",
		seen: "replay a token of another session",
	},
	{
		name: "a token that never expires", function: "seal_ok", old: "p_exp between v_now and v_now + 60", new: "p_exp < v_now + 60",
		seen: "present an expired token",
	},
	{
		name: "a token of any length of life", function: "seal_ok", old: "p_exp between v_now and v_now + 60", new: "p_exp > v_now",
		seen: "present a token that lives for an hour",
	},
	{
		name: "a token of no session for a minute", function: "seal_ok", old: "v_now + 10", new: "v_now + 60",
		seen: "present a token of no session that lives for half a minute",
	},
	{name: "a retired key", function: "seal_ok", old: "and not_after > clock_timestamp()", new: "", seen: "use a key that was retired"},
	{
		name: "a home that is not signed", seen: "use a token of one home for another",
		sql: `create or replace function landlord.token_text(p_tenant text, p_home text, p_pid int, p_exp bigint) returns bytea language sql stable
			return pg_catalog.convert_to(pg_catalog.concat('landlord1|', pg_catalog.octet_length(p_tenant), ':', p_tenant, '|',
				pg_catalog.octet_length('{home}'), ':', '{home}', '|', p_pid, '|', p_exp), 'UTF8')`,
	},
	{
		name: "a setting whose signature does not matter", mode: isolation.SealedMAC, function: "checked_tenant",
		old: "= v_mac\n    then", new: "= v_mac\n    or true then", seen: "sign the setting oneself",
	},
	{
		name: "a setting that is everybody's", mode: isolation.SealedMAC, function: "checked_tenant",
		old: "= v_mac\n    then", new: "= v_mac\n    or true then", seen: "keep the setting that holds a tenant's token",
	},

	// Where to, and when.
	{name: "the tenant stays after its transaction", sql: sealing("false"), seen: "go on after the transaction of a tenant"},
	{name: "suspended ignored", function: "enter", old: "v_state = 'suspended'", new: "false", seen: "enter a suspended tenant"},
	{
		name: "suspended for writers only", function: "enter", old: "v_state = 'suspended'", new: "v_state = 'suspended' and not v_read_only",
		seen: "read a suspended tenant",
	},
	{name: "importing ignored", function: "enter", old: "v_state = 'importing'", new: "false", seen: "enter a tenant that has not arrived"},
	{
		name: "importing for writers only", function: "enter", old: "v_state = 'importing'", new: "v_state = 'importing' and not v_read_only",
		seen: "read a tenant that has not arrived",
	},
	{
		name: "fenced ignored", function: "enter", old: "v_state = 'fenced' and not v_read_only", new: "false",
		seen: "write a tenant that is being moved away",
	},
	{
		name: "a fence without an end overdue", function: "enter", old: "coalesce(v_until, 'infinity')", new: "coalesce(v_until, '-infinity')",
		seen: "write a tenant that is being moved away",
	},
	{name: "moved ignored", function: "enter", old: "or v_state = 'moved'", new: "", seen: "enter a tenant that has moved away"},
	{
		name: "moved for writers only", function: "enter", old: "or v_state = 'moved'", new: "or v_state = 'moved' and not v_read_only",
		seen: "read a tenant that has moved away",
	},
	{
		name: "an epoch of the past accepted", function: "enter", old: "v_epoch is distinct from p_epoch", new: "v_epoch < p_epoch",
		seen: "enter by a placement that is out of date",
	},
	{
		name: "an epoch of the future accepted", function: "enter", old: "v_epoch is distinct from p_epoch", new: "v_epoch > p_epoch",
		seen: "enter by a placement of the future",
	},
	{name: "the home does not matter", function: "enter", old: "and home = p_home", new: "", seen: "enter a tenant where it does not live"},
	{
		name: "a tenant without a fence", function: "enter", old: "if v_state is distinct from 'open' or v_epoch is distinct from p_epoch then",
		new: "if v_state <> 'open' or v_epoch <> p_epoch then", seen: "enter a tenant that nobody knows",
	},
	{
		name: "no row lock on the fence", function: "enter", old: " for share;", new: ";",
		seen: "enter from a snapshot that is older than the fence",
	},
	{name: "no lock on the tenant", function: "enter", old: lockLine, new: "", seen: "move a tenant away under its writers"},
	{
		name: "no lock for readers", function: "enter", old: lockLine, new: "if not v_read_only then " + lockLine + " end if;",
		seen: "bring a tenant in under its readers",
	},
	{
		name: "writers take the readers' lock", function: "enter", old: "p_home, v_read_only));", new: "p_home, true));",
		seen: "move a tenant away under its writers",
	},
	{
		name: "one lock that ends with enter", function: "enter", old: lockLine,
		new: "perform pg_advisory_lock_shared(landlord.lock_key(p_tenant, p_home, v_read_only)), " +
			"pg_advisory_unlock_shared(landlord.lock_key(p_tenant, p_home, v_read_only));",
		seen: "move a tenant away under its writers",
	},
	{
		name: "no reason asked for", function: "admin_enter", old: "if p_reason is null or btrim(p_reason) = ''", new: "if p_reason is null",
		seen: "work across tenants without a reason",
	},
	{
		name: "no lock for work across tenants", function: "admin_enter", old: "perform pg_advisory_xact_lock_shared(landlord.bypass_key());",
		new:  "",
		seen: "cut over under work across tenants",
	},

	// What belongs to the server.
	{
		name: "the register writable", sql: "grant set on parameter backtrace_functions to landlord_app",
		undo: "revoke set on parameter backtrace_functions from landlord_app", seen: "forge: set local",
	},
	{
		name: "the application past row security", sql: "alter role landlord_app bypassrls", undo: "alter role landlord_app nobypassrls",
		seen: "read without a filter",
	},
	{
		name: "the application a member of the owner", sql: "grant landlord_owner to landlord_app",
		undo: "revoke landlord_owner from landlord_app",
		seen: "become the tables' owner",
	},
	{
		name: "the application a member of the guard", sql: "grant landlord_guard to landlord_app",
		undo: "revoke landlord_guard from landlord_app",
		seen: "a right that no policy guards",
	},
	{
		name: "the application a member of the migrator", sql: "grant landlord_migrator to landlord_app",
		undo: "revoke landlord_migrator from landlord_app", seen: "forge: become the migrator",
	},
	{
		name: "the application may make roles", sql: "alter role landlord_app createrole",
		undo: "alter role landlord_app nocreaterole",
		seen: "a right that no policy guards",
	},
	{
		name: "another's database open to all", sql: "grant connect on database {other database} to public",
		undo: "revoke connect on database {other database} from public", seen: "connect to a database of somebody else's",
	},
}

func sealing(local string) string {
	return "create or replace function landlord.seal(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns text " +
		"language sql volatile return pg_catalog.set_config('backtrace_functions', " +
		"'t_' || pg_catalog.encode(pg_catalog.convert_to(p_tenant, 'UTF8'), 'hex'), " + local + ")"
}

// score is what TestMutants has counted, for the last line of the test binary.
var score struct {
	killed atomic.Int64
	all    atomic.Int64 // 0: it has not run
}

func printScore(w io.Writer) {
	if all := score.all.Load(); all > 0 {
		fmt.Fprintf(w, "killed %d/%d\n", score.killed.Load(), all)
	}
}

func TestMutants(t *testing.T) {
	t.Parallel()
	// Roles are the server's: one of its own, whose roles no other test has.
	s := newScene(t, testhouse.Options{Mode: isolation.Sealed, Own: pgtest.OwnServer(t)})
	table := map[string]attack{}
	for _, a := range attacks() {
		table[a.name] = a
	}
	kill := func(t *testing.T, m mutant) {
		t.Helper()
		score.all.Add(1)
		a, ok := table[m.seen]
		require.True(t, ok, "no attack is called %q", m.seen)
		require.False(t, in(a.through, m.in()), "mode %s is not said to stop %q", m.in(), a.name)
		mutated := s.copy(t, m.in())
		defer mutated.drop(t)
		mutated.mutate(t, m)
		if m.undo != "" {
			defer s.SuperExec(t, mutated.database, mutated.fillIn(m.undo))
		}
		if a.try(t, mutated) {
			score.killed.Add(1)
		} else {
			t.Errorf("%q does not see that something is wrong: %s", a.name, m.name)
		}
	}
	t.Run("homes", func(t *testing.T) {
		// The copies are as good as the house: unchanged, all of it is stopped.
		for _, mode := range []isolation.Mode{isolation.Sealed, isolation.SealedMAC, isolation.Locked, isolation.Plain} {
			t.Run("unchanged "+string(mode), func(t *testing.T) {
				t.Parallel()
				healthy := s.copy(t, mode)
				defer healthy.drop(t)
				for _, name := range seenIn(mode) {
					if table[name].try(t, healthy) {
						t.Errorf("%q succeeds where nothing is wrong", name)
					}
				}
			})
		}
		t.Run("unguarded", func(t *testing.T) {
			t.Parallel()
			s.requireAllSucceed(t)
		})
		for _, m := range mutants {
			if m.undo == "" {
				t.Run(m.name, func(t *testing.T) {
					t.Parallel()
					kill(t, m)
				})
			}
		}
	})
	t.Run("servers", func(t *testing.T) {
		for _, m := range mutants {
			if m.undo != "" {
				t.Run(m.name, func(t *testing.T) { kill(t, m) })
			}
		}
	})
}

func (m mutant) in() isolation.Mode {
	if m.mode == "" {
		return isolation.Sealed
	}
	return m.mode
}

// seenIn names the attacks that kill mutants of a mode.
func seenIn(mode isolation.Mode) (names []string) {
	for _, m := range mutants {
		if m.in() == mode && !slices.Contains(names, m.seen) {
			names = append(names, m.seen)
		}
	}
	return names
}

// copy is the scene in a database of its own, in a mode of its own. What stands in the database goes with it; what the server keeps of
// a database, an Install makes.
func (s *scene) copy(t *testing.T, mode isolation.Mode) *scene {
	t.Helper()
	c := *s
	c.mode, c.database = mode, "mutant_"+strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	s.SuperExec(t, "postgres", "create database "+c.database+" template "+pgx.Identifier{s.database}.Sanitize())
	super := c.superuser(t)
	defer super.Close(context.Background())
	run(t, super, "update landlord.identity set checksum = ''")
	want, err := isolation.ReadIdentity(t.Context(), super)
	require.NoError(t, err)
	want.Mode = mode
	_, err = isolation.Install(t.Context(), super, want, s.Keys)
	require.NoError(t, err)
	return &c
}

func (s *scene) drop(t *testing.T) {
	t.Helper()
	s.SuperExec(t, "postgres", "drop database "+s.database+" with (force)")
}

func (s *scene) fillIn(sql string) string {
	return strings.NewReplacer("{database}", s.database, "{home}", s.home(),
		"{other schema}", pgx.Identifier{s.victim[placement.ModelSchema].Home.Schema}.Sanitize(),
		"{other database}", pgx.Identifier{s.victim[placement.ModelDatabase].Home.Database}.Sanitize()).Replace(sql)
}

// mutate changes the one thing.
func (s *scene) mutate(t *testing.T, m mutant) {
	t.Helper()
	super := s.superuser(t)
	defer super.Close(context.Background())
	sql := s.fillIn(m.sql)
	if sql == "" {
		was := run(t, super, "select pg_get_functiondef('landlord."+m.function+"'::regproc)")
		require.Contains(t, was, m.old, "the function has changed: so must the mutant")
		sql = strings.ReplaceAll(was, m.old, m.new)
	}
	run(t, super, sql)
}

// unguarded takes everything away at once that stands between tenants inside a database.
const unguarded = `
do $$
declare
    r record;
begin
    for r in select c.oid::regclass as rel, c.relkind from pg_class c
              where c.relnamespace in ('public'::regnamespace, '{other schema}'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm')
    loop
        if r.relkind in ('r', 'p') then
            execute format('alter table %s disable row level security', r.rel);
        elsif r.relkind = 'v' then
            execute format('alter view %s owner to current_user', r.rel);
            execute format('alter view %s set (security_invoker = false)', r.rel);
        end if;
    end loop;
    for r in select p.oid::regprocedure as fn from pg_proc p
              where p.pronamespace = 'pg_catalog'::regnamespace
                and (p.proname in ('set_config', 'pg_read_file', 'pg_terminate_backend') or p.proname ~ '^(lo_|pg_advisory_)')
    loop
        execute format('grant execute on function %s to public', r.fn);
    end loop;
end $$;
grant usage on language plpgsql to public;
grant all on all tables in schema public, landlord, {other schema} to landlord_app, landlord_migrator;
alter table note owner to landlord_app;
grant all on all sequences in schema public to landlord_app;
grant all on all routines in schema public, landlord to landlord_app;
grant create on schema public to landlord_app;
grant temporary on database {database} to landlord_app;
alter function note_bodies() owner to current_user;
alter function note_bodies() security definer;
alter table note drop constraint note_tenant_id_body_key, add unique (body), add unique (id);
alter table link drop constraint link_tenant_id_note_id_fkey, add foreign key (note_id) references note (id);
create or replace function landlord.no_tenant() returns text language sql stable as 'select null::text'`

// openDoor makes of enter a door that is open to everybody.
var openDoor = []struct{ old, new string }{
	{"landlord.seal_ok(p_tenant, p_home, p_kid, p_exp, p_mac) is not true", "false"},
	{"v_sealed <> p_tenant", "false"},
	{lockLine, ""},
	{" for share;", ";"},
	{"if v_state is distinct from 'open' or v_epoch is distinct from p_epoch then", "if false then"},
}

// unmoved are attacks that fail even there, and who stops them.
var unmoved = map[string]string{
	"run a program on the server": "PostgreSQL: only members of pg_execute_server_program can",
}

// requireAllSucceed asserts that every attack which is stopped is a real one: where nothing is guarded it succeeds, or it kills a mutant.
func (s *scene) requireAllSucceed(t *testing.T) {
	t.Helper()
	c := s.copy(t, isolation.Sealed)
	defer c.drop(t)
	c.careless = true
	c.mutate(t, mutant{sql: unguarded})
	super := c.superuser(t)
	enter := run(t, super, "select pg_get_functiondef('landlord.enter'::regproc)")
	for _, o := range openDoor {
		require.Contains(t, enter, o.old)
		enter = strings.Replace(enter, o.old, o.new, 1)
	}
	enter = strings.ReplaceAll(enter, openDoor[4].old, openDoor[4].new)
	run(t, super, enter)
	require.NoError(t, super.Close(t.Context()))
	for _, a := range attacks() {
		kills := slices.ContainsFunc(mutants, func(m mutant) bool { return m.seen == a.name })
		if len(a.through) > 0 || kills || unmoved[a.name] != "" || strings.HasPrefix(a.name, "forge: ") { // which plain proves to be real
			continue
		}
		if !a.try(t, c) {
			t.Errorf("%q fails where nothing is guarded: what does it prove?", a.name)
		}
	}
}
