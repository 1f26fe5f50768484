package move_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// backup is what a catalog has of one tenant and of one move.
type backup struct{ moves, cleanups, tenants, placements string }

func (r *removal) catalogSQL(t *testing.T, fn func(*pgx.Conn)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	fn(conn)
}

func (r *removal) backup(t *testing.T) (b backup) {
	t.Helper()
	r.catalogSQL(t, func(conn *pgx.Conn) {
		const q = `
select (select coalesce(json_agg(m), '[]') from landlord.moves m where tenant = $1)::text,
       (select coalesce(json_agg(c), '[]') from landlord.move_cleanups c join landlord.moves m on m.id = c.move where tenant = $1)::text,
       (select json_agg(t) from landlord.tenants t where id = $1)::text, (select json_agg(p) from landlord.placements p where tenant = $1)::text`
		require.NoError(t, conn.QueryRow(t.Context(), q, r.tenant.Tenant.String()).Scan(&b.moves, &b.cleanups, &b.tenants, &b.placements))
	})
	return b
}

// restore puts a backup's rows back. Whoever drove the move then has died with the old catalog.
func (r *removal) restore(t *testing.T, b backup) {
	t.Helper()
	r.catalogSQL(t, func(conn *pgx.Conn) {
		id := r.tenant.Tenant.String()
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{`delete from landlord.move_cleanups where move in (select id from landlord.moves where tenant = $1)`, []any{id}},
			{`delete from landlord.moves where tenant = $1`, []any{id}},
			{`insert into landlord.moves select * from json_populate_recordset(null::landlord.moves, $1::json)`, []any{b.moves}},
			{`update landlord.moves set owned_until = '-infinity' where tenant = $1`, []any{id}},
			{`insert into landlord.move_cleanups select * from json_populate_recordset(null::landlord.move_cleanups, $1::json)`, []any{b.cleanups}},
			{`update landlord.tenants t set state = o.state from json_populate_recordset(null::landlord.tenants, $1::json) o where t.id = o.id`, []any{b.tenants}},
			{`update landlord.placements p set model = o.model, cluster = o.cluster, database = o.database, schema = o.schema, epoch = o.epoch
from json_populate_recordset(null::landlord.placements, $1::json) o where p.tenant = o.tenant`, []any{b.placements}},
		} {
			_, err := conn.Exec(t.Context(), step.sql, step.args...)
			require.NoError(t, err)
		}
	})
}

// driveSaving drives a move, and keeps a backup of each phase as it begins.
func (r *removal) driveSaving(t *testing.T, saved map[move.Phase]backup, m placement.Move, goal move.Goal) placement.Move {
	t.Helper()
	var mu sync.Mutex
	mover := r.mover
	defer func() { r.mover = mover }()
	var err error
	r.mover, err = move.New(move.Config{Catalog: r.Catalog, Homes: r.Service, Progress: func(s move.Status) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := saved[s.Move.Phase]; !ok && !s.Move.Over() {
			saved[s.Move.Phase] = r.backup(t)
		}
	}})
	require.NoError(t, err)
	return r.drive(t, m, goal)
}

// loading is a load at work; its end tells what came of it.
func (r *removal) loading(t *testing.T) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	type outcome struct {
		load.Result
		err error
	}
	ended := make(chan outcome, 1)
	db := r.Router(t).Tenant(r.tenant.Tenant)
	go func() {
		result, err := load.New(load.Config{DB: db, Writers: 2, Think: 5 * time.Millisecond, Patience: waitFor}).Run(ctx)
		ended <- outcome{result, err}
	}()
	t.Cleanup(stop)
	return func() {
		t.Helper()
		stop()
		o := <-ended
		require.NoError(t, o.err)
		require.Positive(t, o.Acked)
		require.Zero(t, o.Lost+o.Doubled+o.Errors, o.Findings)
	}
}

