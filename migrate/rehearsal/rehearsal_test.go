package rehearsal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/migrate/rehearsal"
	"github.com/landlord-go/landlord/placement"
)

const addNote = "alter table customers add column note text;"

func TestFilesThatWorkEverywherePass(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := rehearse(t, h, files(t, "00004_note.sql", addNote,
		"00005_index.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently customers_note on customers (tenant_id, note);",
		"00006_fn.sql", "-- landlord: scope=database\n-- +goose Up\ncreate function twice(n int) returns int language sql immutable return 2 * n;"))
	require.Empty(t, r.Skipped)
	require.Nil(t, r.Failure)
	require.Nil(t, r.Doubt)
	require.Len(t, r.Steps, 7, "two files in three homes, and one in the database")
	for _, s := range r.Steps {
		require.NoError(t, s.Err)
		require.Positive(t, s.Took)
	}
	one, two := rehearsal.Estimate([]rehearsal.Result{r}, 1), rehearsal.Estimate([]rehearsal.Result{r}, 2)
	require.Positive(t, two)
	require.InDelta(t, float64(one), float64(2*two), 2)
}

func TestAFileThatWorksOnceIsFound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a name that exists once": {
			block("execute 'create schema audit'; create table audit_log (tenant_id uuid, id int, primary key (tenant_id, id));"),
			[]string{"00004_x.sql", `statement "do $$ begin execute 'create schema audit'`, "42P06", "worked in the first home and failed in its sibling", "exists once"},
		},
		"a look into all homes": {
			block("if not exists (select from pg_class where relname = 'audit') then create table audit (tenant_id uuid, id int, primary key (tenant_id, id)); end if;"),
			[]string{"00004_x.sql", "missing table audit", "not do the same"},
		},
		"a plain mistake": {
			addNote + "\nalter table customer add column more text;",
			[]string{"00004_x.sql", `statement "alter table customer add column more text"`, "42P01"},
		},
		"a table that cannot be secured": {
			"create table links (tenant_id uuid, id bigint, customer bigint, primary key (tenant_id, id));\n" +
				"create unique index on customers (id); alter table links add foreign key (customer) references customers (id);",
			[]string{"00004_x.sql", "42830", "leaves tenant_id out"},
		},
		"what shared homes have not": {
			block("if current_schema() = 'public' then raise exception 'not here'; end if;"),
			[]string{"failed in the shared one", "P0001"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rehearse(t, h, files(t, "00004_x.sql", c.text))
			require.NotNil(t, r.Failure)
			for _, want := range c.want {
				require.Contains(t, r.Failure.Error(), want)
			}
		})
	}
}

func TestAmongManyFilesTheSiblingsAreComparedAtTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var more []string
	for i := range 10 {
		more = append(more, fmt.Sprintf("%05d_x.sql", i+4), fmt.Sprintf("alter table customers add column c%d int;", i))
	}
	require.Nil(t, rehearse(t, h, files(t, more...)).Failure)
	more[5] = block("if not exists (select from pg_class where relname = 'audit') then create table audit (tenant_id uuid primary key); end if;")
	f := rehearse(t, h, files(t, more...)).Failure
	require.ErrorContains(t, f, "missing table audit")
	require.ErrorContains(t, f, "the pending files did not do the same")
}

func TestHomesAtOtherVersionsAreRehearsedToo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old := h.Add(t, "behind", placement.ModelSchema, "a")
	note := files(t, "00004_note.sql", addNote)
	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: note})
	require.NoError(t, err)
	release := holdBack(t, h, old.Home)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, s.Counts[placement.TargetFailed])
	release()

	more := files(t, "00004_note.sql", addNote, "00005_more.sql", "alter table customers add column more text;")
	r := rehearse(t, h, more)
	require.Nil(t, r.Failure)
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, s.File+" in "+s.Home)
	}
	require.Equal(t, []string{
		"00005_more.sql in the first home", "00005_more.sql in its sibling", "00005_more.sql in the shared home",
		"00004_note.sql in a home of version 3", "00005_more.sql in a home of version 3",
	}, steps)
}

