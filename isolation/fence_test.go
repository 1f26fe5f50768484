package isolation_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

var states = []isolation.FenceState{isolation.Importing, isolation.Open, isolation.Fenced, isolation.Moved, isolation.Suspended}

// attempt is whose the fences are that force writes.
const attempt = "7f8b2f2a-8f0b-4bfb-bb0e-2c1f7a1d0001"

// force writes a fence state that no call leads to. A fence is live for a minute.
func (p *place) force(t *testing.T, state isolation.FenceState) {
	t.Helper()
	p.forceUntil(t, state, "1 minute")
}

// forceUntil is force; until is how long a fence is live from now on.
func (p *place) forceUntil(t *testing.T, state isolation.FenceState, until string) {
	t.Helper()
	_, err := p.super(t).Exec(t.Context(), `
update landlord.fence set state = $3, epoch = 1, owner = $4,
       fenced_until = case when $3 = 'fenced' then clock_timestamp() + $5::interval end,
       moved_to = case when $3 = 'moved' then '{"home": "b/x/public", "model": "shared", "epoch": 2}'::jsonb end
 where tenant = $1 and home = $2`, p.tenant, p.name, string(state), attempt, until)
	require.NoError(t, err)
}

func TestPeopleOnlySuspendAndOpen(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Sealed, "shared")
	super := p.super(t)
	state := func() string {
		return text(t, super, "select state from landlord.fence where tenant = $1", p.tenant)
	}
	for _, from := range states {
		for _, to := range states {
			p.force(t, from)
			err := isolation.SetFence(t.Context(), super, p.tenant, p.name, 1, to)
			if (to == isolation.Open || to == isolation.Suspended) && (from == isolation.Open || from == isolation.Suspended) {
				require.NoError(t, err, "%s to %s", from, to)
				require.Equal(t, string(to), state())
			} else {
				require.ErrorIs(t, err, isolation.ErrFence, "%s to %s", from, to)
				require.Equal(t, string(from), state())
			}
		}
	}
	p.forceUntil(t, isolation.Fenced, "-1 second")
	require.NoError(t, isolation.SetFence(t.Context(), super, p.tenant, p.name, 1, isolation.Suspended), "an overdue fence counts as open")
	p.force(t, isolation.Open)
	require.ErrorIs(t, isolation.SetFence(t.Context(), super, p.tenant, p.name, 2, isolation.Suspended), isolation.ErrFence, "another epoch")
	require.ErrorIs(t, isolation.SetFence(t.Context(), super, p.tenant, p.name+"x", 1, isolation.Suspended), isolation.ErrFence, "another home")
	require.ErrorIs(t, isolation.SetFence(t.Context(), super, uuid.NewString(), p.name, 1, isolation.Suspended), isolation.ErrFence, "nobody")
	require.Equal(t, "open", state())
	require.Equal(t, "open", text(t, super, "select state from landlord.fence where tenant = $1", p.other), "the neighbour's never changed")
}

func TestPutFenceCanBeRepeatedAndNeverChangesAnEpoch(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	super := h.super(t)
	f := isolation.Fence{Tenant: "x", Slug: "one", Model: "shared", Home: "a/b/c", Epoch: 3, State: isolation.Open}
	require.NoError(t, isolation.PutFence(t.Context(), super, f))
	require.NoError(t, isolation.SetFence(t.Context(), super, "x", "a/b/c", 3, isolation.Suspended))
	require.NoError(t, isolation.PutFence(t.Context(), super, f), "again")
	for _, epoch := range []int64{2, 4} {
		f.Epoch = epoch
		require.ErrorIs(t, isolation.PutFence(t.Context(), super, f), isolation.ErrFence)
	}
	elsewhere := isolation.Fence{Tenant: "x", Slug: "one", Model: "schema", Home: "a/b/d", Epoch: 4, State: isolation.Importing}
	require.NoError(t, isolation.PutFence(t.Context(), super, elsewhere), "a row per tenant and home")
	fences, err := isolation.Fences(t.Context(), super)
	require.NoError(t, err)
	f.Epoch, f.State = 3, isolation.Suspended
	require.Equal(t, []isolation.Fence{f, elsewhere}, fences)
	require.NoError(t, isolation.DropFence(t.Context(), super, "x", "a/b/c"))
	require.NoError(t, isolation.DropFence(t.Context(), super, "x", "a/b/c"), "again")
	fences, err = isolation.Fences(t.Context(), super)
	require.NoError(t, err)
	require.Equal(t, []isolation.Fence{elsewhere}, fences)
}

