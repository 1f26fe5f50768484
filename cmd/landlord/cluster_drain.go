package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// drainFlags are those of `cluster drain`.
type drainFlags struct {
	to            string
	parallel      int
	stay, dryRun  bool
	complete, yes bool
	maxRate       byteSize
}

// clusterDrained is what `cluster drain` prints.
type clusterDrained struct {
	clusterView
	Residents []placementView `json:"residents"` // as of before
	Moves     []drainMove     `json:"moves"`
	DryRun    bool            `json:"dry_run,omitempty"`
}

// drainMove is what became, or would become, of one tenant.
type drainMove struct {
	Tenant  string  `json:"tenant"`
	Model   string  `json:"model"`
	To      string  `json:"to"`    // cluster; empty: there is none for it
	State   string  `json:"state"` // of its move; empty: it has none
	PauseMS float64 `json:"pause_ms"`
	Error   string  `json:"error"`
}

func newClusterDrainCmd(a *app) *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "Let no new tenant onto a cluster, and move those who live there to others",
		Long: `Let no new tenant onto a cluster, and move those who live there to others while they are used, each in the model that
it has: to the cluster that --to names, or to the one with the most room. Several are moved at once. A tenant that
cannot be moved keeps no other from being moved; the exit status is 3 then.

Each is cut over as soon as its homes were found equal, and can be rolled back until its move is completed: by
'landlord move complete', or here by --complete, which takes the old home away right after the cutover. Until
then the new server keeps the changes for the way back, so complete them soon.

--max-rate holds each copy that begins to a rate, which leaves more of the servers to tenants who stay or wait.

Ctrl-C leaves moves that the same command goes on with. With --stay nobody is moved, and the tenants are only
listed. 'landlord cluster set NAME --state active' takes the draining back.`,
		Example: `  landlord cluster drain a --dry-run
  landlord cluster drain a --to b --complete --yes
  landlord cluster drain a --stay --json | jq -r '.residents[].slug'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.parallel < 1:
				return usageError("--parallel must be above 0")
			case f.stay && (f.to != "" || f.complete || f.maxRate > 0):
				return usageError("--stay moves nobody: leave out --to, --complete and --max-rate")
			case f.maxRate.tooSlow():
				return usageError(tooSlow)
			case f.to == args[0]:
				return usageError("--to is the cluster that is to be drained")
			case f.complete && !f.yes && !f.dryRun:
				return usageError("--complete destroys what the tenants have left on the cluster, and there is no way back there afterwards; if that is what you want, add --yes")
			}
			return a.drainCluster(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "cluster to move to (default the one with the most room, for each tenant)")
	flags.IntVar(&f.parallel, "parallel", 2, "`number` of tenants that are moved at once")
	maxRateFlag(flags, &f.maxRate)
	flags.BoolVar(&f.stay, "stay", false, "move nobody")
	flags.BoolVar(&f.complete, "complete", false, "take the old homes away, which ends the way back")
	flags.BoolVar(&f.yes, "yes", false, "with --complete: it is meant")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show who would be moved where, and what stands in the way")
	return cmd
}

func (a *app) drainCluster(ctx context.Context, name string, f drainFlags) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	_, after, err := m.alterCluster(ctx, name, func(c *placement.Cluster) { c.State = placement.ClusterDraining }, f.dryRun)
	if err != nil {
		return err
	}
	residents, err := m.house.catalog.Tenants(ctx, placement.Filter{Cluster: name})
	if err != nil {
		return err
	}
	after.Tenants = len(residents) // as of after the change: nobody has come since
	out := clusterDrained{clusterView: viewCluster(after), Residents: []placementView{}, Moves: []drainMove{}, DryRun: f.dryRun}
	for _, t := range residents {
		out.Residents = append(out.Residents, viewPlacement(t.Placement()))
	}
	if !f.stay {
		if out.Moves, err = m.drain(ctx, name, residents, f); err != nil {
			return err
		}
	}
	m.screen.end()
	if err := a.show(out, out.write); err != nil {
		return err
	}
	return out.end(ctx)
}

// end is the error with which the command ends.
func (o clusterDrained) end(ctx context.Context) error {
	failed := 0
	for _, m := range o.Moves {
		if m.Error != "" {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: 'landlord cluster drain %s' goes on", ctx.Err(), o.Name)
	case failed > 0 && o.DryRun:
		return &statusError{status: exitFailed}
	case failed > 0:
		return partly(fmt.Errorf("%d of %d tenants were not moved: see what stands in the way, and repeat the command", failed, len(o.Moves)))
	}
	return nil
}

// drain moves tenants away from a cluster, or goes on with their moves: also those of tenants who are away already, if their moves
// are to be completed.
func (m *mover) drain(ctx context.Context, name string, residents []placement.Tenant, f drainFlags) ([]drainMove, error) {
	open, err := m.house.catalog.Moves(ctx, placement.MoveFilter{Cluster: name, Active: true})
	if err != nil {
		return nil, err
	}
	var jobs []func() drainMove
	listed := map[string]bool{}
	for _, mv := range open {
		if mv.Source.Home.Cluster != name {
			continue
		}
		listed[string(mv.Slug)] = true
		if mv.Phase != move.Reversing || f.complete {
			jobs = append(jobs, func() drainMove { return m.drainOn(ctx, mv, f) })
		}
	}
	for _, t := range residents {
		if !listed[string(t.Slug)] {
			jobs = append(jobs, func() drainMove { return m.drainTenant(ctx, t, f) })
		}
	}
	all := make([]drainMove, len(jobs))
	next := make(chan int)
	var work sync.WaitGroup
	for range min(f.parallel, len(jobs)) {
		work.Go(func() {
			for i := range next {
				all[i] = jobs[i]()
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	work.Wait()
	return all, nil
}

// drainTenant begins the move of a tenant, and brings it as far as it is to go.
func (m *mover) drainTenant(ctx context.Context, t placement.Tenant, f drainFlags) drainMove {
	out := drainMove{Tenant: string(t.Slug), Model: string(t.Model)}
	var err error
	if out.To, err = m.drainTarget(ctx, t, f.to); err != nil {
		out.Error = oneLine(err.Error())
		return out
	}
	request := move.Request{Tenant: t, Model: t.Model, Cluster: out.To, MoveOptions: placement.MoveOptions{
		Auto: true, MaxRate: int64(f.maxRate),
	}}
	if f.dryRun {
		report, err := m.move.Preflight(ctx, request)
		if err == nil && len(report.Problems) > 0 {
			err = &move.ProblemsError{Slug: t.Slug, Problems: report.Problems}
		}
		if err != nil {
			out.Error = oneLine(err.Error())
		}
		return out
	}
	mv, err := m.move.Start(ctx, request)
	if err != nil {
		out.Error = oneLine(err.Error())
		return out
	}
	return m.drainOn(ctx, mv, f)
}

// drainOn brings a move that has begun as far as it is to go.
func (m *mover) drainOn(ctx context.Context, mv placement.Move, f drainFlags) drainMove {
	goal := goalCutover
	var err error
	if !f.dryRun {
		if mv.CommittedAt == nil || move.Uncompared(mv) {
			mv, err = m.bring(ctx, mv, goal, true)
		}
		if err == nil && f.complete && mv.Phase == move.Reversing && mv.Error != "" { // the homes differ: the old one may be all that there is
			err = fmt.Errorf("its old home stays: %s", mv.Error)
		}
		if err == nil && f.complete {
			goal = goalComplete
			mv, err = m.bring(ctx, mv, goal, true)
		}
		if err != nil || !slices.Contains(goal.reached, mv.Phase) {
			err = cmp.Or(endOfMove(mv, err), errors.New("it has ended as "+string(mv.Phase)))
		}
	}
	out := drainMove{
		Tenant: string(mv.Slug), Model: string(mv.Target.Model), To: mv.Target.Home.Cluster, State: string(mv.Phase), PauseMS: milliseconds(mv.Pause),
	}
	if err != nil {
		out.Error = oneLine(err.Error())
	}
	return out
}

// drainTarget chooses where a tenant goes: never to a cluster that takes none.
func (m *mover) drainTarget(ctx context.Context, t placement.Tenant, to string) (string, error) {
	if t.State != placement.StateActive {
		return "", &placement.StateError{Tenant: t.ID, Slug: t.Slug, Have: t.State, Why: "only an active tenant can be moved"}
	}
	if to != "" {
		return to, nil
	}
	all, err := m.house.catalog.Usage(ctx)
	if err != nil {
		return "", err
	}
	all = slices.DeleteFunc(all, func(u placement.Usage) bool { return u.Name == t.Home.Cluster })
	c, err := placement.Choose(placement.Request{ID: t.ID, Slug: t.Slug, Model: t.Model, Strategy: placement.LeastLoaded}, all)
	return c.Name, err
}

func (o clusterDrained) write(w io.Writer) {
	verb := "is"
	if o.DryRun {
		verb = "would be"
	}
	fmt.Fprintf(w, "cluster %s %s draining; %d tenants live there\n", o.Name, verb, len(o.Residents))
	if len(o.Moves) == 0 {
		if len(o.Residents) > 0 {
			fmt.Fprintln(w)
			writePlacements(w, o.Residents)
		}
		return
	}
	fmt.Fprintln(w, "\nTENANT\tMODEL\tTO\tMOVE\tPAUSE")
	for _, m := range o.Moves {
		pause := "-"
		if m.PauseMS > 0 {
			pause = fmt.Sprintf("%.1f ms", m.PauseMS)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Tenant, m.Model, cmp.Or(m.To, "-"), cmp.Or(m.State, "-"), pause)
	}
	for _, m := range o.Moves {
		if m.Error != "" {
			fmt.Fprintf(w, "\n%s: %s\n", m.Tenant, m.Error)
		}
	}
}
