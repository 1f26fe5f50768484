package fleet_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// asMigrator connects to a home's database as a worker does.
func asMigrator(t *testing.T, h *testhouse.House, home placement.Home) *pgx.Conn {
	t.Helper()
	clusters, err := h.Catalog.Clusters(t.Context())
	require.NoError(t, err)
	cfg, err := clusters[0].LoginConfig(isolation.MigratorRole, home.Database)
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// stalled is a run of which a worker holds all targets, for a moment only.
func stalled(t *testing.T, h *testhouse.House, all []placement.Placement) (placement.Run, []placement.RunTarget) {
	t.Helper()
	var targets []placement.RunTarget
	for _, p := range all {
		target := placement.RunTarget{Home: p.Home, Scope: "tenant", Wave: 1}
		if p.Model != placement.ModelShared {
			target.Tenant = p.Tenant.String()
		}
		targets = append(targets, target)
	}
	run, _, err := h.Catalog.BeginRun(t.Context(), placement.Run{Files: "others", State: placement.RunRunning, Waves: 1}, targets)
	require.NoError(t, err)
	var held []placement.RunTarget
	for len(held) < len(all) {
		page, err := h.Catalog.ClaimTargets(t.Context(), placement.Claim{
			Run: run.ID, Cluster: all[0].Home.Cluster, Worker: "stalled " + strconv.Itoa(len(held)), Limit: 50, Share: 1, TTL: time.Second,
		})
		require.NoError(t, err)
		require.NotEmpty(t, page, "of each database some")
		held = append(held, page...)
	}
	return run, held
}

func TestAStalledWorkerOfAnOlderRunIsRefusedByEveryHome(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := noted(t)
	note := set.Scoped(migrate.ScopeTenant)[3]
	run, held := stalled(t, h, all)

	// Meanwhile others bring the homes up, and down again: without the note they are as when the worker looked at them.
	f := newFleet(t, h, set)
	var s fleet.Status
	require.Eventually(t, func() bool {
		var err error
		s, err = f.Up(t.Context(), fleet.Options{})
		return err == nil
	}, time.Minute, 100*time.Millisecond, "as soon as the leases have lapsed")
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Greater(t, s.Run.Number, run.Number)
	s, err := f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)

	for _, target := range held {
		conn := asMigrator(t, h, target.Home)
		to, by := migrate.Target{Scope: migrate.ScopeTenant, Schema: target.Home.Schema, Tenant: target.Tenant}, migrate.Attempt{Run: run.ID, Lease: target.Fence}
		_, err := note.Apply(t.Context(), conn, to, by, migrate.Limits{})
		require.ErrorIs(t, err, migrate.ErrOvertaken)
		_, err = note.Undo(t.Context(), conn, to, by, migrate.Limits{})
		require.ErrorIs(t, err, migrate.ErrOvertaken)
		require.Equal(t, []int64{1, 2, 3}, versions(t, h, target.Home))
	}
}

func TestAStalledWorkerIsRefusedAlsoWhereALaterRunHasNothingToDo(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	set := noted(t)
	note := set.Scoped(migrate.ScopeTenant)[3]
	f := newFleet(t, h, set)
	up(t, f)

	// One home is as it was when the worker looked at it.
	one := all[2]
	require.Equal(t, placement.ModelSchema, one.Model)
	conn := asMigrator(t, h, one.Home)
	to := migrate.Target{Scope: migrate.ScopeTenant, Schema: one.Home.Schema, Tenant: one.Tenant.String()}
	earlier := migrate.Attempt{Run: uuid.NewString(), Lease: 1<<32 | 900}
	for _, m := range slices.Backward(set.Scoped(migrate.ScopeTenant)[3:]) {
		_, err := m.Undo(t.Context(), conn, to, earlier, migrate.Limits{})
		require.NoError(t, err)
	}
	run, held := stalled(t, h, []placement.Placement{one})

	var s fleet.Status
	require.Eventually(t, func() bool {
		var err error
		s, err = f.Down(t.Context(), 3, fleet.Options{})
		return err == nil
	}, time.Minute, 100*time.Millisecond, "as soon as the lease has lapsed")
	require.Equal(t, placement.RunDone, s.Run.State)
	require.Equal(t, len(all), s.Counts[placement.TargetVerified], "it is one of the run's targets")
	_, err := note.Apply(t.Context(), conn, to, migrate.Attempt{Run: run.ID, Lease: held[0].Fence}, migrate.Limits{})
	require.ErrorIs(t, err, migrate.ErrOvertaken)
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, one.Home))
}

// olderCatalog forgets all runs, as a catalog does that is restored from a backup.
func olderCatalog(t *testing.T, h *testhouse.House) {
	t.Helper()
	catalogSQL(t, h, "delete from landlord.runs")
	catalogSQL(t, h, "alter sequence landlord.runs_number_seq restart with 1")
}

func TestHomesThatHaveMetLaterRunsThanTheCatalogKnowsSayWhatToDo(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	f := newFleet(t, h, noted(t))
	up(t, f)
	_, err := f.Down(t.Context(), 3, fleet.Options{})
	require.NoError(t, err)
	up(t, f)
	olderCatalog(t, h)

	const more = "alter table customers add column more text;"
	next := newFleet(t, h, with(t, "00004_note.sql", addAndDrop, "00005_other.sql", addOther, "00006_more.sql", more))
	s, err := next.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.EqualValues(t, 1, s.Run.Number)
	require.Len(t, s.Failures, 1)
	require.Equal(t, len(all), s.Failures[0].Count)
	require.Contains(t, s.Failures[0].Error, "landlord migrate reconcile")
	_, s, err = next.Reconcile(t.Context())
	require.NoError(t, err)
	require.Greater(t, s.Run.Number, int64(3))
	s, err = next.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)

	// Or reconcile comes first.
	olderCatalog(t, h)
	last := newFleet(t, h, with(t, "00004_note.sql", addAndDrop, "00005_other.sql", addOther, "00006_more.sql", more,
		"00007_most.sql", "alter table customers add column most text;"))
	n, s, err := last.Reconcile(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(all), n)
	require.Greater(t, s.Run.Number, int64(4))
	s, err = last.Resume(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
	for _, p := range all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, versions(t, h, p.Home))
	}
}

func TestAWorkerGivesBackWhatItHoldsWhenItsLeaseHasLapsed(t *testing.T) {
	t.Parallel()
	const lease = 300 * time.Millisecond
	h, all := street(t, 4, "a")
	ledgerTx, err := ledger(t, h).Begin(t.Context())
	require.NoError(t, err)
	var calls atomic.Int32
	set := withGo(t, migrate.GoMigration{Version: 4, Name: "00004_slow.go", Up: func(ctx context.Context, tx *sql.Tx) error {
		if calls.Add(1) > 1 {
			return nil
		}
		// It stands still, and nobody hears of it meanwhile.
		_, err := ledgerTx.Exec(ctx, `lock table landlord.run_targets in share mode`)
		time.Sleep(4 * lease)
		return errors.Join(err, ledgerTx.Rollback(ctx))
	}})
	f := newFleet(t, h, set, func(c *fleet.Config) { c.Workers, c.Lease = 1, lease })
	s := up(t, f)
	targets, err := h.Catalog.RunTargets(t.Context(), s.Run.ID)
	require.NoError(t, err)
	again := 0
	for _, target := range targets {
		if target.Lease > 1 {
			again++
		}
	}
	require.GreaterOrEqual(t, again, 4, "the schemas behind the first one were claimed anew, in whatever order")
	require.EqualValues(t, len(all), calls.Load(), "and done once")
}
