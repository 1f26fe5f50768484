package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
)

const run = "7b0f4f0e-1bd1-4df7-8a39-61d3a3b60a20"

var (
	limits = migrate.Limits{Lock: 100 * time.Millisecond, Statement: time.Minute}
	public = migrate.Target{Scope: migrate.ScopeTenant, Schema: "public"}
	first  = migrate.Attempt{Run: run, Lease: 1}
)

// apply applies all that a target lacks.
func apply(t *testing.T, conn *pgx.Conn, set *migrate.Set, to migrate.Target, by migrate.Attempt) error {
	t.Helper()
	for _, m := range set.Scoped(to.Scope) {
		if _, err := m.Apply(t.Context(), conn, to, by, limits); err != nil {
			return err
		}
	}
	return nil
}

func TestAStepIsAppliedOnceAndSaysInWhichRunAndPhase(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", "-- landlord: phase=contract\n"+createA))
	m := set.Migrations()[0]
	ran, err := m.Apply(t.Context(), conn, public, first, limits)
	require.NoError(t, err)
	require.True(t, ran)
	ran, err = m.Apply(t.Context(), conn, public, first, limits)
	require.NoError(t, err)
	require.False(t, ran, "it is there already")
	require.Equal(t, []string{"1 contract " + run},
		texts(t, conn, `select version || ' ' || phase || ' ' || run from landlord.schema_version where schema = 'public'`))
	require.Equal(t, []string{"true"}, texts(t, conn, `select (relrowsecurity and relforcerowsecurity)::text from pg_class where oid = 'public.a'::regclass`))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus())
}

func TestAStepIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	cfg := newHome(t).Config()
	var sent atomic.Int32
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return counted{conn, &sent}, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	before := sent.Load()
	require.NoError(t, apply(t, conn, load(t, files("1_a.sql", createA+"\n"+createB)), public, first))
	require.EqualValues(t, 1, sent.Load()-before)
}

// counted counts what is sent.
type counted struct {
	net.Conn
	sent *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) {
	c.sent.Add(1)
	return c.Conn.Write(b)
}

func TestAStepIsRefused(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA, "2_b.sql", createB))
	require.NoError(t, apply(t, conn, set, public, migrate.Attempt{Run: run, Lease: 5}))
	c := files("3_c.sql", "create table c (tenant_id uuid primary key);")
	more := load(t, with(files("1_a.sql", createA, "2_b.sql", createB), "3_c.sql", string(c["3_c.sql"].Data[len("-- +goose Up\n"):])))
	next := more.Migrations()[2]

	_, err := next.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 4}, limits)
	require.ErrorIs(t, err, migrate.ErrOvertaken)
	require.Equal(t, byte('I'), conn.PgConn().TxStatus(), "the connection can be used again")

	edited := load(t, files("1_a.sql", createA, "2_b.sql", createB+"select 1;")).Migrations()[1]
	_, err = edited.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 5}, limits)
	require.True(t, pgerr.Is(err, pgerr.Behind), "%v", err)

	_, err = next.Apply(t.Context(), conn, migrate.Target{Scope: migrate.ScopeDatabase}, first, limits)
	require.ErrorContains(t, err, "its scope is tenant")

	super := superuser(t, conn)
	_, err = super.Exec(t.Context(), "set role landlord_owner; grant usage on schema landlord to landlord_owner")
	require.NoError(t, err)
	for role, want := range map[string]string{"landlord_app": pgerr.InsufficientPrivilege, "landlord_owner": pgerr.InsufficientPrivilege} {
		cfg := conn.Config()
		cfg.RuntimeParams["role"] = role
		other, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		_, err = next.Apply(t.Context(), other, public, migrate.Attempt{Run: run, Lease: 9}, limits)
		require.True(t, pgerr.Is(err, want), "%s: %v", role, err)
		require.NoError(t, other.Close(t.Context()))
	}
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
	require.Equal(t, []string{"a", "b"}, tables(t, conn, "public"))
}

func TestAStepLeavesNothingOnTheConnection(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA+"\nset timezone = 'Asia/Tokyo';\nset datestyle = 'German';", "2_b.sql",
		createB+"\ndo $$ begin assert current_setting('timezone') = 'UTC' and current_setting('datestyle') not like 'German%'; end $$;"))
	require.NoError(t, apply(t, conn, set, public, first))
}

