package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

// tenantRemove are the flags of `tenant remove`.
type tenantRemove struct {
	id, confirm string
	grace       time.Duration
	due, dryRun bool
}

func newTenantRemoveCmd(a *app) *cobra.Command {
	var args tenantRemove
	cmd := &cobra.Command{
		Use:   "remove SLUG --confirm SLUG",
		Short: "Close a tenant's home and, after a grace period, destroy it",
		Long: `Close a tenant's home at once and set the end of its grace period; until then 'landlord tenant resume'
brings it back. 'landlord tenant remove --due' destroys the homes whose grace is over, for good; run it
by a timer. A tenant that is still being provisioned is taken away at once.`,
		Example: `  landlord tenant remove acme --dry-run
  landlord tenant remove acme --confirm acme --grace 720h
  landlord tenant remove --due`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if args.due {
				if len(names) > 0 || args.id != "" || args.confirm != "" || cmd.Flags().Changed("grace") {
					return usageError("--due goes alone: it is about all tenants whose grace is over")
				}
				return a.removeDue(cmd.Context(), args.dryRun)
			}
			w, err := parseWhose(names, args.id)
			if err != nil {
				return err
			}
			if args.grace < 0 {
				return usageError("--grace is negative")
			}
			return a.removeTenant(cmd.Context(), w, args)
		},
	}
	flags := cmd.Flags()
	idFlag(cmd, &args.id)
	flags.StringVar(&args.confirm, "confirm", "", "the tenant's `slug` once more")
	flags.DurationVar(&args.grace, "grace", 168*time.Hour, "how long the tenant can be brought back")
	flags.BoolVar(&args.due, "due", false, "destroy the homes of all tenants whose grace is over")
	flags.BoolVar(&args.dryRun, "dry-run", false, "only show what would be destroyed")
	return cmd
}

func (a *app) removeTenant(ctx context.Context, w whose, args tenantRemove) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := h.tenant(ctx, w)
	if err != nil {
		return err
	}
	if args.dryRun {
		return a.planRemoval(ctx, h, t, args.grace)
	}
	if args.confirm != string(t.Slug) {
		return usageError("this destroys all data of tenant %s, as %s at %s, %s after now; if that is what you want, type:\n"+
			"  landlord tenant remove %[1]s --confirm %[1]s --grace %[4]s", t.Slug, t.Model, t.Home, args.grace)
	}
	if err := h.service.Remove(ctx, t, args.grace); err != nil {
		return err
	}
	after, err := h.catalog.Tenant(ctx, t.ID)
	if errors.Is(err, placement.ErrUnknownTenant) { // it was still being provisioned
		return a.show(stateChange{tenantView: viewTenant(t)}, func(w io.Writer) {
			fmt.Fprintf(w, "tenant %s was not complete yet and is gone\n", t.Slug)
		})
	}
	if err != nil {
		return err
	}
	return a.show(stateChange{tenantView: viewTenant(after)}, func(w io.Writer) {
		fmt.Fprintf(w, "tenant %s is closed; from %s on, 'landlord tenant remove --due' destroys it; until then 'landlord tenant resume %[1]s' brings it back\n",
			t.Slug, after.RemoveAfter.Local().Format(time.RFC3339))
	})
}

// removalPlan is what `tenant remove --dry-run` prints.
type removalPlan struct {
	tenantView
	Tables []tableRows `json:"tables"`
	DryRun bool        `json:"dry_run"`
}

type tableRows struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

func (a *app) planRemoval(ctx context.Context, h *house, t placement.Tenant, grace time.Duration) error {
	plan := removalPlan{tenantView: viewTenant(t), Tables: []tableRows{}, DryRun: true}
	err := h.atHome(ctx, t, func(conn *pgx.Conn) error {
		tables, err := homeTables(ctx, conn, t)
		if err != nil {
			return err
		}
		return readHome(ctx, conn, func(tx pgx.Tx) error {
			for _, table := range tables {
				if table.class != classTenant {
					continue
				}
				rows := tableRows{Table: table.name}
				if err := tx.QueryRow(ctx, `select count(*) from (`+table.query(t)+`) all_rows`).Scan(&rows.Rows); err != nil {
					return fmt.Errorf("count the rows of %s: %w", table.name, err)
				}
				plan.Tables = append(plan.Tables, rows)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("look at the home of tenant %s: %w", t.Slug, err)
	}
	return a.show(plan, func(w io.Writer) { plan.write(w, grace) })
}

func (p removalPlan) write(w io.Writer, grace time.Duration) {
	what := map[string]string{
		"shared":   "these rows in " + p.Database,
		"schema":   "schema " + p.Schema + " of " + p.Database + " with",
		"database": "database " + p.Database + " and its login with",
	}
	fmt.Fprintf(w, "would close tenant %s on cluster %s now and destroy, after %s, %s:\n", p.Slug, p.Cluster, grace, what[p.Model])
	fmt.Fprintln(w, "TABLE\tROWS")
	for _, t := range p.Tables {
		fmt.Fprintf(w, "%s\t%d\n", t.Table, t.Rows)
	}
}

// purge is what `tenant remove --due` prints.
type purge struct {
	Removed []placementView `json:"removed"`
	Failed  []placementView `json:"failed"`
	DryRun  bool            `json:"dry_run,omitempty"`
}

func (a *app) removeDue(ctx context.Context, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	found, err := h.catalog.Tenants(ctx, placement.Filter{State: placement.StateRemoving})
	if err != nil {
		return err
	}
	out := purge{Removed: []placementView{}, Failed: []placementView{}, DryRun: dryRun}
	var errs []error
	for _, t := range found {
		if !t.RemovalDue {
			continue
		}
		if dryRun {
			out.Removed = append(out.Removed, viewPlacement(t.Placement()))
			continue
		}
		a.progress("destroying tenant %s at %s", t.Slug, t.Home)
		if err := h.service.Purge(ctx, t); err != nil {
			errs = append(errs, fmt.Errorf("remove tenant %s: %w", t.Slug, err))
			out.Failed = append(out.Failed, viewPlacement(t.Placement()))
		} else {
			out.Removed = append(out.Removed, viewPlacement(t.Placement()))
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, errors.New("the same command goes on with the others"))...)
		}
	}
	return errors.Join(a.show(out, out.write), partly(errors.Join(errs...)))
}

func (p purge) write(w io.Writer) {
	did := "removed"
	if p.DryRun {
		did = "would remove"
	}
	for _, t := range p.Removed {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", did, t.Slug, t.Model, t.Home)
	}
	if len(p.Removed)+len(p.Failed) == 0 {
		fmt.Fprintln(w, "no tenant's grace is over")
	}
}
