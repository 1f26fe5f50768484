package onboard_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

// The census asks the homes, not the catalog: it finds those that the catalog does not know.
func TestTheCensusFindsEveryHomeOfTheInstallationAndNoOther(t *testing.T) {
	t.Parallel()
	e, stranger := newEstate(t, testhouse.Options{}), newEstate(t, testhouse.Options{})
	var want []placement.FenceRow
	for _, cluster := range e.Clusters {
		for _, m := range models {
			p := e.Add(t, string(m)+"-"+cluster, m, cluster)
			want = append(want, placement.FenceRow{Tenant: p.Tenant, Slug: p.Slug, Model: m, Home: p.Home, Epoch: 1, State: "open"})
		}
	}
	stranger.Add(t, "stranger", placement.ModelDatabase, "a")
	suspended := e.tenant(t, want[0].Tenant)
	require.NoError(t, e.Service.Suspend(t.Context(), suspended))
	want[0].State = "suspended"
	// As after the catalog was restored from an old backup.
	lost := want[2]
	require.NoError(t, e.Catalog.SetState(t.Context(), lost.Tenant, placement.StateRemoving))
	require.NoError(t, e.Catalog.DeleteDatabase(t.Context(), lost.Home.Cluster, lost.Home.Database))
	require.NoError(t, e.Catalog.DeleteTenant(t.Context(), lost.Tenant))
	known, err := e.Catalog.Databases(t.Context())
	require.NoError(t, err)

	scratch := "landlord_rehearsal_" + uuid.NewString()[:8] + uuid.NewString()[:8]
	e.SuperExec(t, "postgres", "create database "+scratch+" owner landlord_owner")
	t.Cleanup(func() { e.SuperExec(t, "postgres", "drop database "+scratch) })

	census, err := e.Service.Census(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, census.Fences)
	require.Len(t, census.Databases, len(known)+1)
	require.Subset(t, census.Databases, known)
	for _, unread := range census.Errors { // databases that other tests are making or dropping
		require.NotEqual(t, e.cluster(t, "a").SharedDatabase, unread.Database)
		require.NotEqual(t, scratch, unread.Database, "nobody lives where migrations are rehearsed")
	}
}

func TestTheCensusGoesPastWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	here, there := e.Add(t, "here", placement.ModelShared, "b"), e.Add(t, "there", placement.ModelDatabase, "a")
	e.SuperExec(t, there.Home.Database, "drop schema landlord cascade")
	proxy := faultnet.New(t, e.Server.Addr())
	host, port, err := split(proxy.Addr())
	require.NoError(t, err)

	census, err := e.Service.Census(t.Context())
	require.NoError(t, err)
	require.Equal(t, here.Tenant, census.Fences[0].Tenant)
	require.True(t, unread(census, "a", there.Home.Database))

	e.through(t, host, port)
	proxy.Cut()
	census, err = e.Service.Census(t.Context())
	require.NoError(t, err)
	require.Len(t, census.Fences, 1, "cluster b is there")
	require.True(t, unread(census, "a", ""))
}

func unread(c onboard.Census, cluster, database string) bool {
	for _, e := range c.Errors {
		if e.Cluster == cluster && e.Database == database {
			return true
		}
	}
	return false
}

func TestKeysRotateOverAllDatabases(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	p := e.Add(t, "acme", placement.ModelDatabase, "b")
	key, err := isolation.NewKey(2)
	require.NoError(t, err)
	ring := append(isolation.Keyring{}, e.Keys[0], key)
	for _, want := range []int{3, 0} { // two shared databases and a dedicated one
		added, err := e.Service.AddKeys(t.Context(), ring)
		require.NoError(t, err)
		require.Equal(t, want, added)
	}
	all, err := e.Service.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, db := range all {
		require.Len(t, db.Keys, 2, db.Database.Name)
	}
	e.works(t, p.Tenant) // with the old one
	old := e.Keys
	e.Keys = ring
	e.works(t, p.Tenant)

	// One database fails: the others are done all the same.
	e.SuperExec(t, p.Home.Database, "update landlord.identity set stamp = gen_random_uuid()")
	for _, want := range []int{2, 0} {
		retired, err := e.Service.RetireKey(t.Context(), 1, 0)
		require.ErrorIs(t, err, isolation.ErrIdentity)
		require.ErrorContains(t, err, p.Home.Database)
		require.Equal(t, want, retired)
	}
	shared := e.Add(t, "shared", placement.ModelShared, "a")
	e.works(t, shared.Tenant)
	e.Keys = old
	_, err = e.Router(t).Tenant(shared.Tenant).Exec(t.Context(), "insert into customers (email, name) values ('a', 'b')")
	require.ErrorContains(t, err, "seal")
}

// A home whose server has no connection free is waited for.
func TestAShortageOfConnectionsIsWaitedOut(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	w := newTripwire(t, e.Server.Addr())
	host, port := w.addr()
	e.through(t, host, port) // the cluster, not the catalog
	database := pgx.Identifier{e.cluster(t, "a").SharedDatabase}.Sanitize()
	e.SuperExec(t, "postgres", "alter database "+database+" connection limit 0")
	request, _ := e.request(t, "acme", placement.ModelSchema)
	done := make(chan error, 1)
	go func() {
		_, err := e.Service.Add(t.Context(), request)
		done <- err
	}()
	for range 4 { // the operator, whom the limit does not bind, and the migrator, who is turned away
		<-w.accepted
	}
	e.SuperExec(t, "postgres", "alter database "+database+" connection limit -1")
	require.NoError(t, <-done)
	e.works(t, request.ID)
}
