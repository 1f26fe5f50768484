//go:build landlord_faults

package matrix_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// neighbours is what another tenant's rows are made of.
const neighbours = `
with c as (insert into customers (email, name) select 'seed' || n || '@example.com', repeat('x', n % 50) from generate_series(1, 200) n returning id),
     o as (insert into orders (customer_id, currency) select id, 'EUR' from c returning id)
insert into order_lines (order_id, position, product, quantity, unit_price) select id, p, 'thing', p, 1.50 from o, generate_series(1, 3) p`

// house is an installation with a tenant on each cluster who is not moved.
type house struct {
	*testhouse.House
	t       *testing.T
	net     network
	router  *router.Router
	patient *router.Router // whose callers wait for a tenant that is closed for as long as that takes
}

// longest is how long a tenant may be closed whose writers are patient.
const longest = 3 * patience

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	h.House, h.net = newNetwork(t)
	h.router = h.Router(t, past(h.Server))
	h.patient = h.Router(t, past(h.Server), func(c *router.Config) { c.MoveWait = longest })
	for _, cluster := range h.Clusters {
		p := h.Add(t, "neighbour-"+cluster, placement.ModelShared, cluster)
		_, err := h.router.Tenant(p.Tenant).Exec(t.Context(), neighbours)
		require.NoError(t, err)
	}
	return h
}

// removal is one move of one tenant who is at work all the time.
type removal struct {
	*house
	t       *testing.T // the move's own
	tenant  placement.Placement
	move    placement.Move
	load    *load.Load
	stop    context.CancelFunc
	result  chan load.Result
	watcher *watcher
	before  map[string]string // other tenants' rows
	env     []string          // of every mover
	away    bool              // the network failed where the tenant may have had no open home, which took as long as that
}

// begin places a tenant, lets it work, and begins to move it. Nobody drives the move yet.
func (h *house) begin(t *testing.T, slug string, tr transition, cfg load.Config, opts placement.MoveOptions) *removal {
	t.Helper()
	r := &removal{house: h, t: t, result: make(chan load.Result, 1)}
	r.tenant = h.Add(h.t, slug, tr.from.model, tr.from.cluster) // what a failure leaves goes with the house
	_, err := h.router.Tenant(r.tenant.Tenant).Exec(t.Context(), neighbours)
	require.NoError(t, err)
	r.before = r.others()

	cfg.DB = h.router.Tenant(r.tenant.Tenant)
	if cfg.Patience > 0 {
		cfg.DB = h.patient.Tenant(r.tenant.Tenant)
	}
	cfg.Think = time.Duration(2*cfg.Writers) * time.Millisecond // or they leave a small machine nothing to follow them with
	r.load = load.New(cfg)
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() {
		got, err := r.load.Run(ctx)
		if err != nil {
			got.Errors++
			got.Findings = append(got.Findings, err.Error())
		}
		r.result <- got
	}()

	r.move, err = h.Catalog.BeginMove(t.Context(), placement.MoveRequest{
		Tenant: r.tenant.Tenant, Model: tr.to.model, Cluster: tr.to.cluster, MoveOptions: opts, Limit: 100,
	})
	require.NoError(t, err)
	h.Forget(h.t, r.move.At(true))
	r.watcher = r.watch()
	t.Cleanup(func() {
		stop()
		r.watcher.end()
		r.dropSlots()
	})
	r.working()
	return r
}

// leave takes the tenant away, so that hundreds of them do not pile up.
func (r *removal) leave() {
	r.t.Helper()
	for _, act := range []func(placement.Tenant) error{
		func(now placement.Tenant) error { return r.Service.Remove(r.t.Context(), now, 0) },
		func(now placement.Tenant) error { return r.Service.Purge(r.t.Context(), now) },
	} {
		now, err := r.Catalog.Tenant(r.t.Context(), r.tenant.Tenant)
		require.NoError(r.t, err)
		require.NoError(r.t, act(now))
	}
}

// dropSlots drops what would be in the way of dropping the databases of a failed test.
func (r *removal) dropSlots() {
	r.SuperExec(r.t, "postgres", `
do $$ begin
    perform pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name like '%`+strings.ReplaceAll(r.move.ID, "-", "")+`%' and active;
    perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like '%`+strings.ReplaceAll(r.move.ID, "-", "")+`%';
end $$`)
}

// working waits until the tenant's writers are at work.
func (r *removal) working() {
	r.t.Helper()
	r.load.TakeGap()
	require.Eventually(r.t, func() bool {
		gap := r.load.TakeGap()
		return gap > 0 && gap < 400*time.Millisecond
	}, time.Minute, 200*time.Millisecond, "the tenant's writers do not get on")
}

// expire ends the claim of a mover that cannot renew it any more. Its lease would do the same, later.
func (r *removal) expire() {
	r.t.Helper()
	catalog := r.CatalogDSN[strings.LastIndex(r.CatalogDSN, "/")+1:]
	catalog, _, _ = strings.Cut(catalog, "?")
	r.SuperExec(r.t, catalog, "update landlord.moves set owned_until = clock_timestamp() where id = '"+r.move.ID+"'")
}