func TestEachFenceStateAnswersInItsOwnWay(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		writer, reader := p.app(t), p.app(t)
		try := func(conn *pgx.Conn, options string, e isolation.Entry) error {
			exec(t, conn, "begin "+options)
			err := p.enter(t.Context(), conn, e)
			if err == nil {
				require.Equal(t, ownRows, count(t, conn, "select from "+ident(p.schema, "note")))
			}
			exec(t, conn, "rollback")
			return err
		}
		want := map[isolation.FenceState]struct{ write, read, stale string }{
			isolation.Importing: {pgerr.Fenced, pgerr.Fenced, pgerr.Fenced},
			isolation.Open:      {"", "", pgerr.NotHere},
			isolation.Fenced:    {pgerr.Fenced, "", pgerr.Fenced},
			isolation.Moved:     {pgerr.NotHere, pgerr.NotHere, pgerr.NotHere},
			isolation.Suspended: {pgerr.Suspended, pgerr.Suspended, pgerr.Suspended},
		}
		stale := p.entry(p.tenant)
		stale.Epoch = 7
		for _, state := range states {
			p.force(t, state)
			for _, level := range []string{"", "isolation level repeatable read ", "isolation level serializable "} {
				require.Equal(t, want[state].write, pgerr.Code(try(writer, level, p.entry(p.tenant))), "%s %s", level, state)
				require.Equal(t, want[state].read, pgerr.Code(try(reader, level+"read only", p.entry(p.tenant))), "%s %s read only", level, state)
				require.Equal(t, want[state].stale, pgerr.Code(try(writer, level, stale)), "%s %s, stale", level, state)
			}
		}
		p.force(t, isolation.Moved)
		answer := requireCode(t, pgerr.NotHere, try(writer, "", p.entry(p.tenant)))
		require.JSONEq(t, `{"home": "b/x/public", "model": "shared", "epoch": 2}`, answer.Detail)
		// A stale reader of a fenced home is told so, too.
		p.force(t, isolation.Fenced)
		requireCode(t, pgerr.NotHere, try(reader, "read only", stale))
		elsewhere := p.entry(p.tenant)
		elsewhere.Home += "x"
		requireCode(t, pgerr.NotHere, try(writer, "", elsewhere))
		requireCode(t, pgerr.NotHere, try(writer, "", p.entry(uuid.NewString())), "a tenant without a fence")
	})
}

func TestSuspensionRefusesAtOnceAndLetsOpenTransactionsEnd(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p *place) {
		running := p.app(t)
		p.begin(t, running, p.tenant)
		exec(t, running, "insert into note (body) values ('before')")

		require.NoError(t, isolation.SetFence(t.Context(), p.super(t), p.tenant, p.name, 1, isolation.Suspended), "it does not wait")
		late := p.app(t)
		exec(t, late, "begin")
		requireCode(t, pgerr.Suspended, p.enter(t.Context(), late, p.entry(p.tenant)))
		exec(t, late, "rollback")

		exec(t, running, "insert into note (body) values ('after'); commit")
		require.Equal(t, ownRows+2, count(t, p.super(t), "select from "+ident(p.schema, "note")+" where tenant_id = $1", p.tenant))
		exec(t, running, "begin")
		requireCode(t, pgerr.Suspended, p.enter(t.Context(), running, p.entry(p.tenant)))
	})
}
