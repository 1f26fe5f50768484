package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/isolation/audit"
	"github.com/landlord-go/landlord/placement"
)

// auditAtOnce is how many databases of a cluster are audited together.
const auditAtOnce = 4

// auditConfig is audit of landlord.yaml.
type auditConfig struct {
	Allow []allowConfig `mapstructure:"allow"`
}

// allowConfig is an entry of audit.allow; see audit.Allowed for what the fields mean.
type allowConfig struct {
	Rule   string `mapstructure:"rule"`
	Object string `mapstructure:"object"`
	Reason string `mapstructure:"reason"`
}

func (c allowConfig) allowed() audit.Allowed { return audit.Allowed(c) }

func newAuditCmd(a *app) *cobra.Command {
	var list bool
	var fix auditFix
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove that nothing in the databases lets one tenant see another",
		Long: `Prove that nothing in the databases lets one tenant see another: roles, row-level security, policies, keys, views,
functions, grants, in every home of the fleet. Each finding names the object, the risk, and the SQL that mends it.

It reads only. --fix shows and runs the SQL of the findings that can be mended safely, which is what landlord itself would have
made, and audits again. On a terminal it asks before it begins, unless --yes is given.

What is so on purpose is allowed in landlord.yaml, with a reason:

  audit:
    allow:
      - rule: publication
        object: publication search
        reason: feeds the search index, which asks for the tenant itself

Exit status: 0 no errors, 4 some error that nothing allows, 3 some database could not be looked at or mended.`,
		Example: `  landlord audit
  landlord audit --json | jq '.findings[] | {rule, object, sql}'
  landlord audit --fix --dry-run
  landlord audit --list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case list:
				return a.showAuditRules()
			case !fix.wanted && (fix.yes || fix.dryRun):
				return usageError("--yes and --dry-run go with --fix")
			}
			return a.audit(cmd.Context(), fix)
		},
	}
	cmd.Flags().BoolVar(&fix.wanted, "fix", false, "mend what can be mended safely")
	cmd.Flags().BoolVar(&fix.yes, "yes", false, "with --fix: do not ask")
	cmd.Flags().BoolVar(&fix.dryRun, "dry-run", false, "with --fix: only show what would be run")
	cmd.Flags().BoolVar(&list, "list", false, "show the rules")
	return cmd
}

func (a *app) audit(ctx context.Context, fix auditFix) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	places, err := h.auditPlaces(ctx)
	if err != nil {
		return err
	}
	if err := a.auditAll(ctx, places); err != nil {
		return err
	}
	var mending error
	if fix.wanted {
		goOn, err := a.mayFix(ctx, places, fix)
		if err != nil || !goOn {
			return err
		}
		mending = a.mend(ctx, places, h.config.Audit.Allow)
		if err := a.auditAll(ctx, places); err != nil {
			return err
		}
	}
	out := viewAudit(places, h.config.Audit.Allow)
	if err := a.show(out, out.write); err != nil {
		return err
	}
	switch {
	case mending != nil:
		return partly(mending)
	case out.Errors > 0:
		return &statusError{status: exitFindings}
	case len(out.Unknown) > 0:
		return partly(fmt.Errorf("%d databases could not be looked at: see the reasons, and run this again", len(out.Unknown)))
	}
	return nil
}

// auditPlace is one database of the fleet and what the audit found there.
type auditPlace struct {
	cluster  placement.Cluster
	database placement.Database
	want     audit.Database

	findings []audit.Finding
	err      error // it could not be looked at
}

func (p *auditPlace) name() string { return p.database.Cluster + "/" + p.database.Name }

// auditPlaces lists all databases of the catalog with the homes in them.
func (h *house) auditPlaces(ctx context.Context) ([]*auditPlace, error) {
	clusters, err := h.catalog.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	databases, err := h.catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := h.catalog.Tenants(ctx, placement.Filter{})
	if err != nil {
		return nil, err
	}
	byCluster := make(map[string]placement.Cluster)
	for _, c := range clusters {
		byCluster[c.Name] = c
	}
	homes := make(map[[2]string][]audit.Home)
	for _, t := range tenants {
		if t.Model != placement.ModelShared && t.State != placement.StateProvisioning {
			at := [2]string{t.Home.Cluster, t.Home.Database}
			homes[at] = append(homes[at], audit.Home{Schema: t.Home.Schema, Tenant: t.ID.String()})
		}
	}
	places := make([]*auditPlace, len(databases))
	for i, d := range databases {
		mode, err := isolation.ParseMode(d.Mode)
		if err != nil {
			return nil, fmt.Errorf("audit %s/%s: %w", d.Cluster, d.Name, err)
		}
		p := &auditPlace{cluster: byCluster[d.Cluster], database: d, want: audit.Database{Login: d.Login, Mode: mode}}
		if d.Model == placement.ModelShared {
			p.want.Homes = append(p.want.Homes, audit.Home{Schema: placement.SharedSchema})
		}
		p.want.Homes = append(p.want.Homes, homes[[2]string{d.Cluster, d.Name}]...)
		places[i] = p
	}
	return places, nil
}

// auditAll looks at all places. Its error is that ctx has ended; why a place could not be looked at is the place's own.
func (a *app) auditAll(ctx context.Context, places []*auditPlace) error {
	a.eachCluster(places, func(p *auditPlace) {
		p.findings = nil
		p.err = asOperator(ctx, p.cluster, p.database.Name, func(conn *pgx.Conn) (err error) {
			p.findings, err = audit.Check(ctx, conn, p.want)
			return err
		})
	})
	// What is said of a server is said once.
	said := make(map[string]bool)
	for _, p := range places {
		p.findings = slices.DeleteFunc(p.findings, func(f audit.Finding) bool {
			key := p.cluster.Name + "\x00" + f.Rule + "\x00" + f.Object + "\x00" + f.Detail
			again := f.Server && said[key]
			said[key] = true
			return again
		})
	}
	return ctx.Err()
}

// eachCluster runs fn for all places, a few of each cluster at a time.
func (a *app) eachCluster(places []*auditPlace, fn func(*auditPlace)) {
	byCluster := make(map[string][]*auditPlace)
	for _, p := range places {
		byCluster[p.cluster.Name] = append(byCluster[p.cluster.Name], p)
	}
	var clusters errgroup.Group
	for _, here := range byCluster {
		clusters.Go(func() error {
			var g errgroup.Group
			g.SetLimit(auditAtOnce)
			for _, p := range here {
				g.Go(func() error {
					fn(p)
					return nil
				})
			}
			return g.Wait()
		})
	}
	_ = clusters.Wait() // fn has no errors
}

// mend runs the safe SQL of all findings that nothing allows.
func (a *app) mend(ctx context.Context, places []*auditPlace, allow []allowConfig) error {
	var errs []error
	for _, p := range places {
		wanted := slices.DeleteFunc(slices.Clone(p.findings), func(f audit.Finding) bool {
			return !f.Safe || slices.ContainsFunc(allow, func(c allowConfig) bool { return c.allowed().Covers(f) })
		})
		if len(wanted) == 0 {
			continue
		}
		err := asOperator(ctx, p.cluster, p.database.Name, func(conn *pgx.Conn) error {
			mended, err := audit.Fix(ctx, conn, wanted)
			a.progress("%s: mended %d findings", p.name(), mended)
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name(), err))
		}
	}
	return errors.Join(errs...)
}
