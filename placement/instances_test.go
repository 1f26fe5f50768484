package placement_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/placement"
)

func anInstance(name string, version int64) placement.Instance {
	return placement.Instance{ID: uuid.NewString(), Name: name, SchemaVersion: version}
}

func instances(t *testing.T, c *placement.Catalog) map[string]placement.Instance {
	t.Helper()
	all, err := c.Instances(t.Context())
	require.NoError(t, err)
	byName := make(map[string]placement.Instance)
	for _, in := range all {
		byName[in.Name] = in
	}
	require.Len(t, byName, len(all))
	return byName
}

func TestAnInstanceIsOnRecordFromItsFirstBeatUntilItLeaves(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	one, two := anInstance("one", 7), anInstance("two", 0)
	require.Empty(t, instances(t, c))
	require.NoError(t, c.Beat(t.Context(), one))
	first := instances(t, c)["one"]
	require.Equal(t, one.ID, first.ID)
	require.EqualValues(t, 7, first.SchemaVersion)
	require.WithinDuration(t, first.StartedAt, first.SeenAt, time.Second)
	require.NoError(t, c.Beat(t.Context(), two))

	one.Name, one.SchemaVersion = "renamed", 8
	require.NoError(t, c.Beat(t.Context(), one))
	again := instances(t, c)["one"]
	require.True(t, again.SeenAt.After(first.SeenAt))
	require.EqualValues(t, 7, again.SchemaVersion, "what it has read until now does not change")
	require.Equal(t, first.StartedAt, again.StartedAt)

	require.NoError(t, c.Leave(t.Context(), one.ID))
	require.NoError(t, c.Leave(t.Context(), one.ID))
	left := instances(t, c)
	require.Len(t, left, 1)
	require.Equal(t, two.ID, left["two"].ID)
}

func TestASilentInstanceStaysUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	in := anInstance("cut off", 7)
	require.NoError(t, c.Beat(t.Context(), in))
	require.Less(t, instances(t, c)["cut off"].Silence, time.Minute)
	exec(t, connect(t, dsn), "update landlord.instances set seen_at = now() - interval '1 hour'")
	require.InDelta(t, time.Hour, instances(t, c)["cut off"].Silence, float64(time.Minute))

	found, err := c.ForgetInstance(t.Context(), uuid.NewString())
	require.NoError(t, err)
	require.False(t, found)
	require.Len(t, instances(t, c), 1)
	found, err = c.ForgetInstance(t.Context(), in.ID)
	require.NoError(t, err)
	require.True(t, found)
	require.Empty(t, instances(t, c))
	require.NoError(t, c.Beat(t.Context(), in), "it is alive all the same")
	require.Len(t, instances(t, c), 1)
}

func TestAnInstanceThatTheFleetHasLeftBehindIsRefused(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn})
	old, current, silent := anInstance("old", 11), anInstance("current", 12), anInstance("silent", 0)
	require.NoError(t, c.Beat(t.Context(), old))
	exec(t, connect(t, dsn), "update landlord.gate set contracted = 12, needs = 12")

	for _, in := range []placement.Instance{old, anInstance("another", 11)} {
		err := c.Beat(t.Context(), in)
		require.ErrorIs(t, err, placement.ErrOutdated)
		require.True(t, pgerr.Is(err, pgerr.Outdated))
		require.ErrorContains(t, err, "version 11 of its tables")
		require.ErrorContains(t, err, "version 12 at least")
	}
	require.NoError(t, c.Beat(t.Context(), current))
	require.NoError(t, c.Beat(t.Context(), silent), "nobody knows what it reads")
	require.NotContains(t, instances(t, c), "another")
}

// A beat must not slip in while the gate is being opened: whoever opens it has looked at who is alive.
func TestABeatWaitsForTheGateAndSeesHowItWasLeft(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	c := open(t, placement.Config{DSN: dsn, Timeout: 10 * time.Second})
	gate := connect(t, dsn)
	exec(t, gate, "begin; update landlord.gate set needs = 12")
	beaten := make(chan error, 1)
	go func() { beaten <- c.Beat(t.Context(), anInstance("old", 11)) }()
	watcher := connect(t, dsn)
	require.Eventually(t, func() (waits bool) {
		const q = `select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
		require.NoError(t, watcher.QueryRow(t.Context(), q).Scan(&waits))
		return waits
	}, 10*time.Second, time.Millisecond)
	exec(t, gate, "commit")
	require.ErrorIs(t, <-beaten, placement.ErrOutdated)
	require.Empty(t, instances(t, c))
}

func TestABeatSaysWhyItGotNoAnswer(t *testing.T) {
	t.Parallel()
	in := anInstance("one", 1)
	require.ErrorIs(t, open(t, placement.Config{DSN: "host=127.0.0.1 port=1"}).Beat(t.Context(), in), placement.ErrUnavailable)
	require.ErrorIs(t, emptyCatalog(t).Beat(t.Context(), in), placement.ErrNoCatalog)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newCatalog(t).Beat(ctx, in)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, placement.ErrUnavailable)
}

// A service's login only reads the catalog.
func TestReaderOfTheCatalogSaysThatItIsAliveAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	dsn := catalogDSN(t)
	owner := open(t, placement.Config{DSN: dsn})
	other := anInstance("other", 1)
	require.NoError(t, owner.Beat(t.Context(), other))
	login, as := newLogin(t, dsn, "")
	quoted := pgx.Identifier{login}.Sanitize()
	exec(t, connect(t, dsn), "grant usage on schema landlord to "+quoted)
	exec(t, connect(t, dsn), "grant select on all tables in schema landlord to "+quoted)

	reader := open(t, placement.Config{DSN: as})
	in := anInstance("reader", 1)
	require.NoError(t, reader.Beat(t.Context(), in))
	require.Len(t, instances(t, reader), 2)
	require.NoError(t, reader.Leave(t.Context(), in.ID))
	_, err := reader.ForgetInstance(t.Context(), other.ID)
	require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%v", err)
	direct := connect(t, as)
	for _, sql := range []string{
		"insert into landlord.instances (id, name, schema_version) values (gen_random_uuid(), 'x', 1)",
		"update landlord.instances set schema_version = 99",
		"delete from landlord.instances",
		"update landlord.gate set needs = 99",
		"delete from landlord.gate",
		"select from landlord.gate for update",
	} {
		_, err := direct.Exec(t.Context(), sql)
		require.True(t, pgerr.Is(err, pgerr.InsufficientPrivilege), "%s: %v", sql, err)
	}
	require.Len(t, instances(t, owner), 1)
}