func TestAFailedStepLeavesTheHomeAsItWas(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	err := apply(t, conn, load(t, files("1_a.sql", createA+"\nselect 1/0;")), public, first)
	require.ErrorContains(t, err, "1_a.sql")
	require.Equal(t, migrate.Final, migrate.Judge(err))
	require.Empty(t, tables(t, conn, "public"))
	require.Empty(t, recorded(t, conn, "public"))
}

func TestAStepWaitsForNobodyLong(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA, "2_more.sql", "alter table a add column more text;"))
	require.NoError(t, apply(t, conn, load(t, files("1_a.sql", createA)), public, first))
	reader := again(t, conn)
	_, err := reader.Exec(t.Context(), "begin; select from public.a")
	require.NoError(t, err)
	err = apply(t, conn, set, public, first)
	require.True(t, pgerr.Is(err, pgerr.LockNotAvailable))
	require.Equal(t, migrate.Again, migrate.Judge(err))
	_, err = reader.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	require.NoError(t, apply(t, conn, set, public, first))
}

func TestJudgeTellsWhatIsWorthTryingAgain(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]migrate.Verdict{
		"55P03": migrate.Again, "40P01": migrate.Again, "40001": migrate.Again, "57014": migrate.Again, "53200": migrate.Again,
		"08006": migrate.Unreachable, "57P01": migrate.Unreachable, "57P03": migrate.Unreachable, "53300": migrate.Unreachable,
		"LL009": migrate.Held, "53100": migrate.Final, "23505": migrate.Final, "22P02": migrate.Final, "42P01": migrate.Final, "LL006": migrate.Final, "XX000": migrate.Final,
	} {
		require.Equal(t, want, migrate.Judge(&pgconn.PgError{Code: code}), code)
	}
	require.Equal(t, migrate.Unreachable, migrate.Judge(os.ErrDeadlineExceeded))
	require.Equal(t, migrate.Final, migrate.Judge(errors.New("some other")))
}

// items builds the table on which testdata/concurrent puts an index, and returns the set.
func items(t *testing.T, conn *pgx.Conn) *migrate.Set {
	t.Helper()
	table, err := os.ReadFile("testdata/concurrent/00001_items.sql")
	require.NoError(t, err)
	require.NoError(t, apply(t, conn, load(t, fstest.MapFS{"00001_items.sql": {Data: table}}), public, first))
	return load(t, os.DirFS("testdata/concurrent"))
}

const indexes = `select indexrelid::regclass || ' ' || indisvalid from pg_index where indexrelid::regclass::text = 'items_by_name'`

func TestAConcurrentIndexThatFailsIsDroppedBeforeTheNextAttempt(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := items(t, conn)
	super := superuser(t, conn)
	twins := `insert into items (tenant_id, id, name) select '` + tenantID + `', n, 'twin' from generate_series(1, 2) n`
	_, err := super.Exec(t.Context(), twins)
	require.NoError(t, err)
	err = apply(t, conn, set, public, first)
	require.True(t, pgerr.Is(err, pgerr.UniqueViolation), "%v", err)
	require.Equal(t, []string{"items_by_name false"}, texts(t, super, indexes), "the trap is there")
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))

	_, err = super.Exec(t.Context(), `delete from items where id = 2`)
	require.NoError(t, err)
	require.NoError(t, apply(t, again(t, conn), set, public, migrate.Attempt{Run: run, Lease: 2}))
	require.Equal(t, []string{"items_by_name true"}, texts(t, super, indexes))
	require.Equal(t, []int64{1, 2, 3}, recorded(t, conn, "public"))
	require.Empty(t, texts(t, super, `select 'locked' from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`))
}

func TestAnIndexThatWasFinishedBeforeItsVersionRowIsKept(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := items(t, conn)
	index := set.Migrations()[1]
	super := superuser(t, conn)

	// Somebody else's index of the same name is not taken for it.
	_, err := conn.Exec(t.Context(), index.Statements[0])
	require.NoError(t, err)
	_, err = index.Apply(t.Context(), conn, public, first, limits)
	require.True(t, pgerr.Is(err, pgerr.DuplicateTable), "%v", err)

	_, err = index.Apply(t.Context(), conn, public, first, limits)
	require.True(t, pgerr.Is(err, pgerr.DuplicateTable), "nor later: %v", err)

	// That of an attempt which was killed is: it had said that it begins.
	begin := fmt.Sprintf(`select landlord.begin_step('public', 2, '%s', '%s', 1, true)`, index.Checksum, run)
	_, err = conn.Exec(t.Context(), begin)
	require.NoError(t, err)
	before := texts(t, super, `select 'items_by_name'::regclass::oid::text`)
	_, err = index.Apply(t.Context(), conn, public, migrate.Attempt{Run: run, Lease: 2}, limits)
	require.NoError(t, err)
	require.Equal(t, before, texts(t, super, `select 'items_by_name'::regclass::oid::text`))
	require.Equal(t, []int64{1, 2}, recorded(t, conn, "public"))
}

