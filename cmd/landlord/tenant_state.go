package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
)

func newTenantSuspendCmd(a *app) *cobra.Command {
	var id string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "suspend SLUG",
		Short: "Close a tenant's home at once, whatever routers believe",
		Long: `Close a tenant's home: from now on no transaction opens there, also not through a router that has not
heard of it and not while the catalog is down. Transactions that are open run to their end. Nothing is
deleted; 'landlord tenant resume' opens the home again.`,
		Example: "  landlord tenant suspend acme",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeState(cmd.Context(), args, id, placement.StateSuspended, dryRun, (*onboard.Service).Suspend)
		},
	}
	idFlag(cmd, &id)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show in which state the tenant is")
	return cmd
}

func newTenantResumeCmd(a *app) *cobra.Command {
	var id string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "resume SLUG",
		Short: "Open a tenant's home again after suspend, or after remove within the grace period",
		Example: `  landlord tenant resume acme
  landlord tenant resume --id 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeState(cmd.Context(), args, id, placement.StateActive, dryRun, (*onboard.Service).Resume)
		},
	}
	idFlag(cmd, &id)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show in which state the tenant is")
	return cmd
}

// stateChange is what suspend, resume and remove print.
type stateChange struct {
	tenantView
	DryRun bool `json:"dry_run,omitempty"`
}

func (a *app) changeState(ctx context.Context, args []string, id string, to placement.State, dryRun bool,
	change func(*onboard.Service, context.Context, placement.Tenant) error,
) error {
	w, err := parseWhose(args, id)
	if err != nil {
		return err
	}
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := h.tenant(ctx, w)
	if err != nil {
		return err
	}
	if dryRun {
		return a.show(stateChange{viewTenant(t), true}, func(w io.Writer) {
			fmt.Fprintf(w, "tenant %s is %s; would make it %s\n", t.Slug, t.State, to)
		})
	}
	if err := change(h.service, ctx, t); err != nil {
		return err
	}
	was := t.State
	if t, err = h.catalog.Tenant(ctx, t.ID); err != nil {
		return err
	}
	return a.show(stateChange{tenantView: viewTenant(t)}, func(w io.Writer) {
		if was == t.State {
			fmt.Fprintf(w, "tenant %s is %s already\n", t.Slug, t.State)
			return
		}
		fmt.Fprintf(w, "tenant %s is %s\n", t.Slug, t.State)
	})
}
