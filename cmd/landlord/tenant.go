package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func newTenantCmd(a *app) *cobra.Command {
	return newGroupCmd("tenant", "Bring tenants in, look at them, suspend and remove them",
		newTenantAddCmd(a),
		newTenantListCmd(a),
		newTenantShowCmd(a),
		newTenantSuspendCmd(a),
		newTenantResumeCmd(a),
		newTenantRemoveCmd(a),
		newTenantExportCmd(a),
		newTenantPsqlCmd(a),
	)
}

// placementView is a placement as it is printed.
type placementView struct {
	ID       string `json:"id"`
	Slug     string `json:"slug"`
	State    string `json:"state"`
	Model    string `json:"model"`
	Home     string `json:"home"`
	Cluster  string `json:"cluster"`
	Database string `json:"database"`
	Schema   string `json:"schema"`
	Epoch    int64  `json:"epoch"`
}

func viewPlacement(p placement.Placement) placementView {
	return placementView{
		ID: p.Tenant.String(), Slug: string(p.Slug), State: string(p.State), Model: string(p.Model), Home: p.Home.String(),
		Cluster: p.Home.Cluster, Database: p.Home.Database, Schema: p.Home.Schema, Epoch: p.Epoch,
	}
}

func writePlacements(w io.Writer, all []placementView) {
	fmt.Fprintln(w, "TENANT\tSTATE\tMODEL\tHOME\tEPOCH\tID")
	for _, p := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", p.Slug, p.State, p.Model, p.Home, p.Epoch, p.ID)
	}
}

// tenantView is a tenant as it is printed.
type tenantView struct {
	placementView
	Tier        string     `json:"tier"`
	Region      string     `json:"region"`
	CreatedAt   time.Time  `json:"created_at"`
	RemoveAfter *time.Time `json:"remove_after"` // null unless it is to be removed
}

func viewTenant(t placement.Tenant) tenantView {
	return tenantView{viewPlacement(t.Placement()), t.Tier, t.Region, t.CreatedAt, t.RemoveAfter}
}

// tenantAdd are the flags of `tenant add`.
type tenantAdd struct {
	model, cluster, strategy, tier, region, id string
	dryRun                                     bool
}

