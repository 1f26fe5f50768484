package onboard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

// restore brings the catalog to what a backup would: SQL on its tables, beside the log.
func (e estate) restore(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), e.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// rebuild is doctor --rebuild-catalog.
func (e estate) rebuild(t testing.TB) {
	t.Helper()
	census, err := e.Service.Census(t.Context())
	require.NoError(t, err)
	for _, db := range census.Databases {
		require.NoError(t, e.Catalog.PutDatabase(t.Context(), db))
	}
	_, err = e.Catalog.Rebuild(t.Context(), census.Fences, false)
	require.NoError(t, err)
}

var failing = builder(func(context.Context, *pgx.Conn, string, string) error { return errors.New("boom") })

// The catalog is restored from a backup that is older than the tenant, and the tenant is added again.
func TestAddNeverTouchesAHomeInWhichTheTenantLives(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range models {
		for _, fence := range []string{"open", "suspended", "moved"} {
			r, home := e.request(t, fmt.Sprintf("acme-%s-%s", m, fence), m)
			_, err := e.Service.Add(t.Context(), r)
			require.NoError(t, err)
			e.works(t, r.ID)
			before := e.traces(t, r, home)
			e.SuperExec(t, home.Database, fmt.Sprintf("update landlord.fence set state = '%s' where tenant = '%s'", fence, r.ID))
			e.restore(t, "delete from landlord.tenants where id = $1", r.ID.String())
			for range 2 {
				_, err = e.service(t, e.Catalog, failing).Add(t.Context(), r)
				require.ErrorIs(t, err, placement.ErrExists, "%s %s", m, fence)
				require.ErrorContains(t, err, "landlord doctor --rebuild-catalog")
				_, err = e.Catalog.Tenant(t.Context(), r.ID)
				require.ErrorIs(t, err, placement.ErrUnknownTenant)
			}
			e.SuperExec(t, home.Database, fmt.Sprintf("update landlord.fence set state = 'open' where tenant = '%s'", r.ID))
			e.rebuild(t)
			require.ElementsMatch(t, before, e.traces(t, r, home))
			e.works(t, r.ID)
			e.destroy(t, r.ID)
		}
	}
}

// The backup is of the moment between the fence and the catalog's last word, or the process died there.
func TestATenantWhoseHomeIsOpenIsFinishedAndNeverUndone(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	const half = "update landlord.tenants set state = 'provisioning' where id = $1"
	for _, m := range models {
		r, home := e.request(t, "acme-"+string(m), m)
		_, err := e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		e.works(t, r.ID)
		e.restore(t, half, r.ID.String())
		if m != placement.ModelShared {
			_, err = e.service(t, e.Catalog, failing).Add(t.Context(), r)
			require.ErrorContains(t, err, "the same command goes on")
			require.Equal(t, "open", e.fence(t, e.tenant(t, r.ID)))
		}
		_, err = e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		e.works(t, r.ID)

		e.restore(t, half, r.ID.String())
		require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), time.Hour))
		require.Equal(t, placement.StateRemoving, e.tenant(t, r.ID).State, "with its grace")
		require.NotEmpty(t, e.traces(t, r, home))
		require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, r.ID)))
		e.works(t, r.ID)

		// One that has been suspended since is nobody's to undo either.
		require.NoError(t, e.Service.Suspend(t.Context(), e.tenant(t, r.ID)))
		e.restore(t, half, r.ID.String())
		require.ErrorContains(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), 0), "--rebuild-catalog")
		_, err = e.Service.Add(t.Context(), r)
		require.ErrorContains(t, err, "--rebuild-catalog")
		e.rebuild(t)
		require.NoError(t, e.Service.Resume(t.Context(), e.tenant(t, r.ID)))
		e.works(t, r.ID)
		e.destroy(t, r.ID)
		require.Empty(t, e.traces(t, r, home))
	}
}

// What was built before the tenant was placed is used, and stays when that fails.
func TestAddDropsNothingThatWasThereBefore(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		r, home := e.request(t, "acme-"+string(m), m)
		_, err := e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		e.SuperExec(t, home.Database, fmt.Sprintf("delete from landlord.fence where tenant = '%s'", r.ID))
		e.restore(t, "delete from landlord.tenants where id = $1", r.ID.String())
		_, err = e.service(t, e.Catalog, failing).Add(t.Context(), r)
		require.ErrorContains(t, err, "what is made of it stays")
		_, err = e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		e.works(t, r.ID)
		e.destroy(t, r.ID)
		require.Empty(t, e.traces(t, r, home))
	}
}

