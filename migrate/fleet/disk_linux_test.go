package fleet_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

func TestAFullDiskFailsTheHomesOnItAndNoOther(t *testing.T) {
	t.Parallel()
	server := pgtest.OwnServer(t)
	disk := pgtest.SmallDisk(t, server, 24)
	h, all := ownStreet(t, server)
	cramped := all[1].Home
	h.SuperExec(t, "postgres", "create tablespace small location '"+disk.Dir+"'")
	h.SuperExec(t, "postgres", "alter database "+pgx.Identifier{cramped.Database}.Sanitize()+" set tablespace small")

	set := with(t, "00004_attic.sql", addNote+"create table attic (tenant_id uuid, id int, stuff text, primary key (tenant_id, id));\n"+
		"insert into attic select gen_random_uuid(), n, repeat(md5(n::text), 60) from generate_series(1, 12000) n;")
	f := newFleet(t, h, set)
	s, err := f.Up(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunFailed, s.Run.State)
	require.Len(t, s.Failures, 1)
	require.Equal(t, pgerr.DiskFull, s.Failures[0].SQLState, s.Failures[0].Error)
	require.Equal(t, []placement.Home{cramped}, s.Failures[0].Homes)
	require.False(t, has(t, h, cramped, "note"), "nothing of it is left")
	require.Equal(t, 2, s.Counts[placement.TargetVerified])

	// With more room it goes on.
	disk.Resize(t, 200)
	s, err = f.Retry(t.Context(), nil, fleet.Options{})
	require.NoError(t, err)
	require.Equal(t, placement.RunDone, s.Run.State, "%+v", s.Failures)
}