func newTenantAddCmd(a *app) *cobra.Command {
	var args tenantAdd
	cmd := &cobra.Command{
		Use:   "add SLUG",
		Short: "Bring a tenant in: choose where it lives, make its home, open it",
		Long: `Bring a tenant in: choose where it lives, make its home and open it. The same command again goes on where
it was interrupted; one that fails is undone.

Its id is a new uuid unless --id gives one. Where ids are text, the slug is the default; where they are
bigint, --id is needed.`,
		Example: `  landlord tenant add acme --model schema
  landlord tenant add acme --model database --cluster b
  landlord tenant add acme --model shared --strategy hash --region eu --id 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			req, err := args.request(names[0])
			if err != nil {
				return usageError("%w", lines(err))
			}
			return a.addTenant(cmd.Context(), req, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&args.model, "model", "", "shared, schema or database")
	flags.StringVar(&args.cluster, "cluster", "", "`name` of the cluster where it is to live (default: one is chosen)")
	flags.StringVar(&args.strategy, "strategy", "", "how a cluster is chosen: least-loaded or hash (default least-loaded)")
	flags.StringVar(&args.tier, "tier", "", "only clusters of the tier of this `name`")
	flags.StringVar(&args.region, "region", "", "only clusters of the region of this `name`")
	flags.StringVar(&args.id, "id", "", "the tenant's `id`")
	flags.BoolVar(&args.dryRun, "dry-run", false, "only show where it would live")
	_ = cmd.MarkFlagRequired("model") // fails only for a flag that does not exist
	return cmd
}

// request is what the flags ask for, but for the id.
func (args tenantAdd) request(slug string) (placement.Request, error) {
	req := placement.Request{
		Slug: tenant.Slug(slug), Model: placement.Model(args.model), Strategy: placement.Strategy(args.strategy),
		Cluster: args.cluster, Tier: args.tier, Region: args.region,
	}
	return req, req.Validate()
}

func (a *app) addTenant(ctx context.Context, req placement.Request, args tenantAdd) error {
	h, err := a.houseWithKeys(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if req.ID, err = h.newID(ctx, args.id, req.Slug); err != nil {
		return err
	}
	if req.Model != placement.ModelShared {
		if _, err := h.tables.load(); err != nil { // rather than after its home was begun
			return err
		}
	}
	if args.dryRun {
		return a.planTenant(ctx, h, req)
	}
	p, err := h.service.Add(ctx, req)
	if err != nil {
		return err
	}
	return a.showPlacement(p)
}

// newID is the id that was given, or the one that follows from the slug; zero where the catalog makes one.
func (h *house) newID(ctx context.Context, given string, slug tenant.Slug) (tenant.ID, error) {
	if given != "" {
		return h.parseID(ctx, given)
	}
	settings, err := h.catalog.Settings(ctx)
	if err != nil {
		return tenant.ID{}, err
	}
	switch settings.IDType {
	case tenant.BigInt:
		return tenant.ID{}, usageError("tenant ids of this installation are bigint: give one with --id")
	case tenant.Text:
		return settings.IDType.Parse(string(slug))
	}
	return tenant.ID{}, nil
}

// planTenant shows where a tenant would live. What others add in the meantime may change that.
func (a *app) planTenant(ctx context.Context, h *house, req placement.Request) error {
	_, err := h.catalog.TenantBySlug(ctx, req.Slug)
	if err == nil {
		return fmt.Errorf("add tenant %s: %w", req.Slug, placement.ErrExists)
	}
	if !errors.Is(err, placement.ErrUnknownTenant) {
		return err
	}
	if req.ID.IsZero() && req.Strategy == placement.Hash {
		return usageError("--strategy hash goes by the id: give the one that it is to have with --id")
	}
	clusters, err := h.catalog.Usage(ctx)
	if err != nil {
		return err
	}
	c, err := placement.Choose(req, clusters)
	if err != nil {
		return fmt.Errorf("add tenant %s: %w", req.Slug, err)
	}
	out := struct {
		Slug    string `json:"slug"`
		Model   string `json:"model"`
		Cluster string `json:"cluster"`
		DryRun  bool   `json:"dry_run"`
	}{string(req.Slug), string(req.Model), c.Name, true}
	return a.show(out, func(w io.Writer) {
		fmt.Fprintf(w, "tenant %s would live on cluster %s as %s\n", out.Slug, out.Cluster, out.Model)
	})
}

func (a *app) showPlacement(p placement.Placement) error {
	view := viewPlacement(p)
	return a.show(view, func(w io.Writer) { writePlacements(w, []placementView{view}) })
}

func newTenantListCmd(a *app) *cobra.Command {
	var state, cluster, model string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show all tenants, or those in a state, on a cluster, of a model",
		Example: `  landlord tenant list --state suspended
  landlord tenant list --json | jq -r '.tenants[].slug'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := placement.Filter{Cluster: cluster}
			var err error
			if state != "" {
				f.State, err = placement.ParseState(state)
			}
			if err == nil && model != "" {
				f.Model, err = placement.ParseModel(model)
			}
			if err != nil {
				return usageError("%w", err)
			}
			return a.listTenants(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "provisioning, active, suspended, moving or removing")
	cmd.Flags().StringVar(&cluster, "cluster", "", "`name` of a cluster")
	cmd.Flags().StringVar(&model, "model", "", "shared, schema or database")
	return cmd
}

func (a *app) listTenants(ctx context.Context, f placement.Filter) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	found, err := h.catalog.Tenants(ctx, f)
	if err != nil {
		return err
	}
	views, placements := []tenantView{}, []placementView{}
	for _, t := range found {
		views = append(views, viewTenant(t))
		placements = append(placements, viewPlacement(t.Placement()))
	}
	return a.show(map[string]any{"tenants": views}, func(w io.Writer) {
		if len(placements) == 0 {
			fmt.Fprintln(w, "no tenants")
			return
		}
		writePlacements(w, placements)
	})
}

// writeFields writes a tenant one line for each thing there is to say.
func (t tenantView) writeFields(w io.Writer) {
	rows := [][2]string{
		{"tenant", t.Slug},
		{"id", t.ID},
		{"state", t.State},
		{"model", t.Model},
		{"home", t.Home},
		{"epoch", fmt.Sprint(t.Epoch)},
		{"tier", cmp.Or(t.Tier, "-")},
		{"region", cmp.Or(t.Region, "-")},
		{"created", t.CreatedAt.Local().Format(time.RFC3339)},
	}
	if t.RemoveAfter != nil {
		rows = append(rows, [2]string{"removal due", t.RemoveAfter.Local().Format(time.RFC3339)})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
}
