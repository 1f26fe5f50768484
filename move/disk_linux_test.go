package move_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// A copy whose target's disk is full waits, and says for what. It can be aborted, which gives the room back as soon as there is some for
// the taking away, and it goes on by itself when there is more.
func TestCopyToAFullDiskWaitsForRoom(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	disk := pgtest.SmallDisk(t, server, 24)
	r := newRemoval(t, testhouse.Options{Apart: map[string]*pglocal.Server{"b": server}}, place{shared, "a"}, place{schema, "b"})
	b, err := r.Catalog.Cluster(t.Context(), "b")
	require.NoError(t, err)
	admin, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "create tablespace small location '"+disk.Dir+"'")
	require.NoError(t, err)
	name := pgx.Identifier{b.SharedDatabase}.Sanitize()
	_, err = admin.Exec(t.Context(), "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = $1", b.SharedDatabase)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "alter database "+name+" set tablespace small")
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	_, err = r.router.Tenant(r.tenant.Tenant).Exec(t.Context(), `
insert into customers (email, name) select 'long' || n || '@example.com', repeat(md5(n::text), 60) from generate_series(1, 12000) n`)
	require.NoError(t, err)
	others := r.others(t)

	full := func(m placement.Move) <-chan error {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		waits := make(chan struct{})
		told := false
		mover, err := move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
			if !told && s.Move.Phase == move.Copying && s.Waiting != "" {
				told = true
				t.Logf("it waits: %s", s.Waiting)
				close(waits)
			}
		}})
		require.NoError(t, err)
		ended := make(chan error, 1)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, err := mover.Drive(ctx, m.ID, move.Stay)
			ended <- err
		}()
		t.Cleanup(func() { stop(); <-gone })
		select {
		case <-waits:
		case err := <-ended:
			require.Fail(t, "it does not wait", "%v", err)
		}
		return ended
	}

	m := r.begin(t, place{schema, "b"})
	ended := full(m)
	r.ask(t, m, placement.AskAbort)
	disk.Resize(t, 32) // to drop a table, the server writes to its catalogs
	m = r.await(t, m, move.Aborted)
	require.NoError(t, <-ended)
	require.Equal(t, others, r.others(t))
	r.nothingLeft(t, m)

	disk.Resize(t, 24)
	w := r.write(t, 1)
	m = r.begin(t, place{schema, "b"})
	ended = full(m)
	disk.Resize(t, 200)
	r.await(t, m, move.Verified)
	r.ask(t, m, placement.AskCutover)
	r.await(t, m, move.Reversing)
	r.ask(t, m, placement.AskComplete)
	m = r.await(t, m, move.Done)
	require.NoError(t, <-ended)
	w.more(t, 3)
	w.done(t)
	require.Equal(t, others, r.others(t))
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	r.nothingLeft(t, m)
}
