package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/move"
	check "github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// moveStart are the flags of `move start`.
type moveStart struct {
	to, cluster        string
	auto, wait, dryRun bool
	offline            bool
	allowAsync         bool
	maxPause           time.Duration
	maxWAL, maxRate    byteSize
	at                 window
}

func newMoveStartCmd(a *app) *cobra.Command {
	var f moveStart
	var id string
	cmd := &cobra.Command{
		Use:   "start TENANT --to MODEL",
		Short: "Begin to move a tenant, and keep both of its homes in step",
		Long: `Begin to move a tenant to another model, another cluster, or both. First everything is looked at that could
stand in the way; --dry-run shows that, and what the move would take, and ends with 1 when there is any problem.

The process stays at work until the move is over. It does what 'landlord move cutover', 'rollback', 'complete' and
'abort' ask for, from wherever they are called. Ctrl-C ends it, at any moment and harmlessly; 'landlord move resume'
goes on. With --auto the tenant is cut over as soon as both homes were found equal. With --wait the process ends as
soon as the move waits for a person: before the cutover, or with --auto after it. Nobody reads the changes then, and
the server keeps them, up to --max-wal.

The copy takes what the servers have. --max-rate leaves more of it to other tenants: fewer bytes a second, in shorter
bursts. The move takes longer, and the server keeps its log for that long.

--offline is for servers without wal_level=logical: the tenant's writers are kept out from the beginning, for as long
as the copy and the comparison take; give it a --max-pause to match. It is cut over at once, and there is no way back.`,
		Example: `  landlord move start acme --to database --cluster b --dry-run
  landlord move start acme --to database --cluster b --auto --wait
  landlord move start acme --to schema --auto --at 22:00-04:00
  landlord move start acme --to database --cluster b --max-rate 5MB`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			switch {
			case f.to == "":
				return usageError("say by --to how the tenant is to be kept: shared, schema or database")
			case f.maxPause <= 0 || f.maxWAL <= 0:
				return usageError("--max-pause and --max-wal must be above 0")
			case f.maxRate.tooSlow():
				return usageError(tooSlow)
			case f.at.set && f.offline:
				return usageError("an offline move keeps writers out from its beginning: start it without --at, when that may be")
			case f.at.set && !f.auto:
				return usageError("--at says when --auto may cut over: give both, or use 'landlord move cutover --at'")
			}
			return a.startMove(cmd.Context(), w, f)
		},
	}
	flags := cmd.Flags()
	idFlag(cmd, &id)
	flags.StringVar(&f.to, "to", "", "`model` to move to: shared, schema or database")
	flags.StringVar(&f.cluster, "cluster", "", "cluster to move to (default the one where the tenant lives)")
	flags.BoolVar(&f.auto, "auto", false, "cut over without being asked")
	flags.BoolVar(&f.wait, "wait", false, "end as soon as the move waits for a person")
	flags.BoolVar(&f.offline, "offline", false, "keep writers out for as long as the copy takes")
	flags.BoolVar(&f.allowAsync, "allow-async", false, "accept standbys that may lose the cutover when they are promoted")
	flags.DurationVar(&f.maxPause, "max-pause", placement.DefaultMaxPause, "the longest time that a cutover may keep writers waiting")
	f.maxWAL = placement.DefaultMaxWAL
	flags.Var(&f.maxWAL, "max-wal", "how much log a server may keep for the move, such as 10GB; beyond that the move ends")
	maxRateFlag(flags, &f.maxRate)
	flags.Var(&f.at, "at", "time `window` of the day, such as 22:00-04:00, in which to cut over")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only look what stands in the way, and what the move would take")
	return cmd
}

