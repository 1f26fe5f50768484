package placement_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestPlaceRecordsWhereTheTenantWillLive(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"))
	s, err := c.Settings(t.Context())
	require.NoError(t, err)
	id := newID(t)
	for i, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		r := placement.Request{Slug: tenant.Slug(fmt.Sprintf("t-%s", m)), Model: m, Tier: "", Region: ""}
		if i == 0 {
			r.ID = id
		}
		p := place(t, c, r)
		require.Equal(t, placement.NewHome(m, aCluster("a"), placement.HomeName(s.Installation, p.Tenant)), p.Home)
		require.Equal(t, placement.StateProvisioning, p.State)
		require.EqualValues(t, 1, p.Epoch)
		got, err := c.Tenant(t.Context(), p.Tenant)
		require.NoError(t, err)
		require.Equal(t, p, got.Placement())
		got, err = c.TenantBySlug(t.Context(), p.Slug)
		require.NoError(t, err)
		require.Equal(t, p, got.Placement())
	}
	got, err := c.Tenant(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, tenant.Slug("t-shared"), got.Slug)
}

func TestInterruptedPlaceResumesAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	addClusters(t, c, aCluster("a"), aCluster("b"))
	first := place(t, c, placement.Request{Slug: "acme", Model: placement.ModelSchema, Cluster: "b"})

	for _, same := range []placement.Request{
		{Slug: "acme", Model: placement.ModelSchema},
		{Slug: "acme", Model: placement.ModelSchema, Cluster: "b", ID: first.Tenant},
	} {
		p, existed, err := c.Place(t.Context(), same)
		require.NoError(t, err)
		require.True(t, existed)
		require.Equal(t, first, p)
	}
	for _, other := range []placement.Request{
		{Slug: "acme", Model: placement.ModelShared},
		{Slug: "acme", Model: placement.ModelSchema, ID: newID(t)},
		{Slug: "acme", Model: placement.ModelSchema, Cluster: "a"},
		{Slug: "other", Model: placement.ModelSchema, ID: first.Tenant},
	} {
		_, _, err := c.Place(t.Context(), other)
		require.ErrorIs(t, err, placement.ErrExists)
	}
	require.NoError(t, c.SetState(t.Context(), first.Tenant, placement.StateActive))
	_, _, err := c.Place(t.Context(), placement.Request{Slug: "acme", Model: placement.ModelSchema})
	require.ErrorIs(t, err, placement.ErrExists)
	require.ErrorContains(t, err, "is active as schema at b/app/")
}

func TestPlaceIsRefusedWithReasons(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	_, _, err := c.Place(t.Context(), placement.Request{Slug: "acme", Model: placement.ModelShared})
	require.ErrorIs(t, err, placement.ErrNoCapacity)

	small := aCluster("a")
	small.Capacity, small.State = 1, placement.ClusterFull
	addClusters(t, c, small)
	_, _, err = c.Place(t.Context(), placement.Request{Slug: "acme", Model: placement.ModelShared, Cluster: "zzz"})
	require.ErrorIs(t, err, placement.ErrUnknownCluster)
	_, _, err = c.Place(t.Context(), placement.Request{Slug: "acme", Model: placement.ModelShared, Cluster: "a"})
	require.ErrorContains(t, err, "a: full")
	// Force passes over the mark, never over the capacity.
	place(t, c, placement.Request{Slug: "acme", Cluster: "a", Force: true})
	_, _, err = c.Place(t.Context(), placement.Request{Slug: "second", Model: placement.ModelShared, Cluster: "a", Force: true})
	require.ErrorIs(t, err, placement.ErrNoCapacity)
	require.ErrorContains(t, err, "a: 1 of 1 tenants")
	// Nothing is left of those that were refused.
	all, err := c.Tenants(t.Context(), placement.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func TestIDsOfOtherTypesMustBeGiven(t *testing.T) {
	t.Parallel()
	c := emptyCatalog(t)
	_, err := c.Init(t.Context(), tenant.Text)
	require.NoError(t, err)
	addClusters(t, c, aCluster("a"))
	_, _, err = c.Place(t.Context(), placement.Request{Slug: "acme", Model: placement.ModelShared})
	require.ErrorIs(t, err, tenant.ErrBadID)
	hostile, err := tenant.Text.Parse(`a'; drop schema landlord cascade; -- "`)
	require.NoError(t, err)
	place(t, c, placement.Request{ID: hostile, Slug: "acme"})
	route, err := c.Route(t.Context(), hostile)
	require.NoError(t, err)
	require.Equal(t, tenant.Slug("acme"), route.Slug)
}

// This is the promise of the catalog: many at once, each with a pool of its own and with too few connections for all, and
// nobody is turned away or placed wrongly.

const (
	crowd     = 200
	processes = 25
)

// rooms has exactly one place for each: one too many anywhere is one too few elsewhere.
var rooms = map[string]int{"a": 100, "b": 67, "c": 33}

func TestCrowdOfProcessesIsPlacedWithoutOverfilling(t *testing.T) {
	t.Parallel()
	dsn, c := crowdedCatalog(t)
	var waits atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	for i := range processes {
		group.Go(func() error {
			cmd := osexec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), childDSN+"="+dsn,
				childFrom+"="+strconv.Itoa(i*crowd/processes), childCount+"="+strconv.Itoa(crowd/processes))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("child %d: %w: %s", i, err, bytes.TrimSpace(stderr.Bytes()))
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64)
			waits.Add(n)
			return err
		})
	}
	require.NoError(t, group.Wait())
	requireCrowdIsPlaced(t, c)
	require.Positive(t, waits.Load(), "nobody was short of a connection: the test does not test that")
}