// mover is a process that drives a move.
type mover struct {
	r      *removal
	cmd    *exec.Cmd
	at     chan struct{} // closed when it has come to its fault point
	exited chan error

	mu  sync.Mutex
	out bytes.Buffer
}

// start starts a process that drives the move. fault is what LANDLORD_FAULT is to say.
func (r *removal) start(goal move.Goal, fault string) *mover {
	r.t.Helper()
	cfg, err := json.Marshal(moverConfig{
		CatalogDSN: r.CatalogDSN, Keys: r.Keys.String(), Mode: isolation.Sealed, Move: r.move.ID, Goal: goal,
	})
	require.NoError(r.t, err)
	m := &mover{r: r, cmd: exec.Command(os.Args[0], "-test.run=^$"), at: make(chan struct{}), exited: make(chan error, 1)}
	_, err = m.cmd.StdinPipe() // it ends with this process, however that ends
	require.NoError(r.t, err)
	m.cmd.Env = append(append(os.Environ(), moverVariable+"="+string(cfg), "LANDLORD_FAULT="+fault), r.env...)
	pipe, err := m.cmd.StderrPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, m.cmd.Start())
	go func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "fault point ") && fault != "" {
				close(m.at)
				fault = ""
			}
			m.mu.Lock()
			m.out.WriteString(lines.Text() + "\n")
			m.mu.Unlock()
		}
		m.exited <- m.cmd.Wait()
	}()
	r.t.Cleanup(func() { _ = m.cmd.Process.Kill() })
	return m
}

// said is what the process has written on stderr.
func (m *mover) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.String()
}

// patience is for one process's way to its goal, on a machine that does much else.
const patience = 3 * time.Minute

// wait waits until the process has ended, and returns how.
func (m *mover) wait() error {
	m.r.t.Helper()
	began := time.Now()
	select {
	case err := <-m.exited:
		m.exited <- err
		if took := time.Since(began); took > patience/3 {
			m.r.t.Logf("a mover took %v:\n%s", took, m.said())
		}
		return err
	case <-time.After(patience):
		require.Fail(m.r.t, "a mover does not come to its end", m.stuck())
		return nil
	}
}

// reached waits until the process is at its fault point. It is false where it comes to its goal without passing there.
func (m *mover) reached() bool {
	m.r.t.Helper()
	select {
	case <-m.at:
		return true
	case err := <-m.exited:
		m.exited <- err
		select {
		case <-m.at:
			return true
		default:
			require.NoError(m.r.t, err, m.said())
			return false
		}
	case <-time.After(patience):
		require.Fail(m.r.t, "a mover comes neither to its fault point nor to its end", m.stuck())
		return false
	}
}

// stuck ends a mover that stands still, and says where it does: the move, what the servers' sessions do and wait for, and the process.
func (m *mover) stuck() string {
	var said strings.Builder
	now, err := m.r.Catalog.Move(m.r.t.Context(), m.r.move.ID)
	fmt.Fprintf(&said, "the move: %+v (%v)\nsessions:\n%s", now, err, m.r.sessions())
	_ = m.cmd.Process.Signal(syscall.SIGQUIT) // it writes down what its goroutines do
	select {
	case <-m.exited:
	case <-time.After(10 * time.Second):
	}
	fmt.Fprintf(&said, "the mover:\n%s", m.said())
	return said.String()
}

// sessions lists what the sessions of the server do that are a mover's, or in the way of one.
func (r *removal) sessions() string {
	r.t.Helper()
	const q = `
with s as (select a.*, pg_blocking_pids(a.pid) as blockers from pg_stat_activity a)
select format('%s %s of %s in %s, %s for %s, transaction of %s, waits for %s %s, blocked by %s: %s; locks: %s', s.backend_type, s.pid,
              s.application_name, s.datname, s.state, clock_timestamp() - s.state_change, clock_timestamp() - s.xact_start, s.wait_event_type,
              s.wait_event, s.blockers, left(regexp_replace(s.query, '\s+', ' ', 'g'), 200),
              (select string_agg(concat_ws(' ', l.mode, l.locktype, l.relation::text, l.classid::text, l.objid::text, l.transactionid::text,
                                           case when not l.granted then '(waits)' end), ', ') from pg_locks l where l.pid = s.pid))
  from s
 where s.pid <> pg_backend_pid() and (s.application_name = 'landlord move' or cardinality(s.blockers) > 0
       or exists (select from s as waiting where s.pid = any(waiting.blockers)))
 order by s.pid`
	conn := r.Super(r.t, "postgres")
	rows, err := conn.Query(r.t.Context(), q)
	require.NoError(r.t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r.t, err)
	return strings.Join(lines, "\n") + "\n"
}

func (m *mover) signal(s syscall.Signal) {
	m.r.t.Helper()
	require.NoError(m.r.t, m.cmd.Process.Signal(s))
}

// drive drives the move to a goal without a fault.
func (r *removal) drive(goal move.Goal) {
	r.t.Helper()
	m := r.start(goal, "")
	require.NoError(r.t, m.wait(), m.said())
}