func TestSeveralStatementsWithoutATransactionAreRefused(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	text := "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently i on a (id);\ncreate index concurrently j on a (id);\n"
	set := load(t, with(files("1_a.sql", createA), "2_i.sql", strings.TrimPrefix(text, "-- +goose Up\n")))
	m := set.Migrations()[1]
	require.ErrorContains(t, m.Check(), "2 statements")
	require.NoError(t, set.Migrations()[0].Check())
	require.ErrorContains(t, apply(t, conn, set, public, first), "give each a file of its own")
}

func TestScopesRunWhereTheyBelong(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	super := superuser(t, conn)
	newSchema(t, conn, "t_one")
	set := load(t, files(
		"1_fn.sql", "-- landlord: scope=database\ncreate function twice(n int) returns int language sql immutable return 2 * n;",
		"2_a.sql", createA+"\nalter table a add column b int generated always as (twice(id)) stored;",
		"3_role.sql", "-- landlord: scope=server\ncomment on tablespace pg_default is 'set once';",
	))
	// The function is the operator's, and the migrator may call it as anybody may.
	require.NoError(t, set.Prepare(t.Context(), super, true))
	require.NoError(t, set.Prepare(t.Context(), super, true))
	require.NoError(t, set.Build(t.Context(), conn, "t_one", tenantID))
	require.Equal(t, []int64{2}, recorded(t, conn, "t_one"))
	require.Equal(t, []int64{1}, recorded(t, conn, migrate.DatabasePlace))
	require.Equal(t, []int64{3}, recorded(t, conn, migrate.ServerPlace))
	require.Equal(t, []string{"extensions"}, texts(t, conn, `select pronamespace::regnamespace::text from pg_proc where proname = 'twice'`))

	// A step comes to the same.
	require.NoError(t, apply(t, conn, set, public, first))
	require.NoError(t, apply(t, super, set, migrate.Target{Scope: migrate.ScopeDatabase}, first))
	require.Equal(t, []int64{2}, recorded(t, conn, "public"))
}

func TestAFileThatMakesItsObjectsElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	newSchema(t, conn, "T odd")
	hidden := "do $$ begin perform set_config('search' || '_path', 'public, extensions', true); end $$;\n"
	for _, home := range []migrate.Target{public, {Scope: migrate.ScopeTenant, Schema: "T odd", Tenant: tenantID}, {Scope: migrate.ScopeDatabase}} {
		header := "-- landlord: scope=" + string(home.Scope) + "\n-- +goose Up\n"
		err := apply(t, conn, load(t, files("1_a.sql", header+"-- +goose StatementBegin\n"+hidden+"-- +goose StatementEnd\n"+createA)), home, first)
		require.ErrorContains(t, err, "the file has set search_path to public, extensions", "%s", home.Place())
		require.Empty(t, recorded(t, conn, home.Place()))
		require.Empty(t, tables(t, conn, "public"))

		// Nor is a home built by it, or a database prepared.
		build := func(texts ...string) error {
			set := load(t, files(texts...))
			if home.Scope == migrate.ScopeDatabase {
				return set.Prepare(t.Context(), conn, false)
			}
			return set.Build(t.Context(), conn, home.Schema, home.Tenant)
		}
		err = build("1_a.sql", header+"-- +goose StatementBegin\n"+hidden+"-- +goose StatementEnd\n"+createA, "2_b.sql", header+"select 1;")
		require.ErrorContains(t, err, "1_a.sql: the file has set search_path to public, extensions", "%s", home.Place())
		err = build("1_a.sql", "-- +goose NO TRANSACTION\n"+header+"select set_config('search' || '_path', 'extensions', false);")
		require.ErrorContains(t, err, "1_a.sql: the file has set search_path to extensions", "%s", home.Place())
		require.Empty(t, recorded(t, conn, home.Place()))
		require.Empty(t, tables(t, conn, "public"))
		require.NoError(t, apply(t, conn, load(t, files("1_a.sql", header+"select 1;")), home, first))
	}
}
