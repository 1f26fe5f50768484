package fleet_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// replaceHome gives a tenant the home that another one has, which goes, as a move does.
func replaceHome(t *testing.T, h *testhouse.House, p, other placement.Placement) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`select landlord.lock_placement()`,
			`delete from landlord.tenants where id = '` + other.Tenant.String() + `'`,
			`update landlord.tenants set created_at = now() - interval '1 year' where id = '` + p.Tenant.String() + `'`,
			`update landlord.placements set schema = '` + other.Home.Schema + `', epoch = epoch + 1 where tenant = '` + p.Tenant.String() + `'`,
			`insert into landlord.placement_log (seq, at, actor, kind, tenant, slug, cluster, epoch)
			 select (select max(seq) + 1 from landlord.placement_log), now(), 'mover', 'moved', t.id, t.slug, p.cluster, p.epoch
			   from landlord.tenants t join landlord.placements p on p.tenant = t.id where t.id = '` + p.Tenant.String() + `'`,
		} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		return nil
	}))
}

func TestATenantThatMovesDuringARunIsMigratedWhereItHasGone(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	goes, to := all[2], all[3]
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	for _, p := range []placement.Placement{goes, to} {
		h.SuperExec(t, p.Home.Database, "insert into landlord.move_hold (schema, move) values ('"+p.Home.Schema+"', gen_random_uuid())")
	}
	release := hold(t, h, all[1].Home) // keeps the run from ending
	ended := make(chan fleet.Status, 1)
	go func() {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err != nil {
			t.Error(err)
		}
		ended <- s
	}()
	verified(t, f, 1)
	require.Eventually(t, func() bool {
		s, err := f.Status(t.Context())
		return err == nil && s.Counts[placement.TargetFailed] == 2
	}, time.Minute, 20*time.Millisecond, "both are held")
	replaceHome(t, h, goes, to)
	h.SuperExec(t, goes.Home.Database, "delete from landlord.move_hold where schema = '"+to.Home.Schema+"'; drop schema "+
		pgx.Identifier{goes.Home.Schema}.Sanitize()+" cascade")
	release()
	s := <-ended
	reasons := map[placement.Home]string{}
	for _, skipped := range s.Skipped {
		reasons[skipped.Home] = skipped.Reason
	}
	require.Equal(t, "the tenant lives elsewhere now", reasons[goes.Home])
	if s.Run.State != placement.RunDone { // the new home was in the run as another tenant's
		s, err := f.Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.True(t, s.Whole())
	}
	up(t, f)
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, to.Home))
}

func TestATenantThatHasMovedToAHomeWhichIsBehindIsMigratedAtTheEnd(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	goes := all[2]
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	release := hold(t, h, all[1].Home)
	ended := make(chan fleet.Status, 1)
	go func() {
		s, err := f.Up(t.Context(), fleet.Options{})
		if err != nil {
			t.Error(err)
		}
		ended <- s
	}()
	verified(t, f, 2)
	to := h.Add(t, "to", placement.ModelSchema, "a") // by a process with the old files
	replaceHome(t, h, goes, to)
	release()
	s := <-ended
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, to.Home))
}

func TestFilesOfAnotherInstallationTouchNothing(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	set, err := migrate.Load(fstest.MapFS{
		"00001_other.sql": {Data: []byte("-- +goose Up\ncreate table others (id int primary key);\n")},
		"00002_more.sql":  {Data: []byte("-- +goose Up\nalter table others add column more text;\n")},
	})
	require.NoError(t, err)
	f := newFleet(t, h, set)
	plan, err := f.Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, plan.Err(), "was changed after it was applied here")
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Equal(t, len(all), s.Counts[placement.TargetFailed])
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, p.Home))
		var found bool
		require.NoError(t, h.Super(t, p.Home.Database).QueryRow(t.Context(), "select to_regclass($1) is not null",
			pgx.Identifier{p.Home.Schema, "others"}.Sanitize()).Scan(&found))
		require.False(t, found)
	}
	up(t, newFleet(t, h, with(t, "00004_note.sql", addNote)))
}

func TestAnOperatorThatIsNoSuperuserTakesAFleetOfGooseOver(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t) // its roles are this test's
	// The other modes want a superuser.
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, Own: server, Mode: isolation.Plain})
	var all []placement.Placement
	for _, model := range models {
		all = append(all, h.Add(t, string(model), model, "a"))
	}
	files := sample(t)
	h.SuperExec(t, "postgres", `create role shopkeeper; create role operator login createrole createdb bypassrls password 'open';
		grant shopkeeper, landlord_owner to operator with admin option`)
	var homes []placement.Home
	for _, p := range all {
		homes = append(homes, p.Home)
		h.SuperExec(t, p.Home.Database, `grant usage, create on schema landlord to operator; grant connect, temporary on database "`+p.Home.Database+`" to operator;
			grant all on all tables in schema landlord to operator; grant execute on all functions in schema landlord to operator;
			grant execute on all procedures in schema landlord to operator`)
	}
	goosed(t, h, files, 3, "shopkeeper", homes...)
	c, err := h.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	path := strings.TrimPrefix(string(c.Operator), "file:")
	super, err := pgx.ParseConfig(server.DSN())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(super.User+":"+super.Password, "operator:open").Replace(server.DSN())), 0o600))
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	for home, taken := range takeOver(t, f, fleet.BaselineOptions{}) {
		require.NoError(t, taken.Err, home)
		require.Equal(t, migrate.Taken, taken.State)
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, home))
	}
	up(t, f)
	for _, home := range homes {
		require.True(t, has(t, h, home, "note"))
		_, err := h.Super(t, home.Database).Exec(context.WithoutCancel(t.Context()), "drop owned by operator")
		require.NoError(t, err)
	}
}
