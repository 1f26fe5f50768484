package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// loadFlags are what is asked of a load.
type loadFlags struct {
	tenants   []string
	writers   int
	length    time.Duration
	think     time.Duration
	isolation string
}

// loadLevels are the isolation levels by the names that --isolation takes.
var loadLevels = map[string]pgx.TxIsoLevel{
	"mixed": "", "read-committed": pgx.ReadCommitted, "repeatable-read": pgx.RepeatableRead, "serializable": pgx.Serializable,
}

func (f loadFlags) validate() error {
	_, known := loadLevels[f.isolation]
	switch {
	case f.writers < 1:
		return errors.New("--writers must be above 0")
	case f.length <= 0:
		return errors.New("--for must be above 0")
	case f.think < 0:
		return errors.New("--think must not be below 0")
	case !known:
		return errors.New("--isolation is mixed, read-committed, repeatable-read or serializable")
	}
	return nil
}

func newDevLoadCmd(a *app) *cobra.Command {
	var f loadFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Work for tenants as an application would, and prove that nothing is lost",
		Long: `Let writers work for tenants through a router, in the tables of the sample shop: insert, update, delete and
change keys, in transactions and single statements, with reads between. Every commit that is acknowledged
is taken down in this process, and at the end compared with what the tenant's home has, wherever that is by
then. So it is what to run beside a move, a failover or a restart to see what an application would see.

It ends with 1 when anything is lost, doubled or failed. An outcome that the router could not know is looked
into, and counted apart. Ctrl-C ends the work early; the comparison is made all the same.

The rows stay: customers whose e-mail address begins with "load-", their orders and lines.`,
		Example: `  landlord dev load --tenant acme --for 30s
  landlord dev load --tenant acme --writers 4 --think 20ms --json | jq '.lost, .longest_gap_ms'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return usageError("%w", err)
			}
			return a.devLoad(cmd.Context(), f, dryRun)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.tenants, "tenant", nil, "`slug` of a tenant to work for; several, if given several times (default all that are active)")
	flags.IntVar(&f.writers, "writers", 16, "`number` of writers of each tenant")
	flags.DurationVar(&f.length, "for", 30*time.Second, "how long to work")
	flags.DurationVar(&f.think, "think", 0, "how long a writer waits between two operations")
	flags.StringVar(&f.isolation, "isolation", "mixed", "isolation `level`: mixed, read-committed, repeatable-read or serializable")
	flags.BoolVar(&dryRun, "dry-run", false, "only show for whom it would work")
	return cmd
}

// loadResult is what came of the work for one tenant.
type loadResult struct {
	Tenant string `json:"tenant"`
	Home   string `json:"home"` // at the end
	load.Result
}

// loadResults are those of all of them, summed up.
type loadResults struct {
	load.Result
	Tenants []loadResult `json:"tenants"`
}

// moveWait is how long the writers' calls wait for a tenant that is being moved. It is less than the load's own patience.
const moveWait = 20 * time.Second

func (a *app) devLoad(ctx context.Context, f loadFlags, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	keys, err := readKeys(h.config.Keys)
	if err != nil {
		return err
	}
	tenants, err := h.loadTenants(ctx, f.tenants)
	if err != nil {
		return err
	}
	if dryRun {
		a.progress("dry run: nothing was written; %d writers would work for each of:", f.writers)
		var views []placementView
		for _, t := range tenants {
			views = append(views, viewPlacement(t.Placement()))
		}
		return a.show(views, func(w io.Writer) { writePlacements(w, views) })
	}
	all := f.writers * len(tenants)
	r, err := router.New(router.Config{
		Catalog: h.catalog, Keys: keys, AppName: "landlord dev load", Logger: a.log,
		Pools: pools.Config{MaxConns: 2 * all, MaxPerClient: f.writers},
		// A gap is measured, and is no error: also that between the death of a mover and its successor.
		MoveWait: moveWait,
	})
	if err != nil {
		return err
	}
	defer r.Close()
	follow, done := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return r.Run(follow) })
	out := loadResults{Tenants: make([]loadResult, len(tenants))}
	a.progress("%d writers work for each of %d tenants, for %s", f.writers, len(tenants), f.length)
	err = h.work(ctx, r, f, tenants, out.Tenants)
	done()
	if runErr := group.Wait(); !errors.Is(runErr, context.Canceled) {
		err = errors.Join(err, runErr)
	}
	if err != nil {
		return err
	}
	out.sum()
	if err := a.show(out, out.write); err != nil {
		return err
	}
	switch {
	case !out.Clean():
		return fmt.Errorf("%d lost, %d doubled, %d errors: see findings", out.Lost, out.Doubled, out.Errors)
	case ctx.Err() != nil:
		return fmt.Errorf("the work ended early, after %.0f s", out.Seconds)
	}
	return nil
}

// loadTenants looks up the tenants of these slugs, or all that are active.
func (h *house) loadTenants(ctx context.Context, slugs []string) ([]placement.Tenant, error) {
	if len(slugs) == 0 {
		all, err := h.catalog.Tenants(ctx, placement.Filter{State: placement.StateActive})
		if err == nil && len(all) == 0 {
			err = errors.New("no tenant is active: add one with 'landlord tenant add'")
		}
		return all, err
	}
	var all []placement.Tenant
	for _, s := range slugs {
		slug, err := tenant.ParseSlug(s)
		if err != nil {
			return nil, usageError("%w", err)
		}
		t, err := h.tenant(ctx, whose{slug: slug})
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// work runs a load for each tenant, at the same time.
func (h *house) work(ctx context.Context, r *router.Router, f loadFlags, tenants []placement.Tenant, results []loadResult) error {
	var group errgroup.Group
	for i, t := range tenants {
		group.Go(func() error {
			l := load.New(load.Config{
				DB: r.Tenant(t.ID), Writers: f.writers, Length: f.length, Think: f.think, Isolation: loadLevels[f.isolation],
			})
			result, err := l.Run(ctx)
			if errors.Is(err, load.ErrTables) {
				err = fmt.Errorf("%w: 'landlord dev up' writes their migrations", err)
			}
			if err != nil {
				return fmt.Errorf("load tenant %s: %w", t.Slug, err)
			}
			now, err := h.catalog.Tenant(context.WithoutCancel(ctx), t.ID)
			results[i] = loadResult{Tenant: string(t.Slug), Home: now.Home.String(), Result: result}
			return err
		})
	}
	return group.Wait()
}

// sum makes the whole of the tenants' results.
func (r *loadResults) sum() {
	r.Findings = []string{}
	for _, t := range r.Tenants {
		r.Acked += t.Acked
		r.Reads += t.Reads
		r.Lost += t.Lost
		r.Doubled += t.Doubled
		r.Errors += t.Errors
		r.Unknown += t.Unknown
		r.UnknownCommitted += t.UnknownCommitted
		r.Retries += t.Retries
		r.LongestGapMS = max(r.LongestGapMS, t.LongestGapMS)
		r.SlowestMS = max(r.SlowestMS, t.SlowestMS)
		r.Seconds = max(r.Seconds, t.Seconds)
		r.Findings = append(r.Findings, t.Findings...)
	}
}

func (r loadResults) write(w io.Writer) {
	fmt.Fprintln(w, "TENANT\tHOME\tACKED\tREADS\tLOST\tDOUBLED\tERRORS\tUNKNOWN\tLONGEST GAP\tSLOWEST")
	for _, t := range r.Tenants {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f ms\t%.1f ms\n",
			t.Tenant, t.Home, t.Acked, t.Reads, t.Lost, t.Doubled, t.Errors, t.Unknown, t.LongestGapMS, t.SlowestMS)
	}
	for _, finding := range r.Findings {
		fmt.Fprintln(w, finding)
	}
}