// The one that placed the tenant undoes it while another still works: the other cannot finish, and leaves nothing either.
func TestAnAddThatComesAfterTheUndoLeavesNothing(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	boom := errors.New("boom")
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		r, home := e.request(t, "acme-"+string(m), m)
		first, fail := make(chan struct{}), make(chan struct{})
		undone := make(chan error)
		go func() {
			_, err := e.service(t, e.Catalog, builder(func(context.Context, *pgx.Conn, string, string) error {
				close(first)
				<-fail
				return boom
			})).Add(t.Context(), r)
			undone <- err
		}()
		<-first
		_, err := e.service(t, e.Catalog, builder(func(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
			err := sample(t).Build(ctx, conn, schema, tenant)
			close(fail)
			return errors.Join(err, <-undone)
		})).Add(t.Context(), r)
		require.ErrorIs(t, err, boom)
		require.Empty(t, e.traces(t, r, home), m)
	}
}

func TestPurgeRefusesAHomeThatIsOpen(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range models {
		p := e.Add(t, "acme-"+string(m), m, "a")
		e.works(t, p.Tenant)
		e.restore(t, "update landlord.tenants set state = 'removing', remove_after = now() where id = $1", p.Tenant.String())
		due := e.tenant(t, p.Tenant)
		require.True(t, due.RemovalDue)
		err := e.Service.Purge(t.Context(), due)
		require.ErrorIs(t, err, placement.ErrState)
		require.ErrorContains(t, err, "--rebuild-catalog")
		e.rebuild(t)
		e.works(t, p.Tenant)
	}
}

// Remove comes between Resume's word in the catalog and its opening of the home.
func TestAResumeThatLosesToARemovalClosesTheHomeAgain(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelShared, "a")
	require.NoError(t, e.Service.Suspend(t.Context(), e.tenant(t, p.Tenant)))
	suspended := e.tenant(t, p.Tenant)
	hold := e.Super(t, p.Home.Database)
	_, err := hold.Exec(t.Context(), "begin; lock table landlord.fence in share mode")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- e.Service.Resume(t.Context(), suspended) }()
	require.Eventually(t, func() bool { return e.tenant(t, p.Tenant).State == placement.StateActive }, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, e.Catalog.ScheduleRemoval(t.Context(), p.Tenant, 0))
	_, err = hold.Exec(t.Context(), "commit")
	require.NoError(t, err)
	require.ErrorIs(t, <-done, placement.ErrState)
	require.Equal(t, "suspended", e.fence(t, suspended))
	require.NoError(t, e.Service.Purge(t.Context(), e.tenant(t, p.Tenant)))
}

func TestATenantWhoseHomeIsGoneCanBeRemoved(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range models {
		r, home := e.request(t, "acme-"+string(m), m)
		_, err := e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		dropFence := fmt.Sprintf("delete from landlord.fence where tenant = '%s';", r.ID)
		switch m {
		case placement.ModelShared:
			e.works(t, r.ID)
			e.SuperExec(t, home.Database, dropFence)
			require.ErrorIs(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), 0), isolation.ErrFence, "its rows are there")
			e.SuperExec(t, home.Database, fmt.Sprintf("delete from customers where tenant_id = '%s'", r.ID))
		case placement.ModelSchema:
			e.SuperExec(t, home.Database, dropFence)
			require.ErrorIs(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), 0), isolation.ErrFence, "its schema is there")
			e.SuperExec(t, home.Database, "drop schema "+pgx.Identifier{home.Schema}.Sanitize()+" cascade")
		case placement.ModelDatabase:
			e.SuperExec(t, "postgres", "drop database "+pgx.Identifier{home.Database}.Sanitize()+" with (force)")
		}
		require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), time.Hour), m)
		require.ErrorIs(t, e.Service.Purge(t.Context(), e.tenant(t, r.ID)), placement.ErrState, "the grace period counts here too")
		e.destroy(t, r.ID)
		require.Empty(t, e.traces(t, r, home))
	}

	// So is one in a shared database that is gone.
	p := e.Add(t, "last", placement.ModelSchema, "b")
	e.SuperExec(t, "postgres", "drop database "+pgx.Identifier{p.Home.Database}.Sanitize()+" with (force)")
	e.destroy(t, p.Tenant)
	_, err := e.Catalog.Tenant(t.Context(), p.Tenant)
	require.ErrorIs(t, err, placement.ErrUnknownTenant)
}

