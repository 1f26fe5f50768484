package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// demoLength is how long the demo's tenants are worked for.
const demoLength = 5 * time.Second

// demoPairs is how many of the demo's tenants, from the front, are neighbours two by two: same model, same cluster.
const demoPairs = 3

// demoTenants are the neighbours, and one more of the models that stay on one server otherwise.
var demoTenants = []struct {
	slug    tenant.Slug
	model   placement.Model
	cluster string
}{
	{"corner-shop", placement.ModelShared, "a"},
	{"flower-shop", placement.ModelShared, "a"},
	{"department-store", placement.ModelSchema, "a"},
	{"book-store", placement.ModelSchema, "a"},
	{"bank", placement.ModelDatabase, "b"},
	{"insurer", placement.ModelDatabase, "b"},
	{"kiosk", placement.ModelShared, "b"},
	{"library", placement.ModelSchema, "b"},
}

// demoResult is what the demo shows.
type demoResult struct {
	Traffic   []demoTraffic `json:"traffic"`
	Migration demoMigration `json:"migration"`
	Suspended string        `json:"suspended"` // what a suspended tenant's call got
	Attempts  []demoAttempt `json:"attempts"`
	Move      demoMove      `json:"move"`
	Seconds   float64       `json:"seconds"`
}

func newDemoCmd(a *app) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole on two local servers, in under a minute",
		Long: `Start two local servers, make a catalog and tenants in all three models, let the same application code
work for all of them, migrate all their homes while it works, try to cross from one tenant to another in every
model, beside the same thing done at home, and move a tenant to another server and model and back while it is
worked for. Nothing stays behind, unless --keep: then everything is where 'landlord dev up' would have put it,
and 'landlord dev down --purge' takes it away.`,
		Example: "  landlord demo\n  landlord demo --keep && landlord tenant list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep {
				d, err := openDevEnv()
				if err != nil {
					return err
				}
				return a.demo(cmd.Context(), d)
			}
			return a.passingDemo(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the servers running, under .landlord")
	return cmd
}

// passingDemo runs the demo in a folder of its own and takes everything away again, also after Ctrl-C. What
// it leaves when it is killed, the next one takes away.
func (a *app) passingDemo(ctx context.Context) (err error) {
	d, release, err := a.claimDemoFolder(ctx)
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.down(ctx, true), release())
	}()
	return a.demo(ctx, d)
}

func (a *app) demo(ctx context.Context, d devEnv) error {
	began := time.Now()
	if _, err := d.up(ctx, a.progress); err != nil {
		return err
	}
	a.configPath = d.configFile()
	if _, err := a.config(); err != nil {
		return err
	}
	done := initResult{Mode: map[string]string{}, Why: map[string]string{}}
	if err := a.runInit(ctx, &done); err != nil {
		return err
	}
	a.progress("catalog, roles, keys and shared homes are ready (%d steps)", len(done.Steps))
	h, err := a.houseWithKeys(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	tenants, err := a.demoAdd(ctx, h)
	if err != nil {
		return err
	}
	keys, err := readKeys(h.config.Keys)
	if err != nil {
		return err
	}
	r, err := router.New(router.Config{Catalog: h.catalog, Keys: keys, Pools: pools.Config{MaxConns: 4}})
	if err != nil {
		return err
	}
	defer r.Close()

	var result demoResult
	a.progress("the same application code works for all of them, %d clients each", demoClients)
	if result.Traffic, err = demoRun(ctx, r, tenants, demoLength); err != nil {
		return err
	}
	if result.Migration, err = a.demoMigrate(ctx, r, tenants, h.config.Migrations); err != nil {
		return err
	}
	if result.Suspended, err = demoSuspend(ctx, h, r, tenants[0]); err != nil {
		return err
	}
	if result.Attempts, err = demoProof(ctx, h, r, tenants); err != nil {
		return err
	}
	if result.Move, err = a.demoMove(ctx, r, tenants[0]); err != nil {
		return err
	}
	result.Seconds = time.Since(began).Seconds()
	if err := a.show(result, result.write); err != nil {
		return err
	}
	if result.crossed() || result.Migration.Failed > 0 || !result.Move.Load.Clean() {
		return errors.New("something did not end as it must: see above")
	}
	return nil
}

// demoAdd brings the demo's tenants in, but for those that an earlier demo has left.
func (a *app) demoAdd(ctx context.Context, h *house) ([]placement.Placement, error) {
	settings, err := h.catalog.Settings(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]placement.Placement, 0, len(demoTenants))
	for _, t := range demoTenants {
		old, err := h.catalog.TenantBySlug(ctx, t.slug)
		if err == nil && old.State == placement.StateActive {
			all = append(all, old.Placement())
			continue
		}
		if err != nil && !errors.Is(err, placement.ErrUnknownTenant) {
			return nil, err
		}
		began := time.Now()
		id, err := settings.IDType.New()
		if err != nil {
			return nil, err
		}
		p, err := h.service.Add(ctx, placement.Request{ID: id, Slug: t.slug, Model: t.model, Cluster: t.cluster})
		if err != nil {
			return nil, err
		}
		a.progress("tenant %s: model %s at %s, in %.0f ms", p.Slug, p.Model, p.Home, milliseconds(time.Since(began)))
		all = append(all, p)
	}
	return all, nil
}

