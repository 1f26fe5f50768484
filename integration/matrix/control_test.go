//go:build landlord_faults

package matrix_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// toDatabase is the transition of the controls: all tables and sequences of the target are the tenant's alone.
var toDatabase = transition{place{placement.ModelSchema, "a"}, place{placement.ModelDatabase, "b"}}

// enterWithout takes a text out of landlord.enter at the source.
func (r *removal) enterWithout(text string) {
	r.t.Helper()
	conn := r.Super(r.t, r.tenant.Home.Database)
	var enter string
	const q = `select pg_get_functiondef(oid) from pg_proc where proname = 'enter' and pronamespace = 'landlord'::regnamespace`
	require.NoError(r.t, conn.QueryRow(r.t.Context(), q).Scan(&enter))
	require.Contains(r.t, enter, text)
	_, err := conn.Exec(r.t.Context(), strings.Replace(enter, text, "", 1))
	require.NoError(r.t, err)
}

// slowCommits lets the commits of transactions that write customers take so long at the source.
func (r *removal) slowCommits(by time.Duration) {
	r.t.Helper()
	q := strings.ReplaceAll(fmt.Sprintf(`
create function SCHEMA.slow() returns trigger language plpgsql as 'begin perform pg_sleep(%g); return null; end';
create constraint trigger slow after insert or update on SCHEMA.customers deferrable initially deferred for each row execute function SCHEMA.slow();
`, by.Seconds()), "SCHEMA", pgx.Identifier{r.tenant.Home.Schema}.Sanitize())
	_, err := r.Super(r.t, r.tenant.Home.Database).Exec(r.t.Context(), q)
	require.NoError(r.t, err)
}

// await waits until the move is in a phase.
func (r *removal) await(phase placement.MovePhase) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		m, err := r.Catalog.Move(r.t.Context(), r.move.ID)
		return err == nil && m.Phase == phase
	}, patience, 20*time.Millisecond, "the move does not come to %s", phase)
}

// ask has whoever drives the move do something, and waits until it is done.
func (r *removal) ask(what placement.MoveAsk, then placement.MovePhase) {
	r.t.Helper()
	_, err := r.Catalog.AskMove(r.t.Context(), r.move.ID, what)
	require.NoError(r.t, err)
	r.await(then)
}

// damage ends a move from which something was left out, and asserts that the look at the invariants sees it.
func (r *removal) damage(sees string) {
	r.t.Helper()
	_, found := r.invariants(move.Done)
	require.Contains(r.t, strings.Join(found, "\n"), sees)
	r.t.Log(strings.Join(found, "\n"))
}

func TestControlWithoutTheLockLosesWrites(t *testing.T) {
	t.Parallel()
	r := newHouse(t).begin(t, "acme", toDatabase, load.Config{Writers: 16}, placement.MoveOptions{})
	m := r.start(move.Stay, "")
	r.await(move.Verified)
	r.enterWithout("perform pg_advisory_xact_lock_shared(landlord.lock_key(p_tenant, p_home, v_read_only));")
	r.slowCommits(300 * time.Millisecond) // longer than what is left of the cutover
	r.working()
	r.ask(placement.AskCutover, move.Reversing)
	r.ask(placement.AskComplete, move.Done)
	require.NoError(t, m.wait(), m.said())
	r.damage("I1: ")
}

func TestControlWithoutForShareLosesRepeatableReadWrites(t *testing.T) {
	t.Parallel()
	r := newHouse(t).begin(t, "acme", toDatabase, load.Config{Writers: 16, Isolation: pgx.RepeatableRead}, placement.MoveOptions{})
	r.enterWithout(" for share")
	_ = r.start(move.ToDone, "").wait() // it ends where it sees that the homes differ
	r.drive(move.ToDone)
	r.damage("I1: ")
}

func TestControlWithThePositionBeforeTheDrainLosesWrites(t *testing.T) {
	t.Parallel()
	r := newHouse(t).begin(t, "acme", toDatabase, load.Config{Writers: 8}, placement.MoveOptions{})
	r.slowCommits(100 * time.Millisecond) // so that there are some to be drained, whenever the cutover begins
	r.env = []string{"LANDLORD_WITHOUT=drain"}
	_ = r.start(move.ToDone, "").wait()
	r.drive(move.ToDone)
	r.damage("I1: ")
}

func TestControlWithoutAdvancedSequencesDoublesKeys(t *testing.T) {
	t.Parallel()
	r := newHouse(t).begin(t, "acme", toDatabase, load.Config{Writers: 4}, placement.MoveOptions{})
	r.env = []string{"LANDLORD_WITHOUT=sequences"}
	r.drive(move.ToReversing)
	_ = r.start(move.ToDone, "").wait()
	r.damage("I1: ")
}

func TestControlWithoutTheSkipRuleCannotFollow(t *testing.T) {
	t.Parallel()
	r := newHouse(t).begin(t, "acme", toDatabase, load.Config{Writers: 1}, placement.MoveOptions{})
	m := r.start(move.ToDone, "begin-copying:hang")
	require.True(t, m.reached())
	// The stream begins before this and the copy after it. Without the skip rule, the first row takes its old address back, which
	// the copy has brought with the second one. The many rows come in pieces of their own: what is before them is applied by itself.
	db := r.router.Tenant(r.tenant.Tenant)
	for _, q := range []string{
		`insert into customers (email, name) values ('first@example.com', 'first')`,
		`insert into customers (email, name) select 'many' || n || '@example.com', 'many' from generate_series(1, 12000) n`,
		`update customers set email = 'other@example.com' where email = 'first@example.com'`,
		`insert into customers (email, name) values ('first@example.com', 'second')`,
	} {
		_, err := db.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	m.signal(syscall.SIGTERM)
	_ = m.wait()
	r.env = []string{"LANDLORD_WITHOUT=skip"}
	require.Error(t, r.start(move.ToDone, "").wait())
	r.damage("I6: the move is abort")
}