func TestAKeyNeverChangesItsSecretAndNeverComesBack(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelShared, "a")
	other, err := isolation.NewKey(1)
	require.NoError(t, err)
	second, err := isolation.NewKey(2)
	require.NoError(t, err)
	_, err = e.Service.AddKeys(t.Context(), isolation.Keyring{second, other})
	require.ErrorIs(t, err, isolation.ErrOtherKey)
	require.ErrorContains(t, err, "add seal key 1")
	all, err := e.Service.Keys(t.Context())
	require.NoError(t, err)
	for _, db := range all {
		require.Len(t, db.Keys, 1, "all or none")
		require.ErrorContains(t, e.installs(t, isolation.Keyring{other}), "add seal key 1")
	}
	e.works(t, p.Tenant)

	_, err = e.Service.AddKeys(t.Context(), isolation.Keyring{second})
	require.NoError(t, err)
	_, err = e.Service.RetireKey(t.Context(), 1, time.Hour)
	require.NoError(t, err)
	both := append(isolation.Keyring{}, e.Keys[0], second)
	added, err := e.Service.AddKeys(t.Context(), both)
	require.NoError(t, err, "within its grace")
	require.Zero(t, added)
	_, err = e.Service.RetireKey(t.Context(), 1, 0)
	require.NoError(t, err)
	_, err = e.Service.AddKeys(t.Context(), both)
	require.ErrorIs(t, err, isolation.ErrRetired)
	require.ErrorIs(t, e.installs(t, both), isolation.ErrRetired)
	require.NoError(t, e.installs(t, isolation.Keyring{second}))
}

// installs sets cluster a up with another keyring.
func (e estate) installs(t testing.TB, ring isolation.Keyring) error {
	t.Helper()
	s, err := onboard.New(onboard.Config{Catalog: e.Catalog, Keys: ring, Builder: sample(t), Mode: isolation.Sealed})
	require.NoError(t, err)
	_, err = s.SetUp(t.Context(), e.cluster(t, "a"))
	return err
}

// Roles are the server's, so this test needs one of its own.
func TestPasswordsOfAnotherInstallationOrClusterAreLeftAlone(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	conn, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	ensure := func(installation, cluster, secret string) error {
		_, err := isolation.EnsureRoles(t.Context(), conn, isolation.Plain, isolation.Passwords{
			App: secret, Admin: secret, Migrator: secret, Installation: installation, Cluster: cluster,
		})
		return err
	}
	var verifier string
	stored := func() string {
		const q = `select string_agg(rolpassword, ' ' order by rolname) from pg_authid where rolname ~ '^landlord_'`
		var s string
		require.NoError(t, conn.QueryRow(t.Context(), q).Scan(&s))
		return s
	}
	require.NoError(t, ensure("one", "a", "first"))
	verifier = stored()
	for _, c := range []struct{ installation, cluster string }{{"two", "a"}, {"one", "b"}} {
		err := ensure(c.installation, c.cluster, "second")
		require.ErrorIs(t, err, isolation.ErrForeignRoles)
		require.ErrorContains(t, err, "installation one cluster a")
		require.NoError(t, ensure(c.installation, c.cluster, "first"), "with the same secrets they share")
	}
	require.Equal(t, verifier, stored())
	require.NoError(t, ensure("one", "a", "second"), "its own it may change")
	require.NotEqual(t, verifier, stored())
	_, err = conn.Exec(t.Context(), "comment on role landlord_app is null")
	require.NoError(t, err)
	require.NoError(t, ensure("two", "a", "third"), "the first is gone for good")
	require.ErrorIs(t, ensure("one", "a", "second"), isolation.ErrForeignRoles)
}