// crowdedCatalog has three clusters, and a login that may have only a few connections.
func crowdedCatalog(t *testing.T) (dsn string, c *placement.Catalog) {
	t.Helper()
	super := catalogDSN(t)
	c = open(t, placement.Config{DSN: super})
	for name, capacity := range rooms {
		cl := aCluster(name)
		cl.Capacity = capacity
		addClusters(t, c, cl)
	}
	login, dsn := newLogin(t, super, "connection limit 12")
	letWrite(t, super, login)
	// A snapshot from before the lock is what a careless server setting would give.
	exec(t, connect(t, super), "alter role "+pgx.Identifier{login}.Sanitize()+" set default_transaction_isolation = 'repeatable read'")
	return dsn, c
}

func requireCrowdIsPlaced(t *testing.T, c *placement.Catalog) {
	t.Helper()
	all, err := c.Tenants(t.Context(), placement.Filter{})
	require.NoError(t, err)
	require.Len(t, all, crowd)
	usage, err := c.Usage(t.Context())
	require.NoError(t, err)
	for _, u := range usage {
		require.Equal(t, rooms[u.Name], u.Tenants)
	}
	entries, err := c.Log(t.Context(), placement.LogFilter{})
	require.NoError(t, err)
	placed := 0
	for i, e := range entries {
		require.EqualValues(t, i+1, e.Seq)
		if e.Kind == placement.KindPlaced {
			placed++
		}
	}
	require.Equal(t, crowd, placed)
}

func placeOne(ctx context.Context, dsn string, i int, logger *slog.Logger) error {
	c, err := placement.Open(ctx, placement.Config{DSN: dsn, Logger: logger, Retry: 2 * time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	slug := tenant.Slug(fmt.Sprintf("t-%d", i))
	p, existed, err := c.Place(ctx, placement.Request{Slug: slug, Model: placement.ModelSchema})
	if err == nil && (existed || p.Slug != slug || p.Epoch != 1) {
		err = fmt.Errorf("wrong placement %+v, existed %v", p, existed)
	}
	return err
}

// The test binary is also the program that the processes run.
const (
	childDSN   = "PLACEMENT_CHILD_DSN"
	childFrom  = "PLACEMENT_CHILD_FROM"
	childCount = "PLACEMENT_CHILD_COUNT"
)

func placeInChild() int {
	from, errFrom := strconv.Atoi(os.Getenv(childFrom))
	count, errCount := strconv.Atoi(os.Getenv(childCount))
	var waits countingHandler
	var group errgroup.Group
	for i := range count {
		group.Go(func() error { return placeOne(context.Background(), os.Getenv(childDSN), from+i, slog.New(&waits)) })
	}
	if err := errors.Join(errFrom, errCount, group.Wait()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(waits.n.Load())
	return 0
}

// countingHandler counts what is logged: the pauses of those who were turned away.
type countingHandler struct{ n atomic.Int64 }

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *countingHandler) WithGroup(string) slog.Handler            { return h }

func (h *countingHandler) Handle(context.Context, slog.Record) error {
	h.n.Add(1)
	return nil
}