// demoSuspend suspends a tenant under a router that has not heard of it, and returns what the tenant's next call got.
func demoSuspend(ctx context.Context, h *house, r *router.Router, p placement.Placement) (string, error) {
	t, err := h.catalog.Tenant(ctx, p.Tenant)
	if err != nil {
		return "", err
	}
	if err := h.service.Suspend(ctx, t); err != nil {
		return "", err
	}
	_, refused := demoShop{r.Tenant(p.Tenant)}.revenue(ctx, "nobody@example.com")
	if err := h.service.Resume(ctx, t); err != nil {
		return "", err
	}
	if _, err := (demoShop{r.Tenant(p.Tenant)}).revenue(ctx, "nobody@example.com"); err != nil {
		return "", err
	}
	if !errors.Is(refused, router.ErrSuspended) {
		return "", fmt.Errorf("a suspended tenant was not refused: %w", refused)
	}
	return refused.Error(), nil
}

// demoProof tries to cross between the two tenants of each model.
func demoProof(ctx context.Context, h *house, r *router.Router, tenants []placement.Placement) ([]demoAttempt, error) {
	var all []demoAttempt
	for i := 0; i < 2*demoPairs; i += 2 {
		c, err := h.catalog.Cluster(ctx, tenants[i].Home.Cluster)
		if err != nil {
			return nil, err
		}
		login := isolation.AppRole
		if tenants[i].Model == placement.ModelDatabase {
			login = placement.DedicatedLogin(tenants[i].Home.Database)
		}
		attempts, err := demoCrossing{r: r, cluster: c, home: tenants[i], next: tenants[i+1], login: login}.proof(ctx)
		if err != nil {
			return nil, fmt.Errorf("try to cross in model %s: %w", tenants[i].Model, err)
		}
		all = append(all, attempts...)
	}
	return all, nil
}

func (d demoResult) write(w io.Writer) {
	fmt.Fprintln(w, "TENANT\tMODEL\tHOME\tFIRST CALL\tTRANSACTIONS\tREADS\tMEDIAN\tP99")
	for _, t := range d.Traffic {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f ms\t%d\t%d\t%.2f ms\t%.2f ms\n",
			t.Tenant, t.Model, t.Home, t.FirstMS, t.Transactions, t.Reads, t.MedianMS, t.P99MS)
	}
	d.Migration.write(w)
	fmt.Fprintf(w, "\nA suspended tenant's next call, from a router that has not heard of it:\n  %s\n\n", d.Suspended)
	fmt.Fprintln(w, "MODEL\tATTEMPT\tAT HOME\tACROSS\t")
	for _, t := range d.Attempts {
		verdict := "refused"
		if t.Crossed {
			verdict = "NOT AS IT MUST BE"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Model, t.What, t.AtHome, t.Across, verdict)
	}
	d.Move.write(w)
	if !d.crossed() {
		fmt.Fprintf(w, "\nNo attempt got a row that was not its own. All of it took %.0f s.\n", d.Seconds)
	}
}

// crossed tells whether any attempt ended as it must not.
func (d demoResult) crossed() bool {
	return slices.ContainsFunc(d.Attempts, func(t demoAttempt) bool { return t.Crossed })
}