// holdBack keeps a home at its version.
func holdBack(t *testing.T, h *testhouse.House, home placement.Home) (release func()) {
	t.Helper()
	h.SuperExec(t, home.Database, "insert into landlord.move_hold (schema, move) values ('"+home.Schema+"', gen_random_uuid())")
	return func() { h.SuperExec(t, home.Database, "delete from landlord.move_hold") }
}

func TestFilesOfTheServerAreLeftOutAndWhatNeedsThemIsNotBlamed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	role := "rehearsal_" + uuid.NewString()[:8]
	server := "-- landlord: scope=server\n-- +goose Up\ncreate role " + role + ";"
	r := rehearse(t, h, files(t, "00004_role.sql", server, "00005_grant.sql", "grant select on customers to "+role+";"))
	require.Equal(t, []string{"00004_role.sql"}, r.LeftOut)
	require.Nil(t, r.Failure)
	require.ErrorContains(t, r.Doubt, "00004_role.sql")
	require.ErrorContains(t, r.Doubt, "42704")

	// But what fails in the second home fails in any case.
	r = rehearse(t, h, files(t, "00004_role.sql", server, "00005_once.sql", block("execute 'create schema audit';")))
	require.NotNil(t, r.Failure)
}

func TestNothingPendingNeedsNoRehearsal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: files(t)})
	require.NoError(t, err)
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	results, err := rehearsal.Rehearse(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: files(t)}, plan)
	require.NoError(t, err)
	require.Empty(t, results)
}

func TestAnOperatorWhoMayNotMakeDatabasesSkipsIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	login := "operator_" + uuid.NewString()[:8]
	h.SuperExec(t, "postgres", "create role "+login+" login password 'x'")
	t.Cleanup(func() { h.SuperExec(t, "postgres", "drop role "+login) })
	cfg, err := pgx.ParseConfig(h.Server.DSN)
	require.NoError(t, err)
	setOperator(t, h, fmt.Sprintf("host=%s port=%d user=%s password=x dbname=postgres", cfg.Host, cfg.Port, login))
	r := rehearse(t, h, files(t, "00004_note.sql", addNote))
	require.Contains(t, r.Skipped, "may not make databases")
	require.Contains(t, r.Skipped, login)
	require.Nil(t, r.Failure)
	_, err = rehearsal.Trace(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: files(t)})
	require.ErrorContains(t, err, "may not make databases")

	setOperator(t, h, "host=127.0.0.1 port=1 user=x connect_timeout=1")
	require.Contains(t, rehearse(t, h, files(t, "00004_note.sql", addNote)).Skipped, "connect to 127.0.0.1:1")
}

// setOperator changes how the operator of the house's cluster connects.
func setOperator(t *testing.T, h *testhouse.House, dsn string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "operator")
	require.NoError(t, os.WriteFile(file, []byte(dsn), 0o600))
	_, err := h.Catalog.UpdateCluster(t.Context(), "a", func(c *placement.Cluster) error {
		c.Operator = placement.Ref("file:" + file)
		return nil
	})
	require.NoError(t, err)
}

