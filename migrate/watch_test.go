package migrate_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate"
)

func TestAWatchedStepIsAppliedAsAnyOther(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	set := load(t, files("1_a.sql", createA+" insert into a values ('"+tenantID+"', 1);\n-- what follows\n"+createB))
	m := set.Migrations()[0]
	var saw []string
	watch := func(next int, text string) error {
		saw = append(saw, fmt.Sprintf("%d %.14s %d", next, text, len(tables(t, conn, "public"))))
		return nil
	}
	require.NoError(t, m.Watch(t.Context(), conn, public, first, limits, watch))
	require.Equal(t, []string{"0 create table a 0", "1 insert into a  1", "2 create table b 1", "3  2"}, saw)
	require.Equal(t, []int64{1}, recorded(t, conn, "public"))
	require.Equal(t, []string{"true"}, texts(t, conn, `select relrowsecurity::text from pg_class where oid = 'public.a'::regclass`), "secured")
	require.True(t, pgerr.Is(m.Watch(t.Context(), conn, public, first, limits, watch), pgerr.Applied))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus())
}

func TestAWatchedStepThatFailsLeavesTheHomeAsItWas(t *testing.T) {
	t.Parallel()
	conn := newHome(t)
	m := load(t, files("1_a.sql", createA+"\nselect 1/0;\n"+createB)).Migrations()[0]
	err := m.Watch(t.Context(), conn, public, first, limits, func(int, string) error { return nil })
	var at *migrate.StatementError
	require.ErrorAs(t, err, &at)
	require.Equal(t, "select 1/0", at.Excerpt)
	require.True(t, pgerr.Is(err, "22012"))

	enough := errors.New("enough")
	err = m.Watch(t.Context(), conn, public, first, limits, func(next int, _ string) error {
		if next == 1 {
			return enough
		}
		return nil
	})
	require.ErrorIs(t, err, enough)
	require.ErrorContains(t, err, "1_a.sql")
	require.Empty(t, tables(t, conn, "public"))
	require.Empty(t, recorded(t, conn, "public"))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus())

	err = m.Watch(t.Context(), conn, migrate.Target{Scope: migrate.ScopeDatabase}, first, limits, nil)
	require.ErrorContains(t, err, "its scope is tenant")
	alone := load(t, files("1_a.sql", "-- +goose NO TRANSACTION\nselect 1;")).Migrations()[0]
	require.ErrorContains(t, alone.Watch(t.Context(), conn, public, first, limits, nil), "NO TRANSACTION")
}
