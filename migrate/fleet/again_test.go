package fleet_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

const addColumn = "alter table customers add column other text;"

// spoilt is a house in which a file fails at one home until heal is called.
func spoilt(t *testing.T) (h *testhouse.House, all []placement.Placement, file string, heal func()) {
	t.Helper()
	h, all = street(t, 2, "a")
	home := all[2]
	inHome(t, h, home.Home, "insert into customers (tenant_id, email, name) values ('"+home.Tenant.String()+"', 'bad', 'b')")
	file = "-- +goose Up\n-- +goose StatementBegin\ndo $$ begin if exists (select from customers where email = 'bad') then raise exception 'poison'; end if; end $$;\n" +
		"-- +goose StatementEnd\n" + addNote
	return h, all, file, func() { inHome(t, h, home.Home, "delete from customers") }
}

func TestARunUpInThePlaceOfARunDownLeavesDriftedHomesAlone(t *testing.T) {
	t.Parallel()
	h, all := street(t, 1, "a")
	set := noted(t)
	f := newFleet(t, h, set, wary)
	up(t, f)
	strange := all[2]
	inHome(t, h, strange.Home, "alter table orders add column x int")
	s, err := f.Down(t.Context(), 4, fleet.Options{First: []string{string(strange.Slug)}, StopAfter: 1, AllowDrift: true})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	s, err = f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Contains(t, s.Failures[0].Error, "extra column orders.x")
	require.Equal(t, []int64{1, 2, 3, 4}, versions(t, h, strange.Home))
}

func TestARetryStillStopsAfterTheWaveThatWasAskedFor(t *testing.T) {
	t.Parallel()
	h, all, file, heal := spoilt(t)
	f := newFleet(t, h, with(t, "00004_note.sql", file))
	o := firstWave(all[2])
	o.StopAfter = 1
	s, err := f.Up(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, placement.RunHalted, s.Run.State)
	heal()
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunPaused, s.Run.State)
	require.True(t, has(t, h, all[2].Home, "note"))
	require.False(t, has(t, h, all[3].Home, "note"))
}

func TestARetryTakesNoOtherFiles(t *testing.T) {
	t.Parallel()
	h, all, file, heal := spoilt(t)
	s, err := newFleet(t, h, with(t, "00004_note.sql", file)).Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	heal()
	_, err = newFleet(t, h, with(t, "00004_note.sql", file, "00005_other.sql", addColumn)).Retry(t.Context(), nil, fleet.Options{})
	require.ErrorIs(t, err, placement.ErrRunState)
	require.Equal(t, []int64{1, 2, 3}, versions(t, h, all[2].Home))
}

func TestARunIsNotAbandonedWhileAWaveSoaks(t *testing.T) {
	t.Parallel()
	h, all := street(t, 2, "a")
	f := newFleet(t, h, with(t, "00004_note.sql", addNote))
	other := newFleet(t, h, with(t, "00004_note.sql", addNote, "00005_other.sql", addColumn))
	o := firstWave(all[2])
	o.Soak = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = f.Up(ctx, o)
	}()
	soaking(t, f)
	_, err := other.Up(t.Context(), fleet.Options{})
	require.ErrorIs(t, err, placement.ErrRunState)
	cancel()
	<-ended
	// Its process is gone, which nobody knows: somebody says so.
	_, err = f.Pause(t.Context(), "it is gone")
	require.NoError(t, err)
	s, err := other.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State)
}

func TestNothingIsClaimedOfARunThatIsJustBeingAbandoned(t *testing.T) {
	t.Parallel()
	h, all := street(t, 0, "a")
	home := placement.RunTarget{Home: all[0].Home, Scope: "tenant", Wave: 1}
	run, begun, err := h.Catalog.BeginRun(t.Context(), placement.Run{Files: "x", State: placement.RunRunning, Waves: 1}, []placement.RunTarget{home})
	require.NoError(t, err)
	require.True(t, begun)
	tx, err := ledger(t, h).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `update landlord.runs set state = 'abandoned', ended_at = now()`)
	require.NoError(t, err)
	claimed := make(chan int, 1)
	go func() {
		targets, err := h.Catalog.ClaimTargets(context.WithoutCancel(t.Context()), placement.Claim{
			Run: run.ID, Cluster: home.Home.Cluster, Worker: "w", Limit: 10, Share: 1, TTL: time.Minute,
		})
		if err != nil {
			t.Error(err)
		}
		claimed <- len(targets)
	}()
	require.Eventually(t, func() bool {
		var waits bool
		const q = `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`
		require.NoError(t, tx.QueryRow(t.Context(), q).Scan(&waits))
		return waits
	}, time.Minute, 10*time.Millisecond, "a claim waits to know what becomes of the run")
	require.NoError(t, tx.Commit(t.Context()))
	require.Zero(t, <-claimed)
}

func TestARunOfFilesThatAreGoneKeepsNothingUp(t *testing.T) {
	t.Parallel()
	h, _ := street(t, 1, "a")
	f := newFleet(t, h, with(t))
	s, err := newFleet(t, h, with(t, "00004_broken.sql", "alter table nowhere add column note text;")).
		Up(t.Context(), fleet.Options{First: []string{"schema-a-000"}})
	require.NoError(t, err)
	require.Equal(t, placement.RunHalted, s.Run.State)
	s, err = f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.True(t, s.Whole())
	run, err := h.Catalog.LastRun(t.Context())
	require.NoError(t, err)
	require.Equal(t, placement.RunAbandoned, run.State)
}
