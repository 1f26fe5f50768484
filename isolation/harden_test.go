package isolation_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
)

// one call of each measure. It need not succeed: what counts is whether the server lets the caller call it.
var measureCalls = map[string]string{
	"activity":      `select count(*) from pg_stat_activity`,
	"statements":    `select count(*) from pg_prepared_statements`,
	"xml":           `select query_to_xml('select 1', true, true, '')`,
	"snapshots":     `select pg_export_snapshot()`,
	"stream":        `select pg_logical_emit_message(false, 'test', 'x')`,
	"notify":        `select pg_notify('test', 'x')`,
	"locks":         `select pg_advisory_xact_lock(1)`,
	"sessions":      `select pg_cancel_backend(0)`,
	"large objects": `select lo_create(0)`,
}

func TestHardeningTakesFromTheApplicationAndGivesBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newDatabase(t, mode)
			_, err := isolation.Install(t.Context(), h.super(t), h.want, h.ring)
			require.NoError(t, err)
			may := func() (names []string) {
				app := h.app(t)
				for _, m := range isolation.Measures {
					require.Contains(t, measureCalls, m.Name)
					tx, err := app.Begin(t.Context())
					require.NoError(t, err)
					if _, err = tx.Exec(t.Context(), measureCalls[m.Name]); !pgerr.Is(err, pgerr.InsufficientPrivilege) {
						names = append(names, m.Name)
					}
					require.NoError(t, tx.Rollback(t.Context()))
				}
				require.NoError(t, app.Close(t.Context()))
				return names
			}
			run := func(undo, look bool, want isolation.HardenState) (changed []string) {
				t.Helper()
				all, err := isolation.Harden(t.Context(), h.super(t), undo, look)
				require.NoError(t, err)
				require.Len(t, all, len(isolation.Measures))
				for _, m := range all {
					if m.State != isolation.HardenAlready {
						require.Equal(t, want, m.State)
						changed = append(changed, m.Measure.Name)
					}
				}
				return changed
			}
			before := may()
			require.NotEmpty(t, before)
			require.Equal(t, before, run(false, true, isolation.HardenWould))
			require.Equal(t, before, may(), "looking changes nothing")
			require.Equal(t, before, run(false, false, isolation.HardenDone))
			require.Empty(t, may())
			require.Empty(t, run(false, false, isolation.HardenDone), "again")
			hardened, err := isolation.Hardened(t.Context(), h.super(t))
			require.NoError(t, err)
			require.True(t, hardened)

			require.Equal(t, before, run(true, false, isolation.HardenDone))
			require.Equal(t, before, may(), "what the mode has taken it keeps")
			require.Empty(t, run(true, false, isolation.HardenDone), "again")
			hardened, err = isolation.Hardened(t.Context(), h.super(t))
			require.NoError(t, err)
			require.False(t, hardened)
		})
	}
}

func TestWhatAPlatformRefusesIsReportedAndTheRestHolds(t *testing.T) {
	t.Parallel()
	// An operator that is no superuser owns none of PostgreSQL's functions but one. It goes after the database.
	operator := "operator_" + suffix()
	ensureRoles(t, pgtest.Server(t).DSN)
	superExec(t, pgtest.Server(t).DSN, "create role "+operator+" login password 'x' in role landlord_owner")
	t.Cleanup(func() { superExec(t, pgtest.Server(t).DSN, "drop role "+operator) })
	h := newDatabase(t, isolation.Plain)
	_, err := isolation.Install(t.Context(), h.super(t), h.want, h.ring)
	require.NoError(t, err)
	exec(t, h.super(t), "alter function pg_notify(text, text) owner to "+operator)
	exec(t, h.super(t), "grant connect on database "+ident(h.database)+" to "+operator)
	conn := h.dial(t, func(cfg *pgx.ConnConfig) { cfg.User, cfg.Password = operator, "x" })
	all, err := isolation.Harden(t.Context(), conn, false, false)
	require.NoError(t, err)
	for _, m := range all {
		if m.Measure.Name == "notify" {
			require.Equal(t, isolation.HardenDone, m.State)
			continue
		}
		require.Equal(t, isolation.HardenRefused, m.State, m.Measure.Name)
		require.Error(t, m.Err)
	}
}