// A catalog that was restored from a backup knows a move as it was then. What became of it since stands beside the data, and from
// wherever the record has it, it is brought to its end.
func TestAMoveIsEndedWhoseCatalogWasRestored(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		saved move.Phase  // what the backup says
		truth []move.Goal // what has been done since
		then  move.Goal   // what is wanted when it is restored
		lives string      // where the tenant is in the end: "source" or "target"
		never []move.Goal // what cannot be, and must do no harm
		epoch int64       // above the move's

		unseen bool // the homes cannot be compared any more, which keeps the first one who would complete the move from it
	}{
		{move.Planned, []move.Goal{move.Ready}, move.ToAborted, "source", nil, 0, false},
		{move.Copying, []move.Goal{move.Ready, move.ToAborted}, move.ToAborted, "source", nil, 0, false},
		{move.Copying, []move.Goal{move.Ready, move.ToAborted}, move.ToDone, "target", nil, 1, false},
		{move.Planned, []move.Goal{move.ToReversing}, move.ToDone, "target", []move.Goal{move.ToAborted}, 1, true},
		{move.Copying, []move.Goal{move.ToReversing}, move.ToDone, "target", []move.Goal{move.ToAborted}, 1, true},
		{move.Verified, []move.Goal{move.ToReversing}, move.ToReverted, "source", []move.Goal{move.ToAborted}, 2, false},
		{move.Fencing, []move.Goal{move.ToReversing}, move.ToReverted, "source", []move.Goal{move.ToAborted}, 2, false},
		{move.Copying, []move.Goal{move.ToDone}, move.ToDone, "target", []move.Goal{move.ToAborted}, 1, true},
		{move.Fencing, []move.Goal{move.ToDone}, move.ToDone, "target", []move.Goal{move.ToAborted}, 1, true},
		{move.Committed, []move.Goal{move.ToDone}, move.ToDone, "target", []move.Goal{move.ToAborted}, 1, true},
		{move.Reversing, []move.Goal{move.ToDone}, move.ToDone, "target", []move.Goal{move.ToReverted}, 1, false},
		{move.Committed, []move.Goal{move.ToReversing, move.ToReverted}, move.ToReverted, "source", nil, 2, false},
		{move.Reversing, []move.Goal{move.ToReversing, move.ToReverted}, move.ToReverted, "source", nil, 2, false},
		{move.RollingBack, []move.Goal{move.ToReversing, move.ToReverted}, move.ToReverted, "source", nil, 2, false},
	} {
		way := ways[i%len(ways)]
		name := string(c.saved) + " since"
		for _, goal := range c.truth {
			name += " " + string(goal)
		}
		t.Run(name+" then "+string(c.then), func(t *testing.T) {
			t.Parallel()
			r := newRemoval(t, testhouse.Options{}, way.from, way.to)
			end := r.loading(t)
			m := r.begin(t, way.to)
			saved := map[move.Phase]backup{move.Planned: r.backup(t)}
			for _, goal := range c.truth {
				m = r.driveSaving(t, saved, m, goal)
			}
			r.restore(t, saved[c.saved])
			m, err := r.Catalog.Move(t.Context(), m.ID)
			require.NoError(t, err)
			require.Equal(t, c.saved, m.Phase)

			for _, goal := range c.never {
				_, err := r.mover.Drive(t.Context(), m.ID, goal)
				require.ErrorIs(t, err, placement.ErrMovePhase, "%s", goal)
			}
			if c.unseen {
				_, err := r.mover.Drive(t.Context(), m.ID, c.then)
				require.ErrorContains(t, err, "were not compared")
			}
			m = r.drive(t, m, c.then)
			end()
			home := m.Source.Home
			if c.lives == "target" {
				home = m.Target.Home
			}
			r.livesAt(t, home, m.Epoch+c.epoch)
			r.nothingLeft(t, m)
		})
	}
}

// The backup may be so old that the tenant has been moved on since. Such a move is ended without a home being touched.
func TestAMoveIsEndedBehindWhichItsTenantHasGoneOn(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{schema, "a"}, place{database, "b"})
	end := r.loading(t)
	m := r.begin(t, place{database, "b"})
	saved := map[move.Phase]backup{}
	m = r.driveSaving(t, saved, m, move.ToDone)
	last := r.drive(t, r.begin(t, place{shared, "b"}), move.ToDone)
	r.restore(t, saved[move.Verified])
	for _, goal := range []move.Goal{move.Stay, move.ToAborted} {
		_, err := r.mover.Drive(t.Context(), m.ID, goal)
		require.ErrorContains(t, err, "landlord doctor --rebuild-catalog")
	}

	r.rebuild(t)
	_, err := r.mover.Drive(t.Context(), m.ID, move.Stay)
	require.ErrorContains(t, err, "landlord move abort acme")
	m = r.drive(t, m, move.ToAborted)
	end()
	r.livesAt(t, last.Target.Home, last.Epoch+1)
	r.nothingLeft(t, m)
	require.Equal(t, isolation.Open, r.fence(t, last.At(true)).State)
}

// Where the backup is of before the move, nothing is on record that could be gone on with. What has to be done is said, and where the
// tenant was just being passed on, it is not what would lose it.
func TestATenantIsNotLostWithTheRecordOfItsMove(t *testing.T) {
	t.Parallel()
	r := newRemoval(t, testhouse.Options{}, place{shared, "a"}, place{schema, "b"})
	saved := r.backup(t)
	m := r.drive(t, r.begin(t, place{schema, "b"}), move.ToReversing)
	// As it is between the commit point and the opening.
	r.SuperExec(t, m.Target.Home.Database, "update landlord.fence set state = 'importing', owner = gen_random_uuid() where tenant = '"+m.Tenant.String()+"'")
	r.restore(t, saved)

	left, err := move.Residue(t.Context(), r.Catalog)
	require.NoError(t, err)
	found := slices.IndexFunc(left, func(l move.Leftover) bool { return strings.Contains(l.Object, "so that nobody can enter anywhere") })
	require.GreaterOrEqual(t, found, 0, "%v", left)
	require.Contains(t, left[found].Fix, "landlord doctor --rebuild-catalog")
	for _, l := range left {
		require.NotContains(t, l.Fix, "delete from landlord.fence", "it is all that knows of the tenant")
	}
	r.SuperExec(t, left[found].Database, left[found].Fix)
	r.rebuild(t)
	r.livesAt(t, m.Target.Home, m.Epoch+1)
	var customers int
	require.NoError(t, r.router.Tenant(m.Tenant).QueryRow(t.Context(), "select count(*) from customers where email like 'seed%'").Scan(&customers))
	require.Equal(t, 500, customers)
}

// rebuild is doctor --rebuild-catalog.
func (r *removal) rebuild(t *testing.T) {
	t.Helper()
	census, err := r.Service.Census(t.Context())
	require.NoError(t, err)
	_, err = r.Catalog.Rebuild(t.Context(), census.Fences, false)
	require.NoError(t, err)
}
