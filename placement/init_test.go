package placement_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func emptyCatalog(t testing.TB) *placement.Catalog {
	t.Helper()
	return emptyCatalogWith(t, nil)
}

func emptyCatalogWith(t testing.TB, logger *slog.Logger) *placement.Catalog {
	t.Helper()
	return open(t, placement.Config{DSN: pgtest.NewDatabase(t), Logger: logger})
}

func TestInitSaysWhatItDidAndDoesItOnce(t *testing.T) {
	t.Parallel()
	c := emptyCatalog(t)
	steps, err := c.Init(t.Context(), tenant.BigInt)
	require.NoError(t, err)
	s, err := c.Settings(t.Context())
	require.NoError(t, err)
	require.Equal(t, tenant.BigInt, s.IDType)
	have, want, err := c.Version(t.Context())
	require.NoError(t, err)
	require.Len(t, steps, int(want)+1, "each file, and the installation")
	require.Contains(t, steps[want], s.Installation)
	require.Positive(t, have)
	require.Equal(t, want, have)

	steps, err = c.Init(t.Context(), tenant.BigInt)
	require.NoError(t, err)
	require.Empty(t, steps)
}

func TestManyInitsAtOnceMakeOneCatalog(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	var mu sync.Mutex
	var all []string
	installations := map[string]bool{}
	group, ctx := errgroup.WithContext(t.Context())
	for range 8 {
		group.Go(func() error {
			c, err := placement.Open(ctx, placement.Config{DSN: dsn, MaxConns: 1})
			if err != nil {
				return err
			}
			defer c.Close()
			steps, err := c.Init(ctx, tenant.UUID)
			if err != nil {
				return err
			}
			s, err := c.Settings(ctx)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, steps...)
			installations[s.Installation] = true
			return err
		})
	}
	require.NoError(t, group.Wait())
	_, want, err := open(t, placement.Config{DSN: dsn}).Version(t.Context())
	require.NoError(t, err)
	require.Len(t, all, int(want)+1)
	require.Len(t, installations, 1)
}

func TestIDTypeIsChosenOnce(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	_, err := c.Init(t.Context(), tenant.Text)
	require.ErrorContains(t, err, "are uuid, not text")
	_, err = c.Init(t.Context(), "oid")
	require.ErrorContains(t, err, "use uuid, bigint or text")
}

func TestCatalogKeepsOutOfDatabasesWithTenants(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewDatabase(t)
	conn := connect(t, dsn)
	exec(t, conn, `create schema landlord`)
	exec(t, conn, `create table landlord.identity ()`)
	c := open(t, placement.Config{DSN: dsn, MaxConns: 1})
	for range 2 { // the second would wait for ever if the first had kept the lock
		_, err := c.Init(t.Context(), tenant.UUID)
		require.ErrorContains(t, err, "give the catalog a database of its own")
	}
	_, err := connect(t, dsn).Exec(t.Context(), `select pg_advisory_lock(hashtextextended('landlord init', 0))`)
	require.NoError(t, err)
}

func TestMissingCatalogIsNamed(t *testing.T) {
	t.Parallel()
	c := emptyCatalog(t)
	_, err := c.Tenants(t.Context(), placement.Filter{})
	require.ErrorIs(t, err, placement.ErrNoCatalog)
	require.ErrorContains(t, err, "run landlord init")
	_, err = c.Route(t.Context(), newID(t))
	require.ErrorIs(t, err, placement.ErrNoCatalog)
	_, _, err = c.Version(t.Context())
	require.ErrorIs(t, err, placement.ErrNoCatalog)
}

func TestConfigProblemsAreReportedTogetherAndWithoutThePassword(t *testing.T) {
	t.Parallel()
	_, err := placement.Open(t.Context(), placement.Config{DSN: "postgres://u:hunter2@h:notaport/d", MaxConns: -1, Timeout: -1})
	require.ErrorContains(t, err, "DSN")
	require.ErrorContains(t, err, "MaxConns")
	require.ErrorContains(t, err, "Timeout")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = placement.Open(t.Context(), placement.Config{})
	require.ErrorContains(t, err, "DSN is missing")
	_, err = placement.Open(t.Context(), placement.Config{DSN: "postgres://u:hunter2@h/d?pool_max_conns=x"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}