func (a *app) startMove(ctx context.Context, w whose, f moveStart) error {
	model, err := placement.ParseModel(f.to)
	if err != nil {
		return usageError("%w", err)
	}
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	t, err := m.tenant(ctx, w)
	if err != nil {
		return err
	}
	request := move.Request{Tenant: t, Model: model, Cluster: f.cluster, AllowAsync: f.allowAsync, MoveOptions: placement.MoveOptions{
		Offline: f.offline, Auto: f.auto && !f.at.set, MaxPause: f.maxPause, MaxWAL: int64(f.maxWAL), MaxRate: int64(f.maxRate),
	}}
	if f.dryRun {
		return m.planMove(ctx, request)
	}
	mv, err := m.move.Start(ctx, request)
	if refused, ok := errors.AsType[*move.ProblemsError](err); ok {
		for _, p := range refused.Problems {
			a.progress("%s", p)
		}
		return fmt.Errorf("tenant %s cannot be moved like that: %d problems, see above; nothing was changed", t.Slug, len(refused.Problems))
	}
	if err != nil {
		return err
	}
	a.progress("moving tenant %s from %s to %s; Ctrl-C leaves a move that 'landlord move resume %[1]s' goes on with", mv.Slug, mv.Source, mv.Target)
	mv, err = m.work(ctx, mv, f)
	if err := endOfMove(mv, err); err != nil {
		return err
	}
	return m.showMove(mv)
}

// work drives a move that has just begun, as far as this process is to.
func (m *mover) work(ctx context.Context, mv placement.Move, f moveStart) (placement.Move, error) {
	switch {
	case f.at.set:
		return m.inWindow(ctx, mv, f.at, f.wait)
	case f.wait && f.auto:
		return m.drive(ctx, mv.ID, move.ToReversing)
	case f.wait:
		return m.drive(ctx, mv.ID, move.Ready)
	}
	m.screen.hints = true
	return m.drive(ctx, mv.ID, move.Stay)
}

// movePlan is what `move start --dry-run` prints.
type movePlan struct {
	Tenant   string          `json:"tenant"`
	Source   placeView       `json:"source"`
	Target   placeView       `json:"target"`
	Problems []table.Problem `json:"problems"`
	Warnings []table.Problem `json:"warnings"` // do not keep the tenant from being moved
	Unknown  []string        `json:"unknown"`  // what could not be found out, and matters
	Estimate estimateView    `json:"estimate"`
	DryRun   bool            `json:"dry_run"`
}

type estimateView struct {
	Rows    int64                 `json:"rows"`
	Bytes   int64                 `json:"bytes"`
	Seconds float64               `json:"seconds"` // of the copy
	Tables  []check.TableEstimate `json:"tables"`
}

func (m *mover) planMove(ctx context.Context, r move.Request) error {
	report, err := m.move.Preflight(ctx, r)
	if err != nil {
		return err
	}
	e := report.Estimate
	plan := movePlan{
		Tenant:   string(r.Tenant.Slug),
		Source:   placeView{string(report.Source.Model), report.Source.Home.String()},
		Target:   placeView{string(report.Target.Model), report.Target.Home.String()},
		Problems: report.Problems, Warnings: report.Warnings, Unknown: report.Unknown,
		Estimate: estimateView{e.Rows, e.Bytes, e.Copy.Seconds(), e.Tables}, DryRun: true,
	}
	if to := report.Target.Home; to.Database == "" || to.Schema == "" { // not made yet, and so without a name
		plan.Target.Home = to.Cluster
	}
	if err := m.show(plan, plan.write); err != nil {
		return err
	}
	if len(plan.Problems) > 0 {
		return &statusError{status: exitFailed}
	}
	return nil
}

func (p movePlan) write(w io.Writer) {
	fmt.Fprintf(w, "tenant\t%s\n", p.Tenant)
	fmt.Fprintf(w, "from\t%s as %s\n", p.Source.Home, p.Source.Model)
	fmt.Fprintf(w, "to\t%s as %s\n", p.Target.Home, p.Target.Model)
	e := p.Estimate
	fmt.Fprintf(w, "to copy\tabout %d rows of %d tables, %s, in about %s\n", e.Rows, len(e.Tables), bytesText(e.Bytes), secondsText(e.Seconds))
	for _, unknown := range p.Unknown {
		fmt.Fprintf(w, "not known\t%s\n", unknown)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "\nwarning: %s: %s (%s)\n  what to do: %s\n", warning.Object, warning.What, warning.Code, warning.Fix)
	}
	for _, problem := range p.Problems {
		fmt.Fprintf(w, "\n%s: %s (%s)\n  what to do: %s\n", problem.Object, problem.What, problem.Code, problem.Fix)
	}
	if len(p.Problems) == 0 {
		fmt.Fprintln(w, "nothing stands in the way")
	}
}