func TestALeftoverIsDroppedWhenItIsOldAndNothingElseIs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	settings, err := h.Catalog.Settings(t.Context())
	require.NoError(t, err)
	hour := time.Now().Add(-61 * time.Minute).Unix()
	database := func(made int64, owner, comment string) string {
		name := fmt.Sprintf("landlord_rehearsal_%08x%s", made, uuid.NewString()[:8])
		h.SuperExec(t, "postgres", `create database `+name)
		if owner != "" {
			h.SuperExec(t, "postgres", `alter database `+name+` owner to `+owner)
		}
		if comment != "" {
			h.SuperExec(t, "postgres", `comment on database `+name+` is '`+comment+`'`)
		}
		t.Cleanup(func() { h.SuperExec(t, "postgres", "drop database if exists "+name) })
		return name
	}
	purpose := func(installation string, made int64) string {
		return fmt.Sprintf("landlord: rehearsal of %s made %d", installation, made)
	}
	old := database(hour, "landlord_owner", purpose(settings.Installation, hour))
	stay := []string{
		database(time.Now().Unix(), "landlord_owner", purpose(settings.Installation, time.Now().Unix())),
		database(hour, "landlord_owner", purpose(uuid.NewString(), hour)),
		database(hour, "", purpose(settings.Installation, hour)),
		database(hour, "landlord_owner", "landlord: tenant 7"),
		database(hour, "landlord_owner", ""),
	}
	super := h.Super(t, "postgres")
	left, err := rehearsal.Leftovers(t.Context(), super, settings.Installation)
	require.NoError(t, err)
	var names []string
	for _, l := range left {
		names = append(names, l.Name)
		require.Equal(t, l.Name != old, l.Unmarked)
	}
	require.Contains(t, names, old)
	require.Contains(t, names, stay[4], "a person may know")
	require.NotContains(t, names, stay[0])
	for _, name := range stay[1:4] {
		require.NotContains(t, names, name)
	}

	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: files(t, "00004_note.sql", addNote)})
	require.NoError(t, err)
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	_, err = rehearsal.Rehearse(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: files(t, "00004_note.sql", addNote)}, plan)
	require.NoError(t, err)
	require.False(t, exists(t, super, old))
	for _, name := range stay {
		require.True(t, exists(t, super, name), name)
	}
}

func exists(t *testing.T, conn *pgx.Conn, database string) (yes bool) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `select exists (select from pg_database where datname = $1)`, database).Scan(&yes))
	return yes
}

func TestAnInterruptedRehearsalLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set := files(t, "00004_slow.sql", addNote+"\nselect pg_sleep(30);")
	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: set})
	require.NoError(t, err)
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := rehearsal.Rehearse(ctx, rehearsal.Config{Catalog: h.Catalog, Set: set}, plan)
		require.ErrorIs(t, err, context.Canceled)
		return nil
	})
	require.Eventually(t, func() bool { return len(scratches(t, h)) == 1 }, 30*time.Second, 20*time.Millisecond)
	cancel()
	require.NoError(t, g.Wait())
	require.Empty(t, scratches(t, h))
}

func TestTwoRehearseAtTheSameTimeOnSeveralClustersAndInEveryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Sealed, isolation.SealedMAC} {
		h := testhouse.New(t, testhouse.Options{Mode: mode})
		set := files(t, "00004_note.sql", addNote)
		f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: set})
		require.NoError(t, err)
		plan, err := f.Plan(t.Context(), fleet.Options{})
		require.NoError(t, err)
		var g errgroup.Group
		for range 2 {
			g.Go(func() error {
				results, err := rehearsal.Rehearse(t.Context(), rehearsal.Config{Catalog: h.Catalog, Set: set}, plan)
				require.Len(t, results, 2)
				for i, r := range results {
					require.Equal(t, h.Clusters[i], r.Cluster)
					require.Empty(t, r.Skipped)
					require.Nil(t, r.Failure)
				}
				return err
			})
		}
		require.NoError(t, g.Wait())
		require.Empty(t, scratches(t, h))
	}
}

func TestAHomeThatCannotBeBuiltAnyMoreIsAFailure(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	once := block("if exists (select from pg_database where datname = current_database() and datname like 'landlord_rehearsal%') then raise exception 'gone'; end if;")
	set := files(t, "00004_x.sql", once)
	f, err := fleet.New(fleet.Config{Catalog: h.Catalog, Set: set})
	require.NoError(t, err)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	r := rehearse(t, h, files(t, "00004_x.sql", once, "00005_note.sql", addNote))
	require.ErrorContains(t, r.Failure, "00004_x.sql")
	require.ErrorContains(t, r.Failure, "cannot be built")
}
