// Package drift finds the homes that are not what the migrations make of them.
//
// What a home should be is not computed but built: for each cluster, and each version that one of its homes has, a home is made from
// nothing from the same files, in a schema of the cluster's shared database that is dropped again. A home is in sync, or behind, when
// its fingerprint is that of the built home of its version; else it has drifted, and every object that differs is named.
//
// It guarantees that nothing of a tenant is written to, locked or waited for, and that a database which cannot be reached keeps no
// other from being looked at. Objects that files of the scopes database and server make are not looked at.
//
// What to do about a home that has drifted is left to people.
package drift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// State is how a home stands to the migrations.
type State string

// The states.
const (
	InSync  State = "in-sync" // as the files make it, at their last version
	Behind  State = "behind"  // as the files make it, at an earlier version
	Ahead   State = "ahead"   // it has a version that the files do not know, so nothing more can be said
	Drifted State = "drifted" // not as the files make it at its version
	Unknown State = "unknown" // it could not be looked at
)

// Target is a home to look at.
type Target struct {
	Home   placement.Home
	Tenant tenant.ID   // none in a shared home
	Slug   tenant.Slug // likewise
}

// owner is who owns the home, as landlord.secure wants it.
func (t Target) owner() string { return t.Tenant.String() }

// Result is what was found of a target.
type Result struct {
	Target
	State       State
	Version     int64                    // the last that is applied there
	Reason      string                   // why it is ahead or unknown
	Differences []fingerprint.Difference // of a drifted one
}

// Config says what to look at.
type Config struct {
	Catalog *placement.Catalog
	Set     *migrate.Set
	// Progress, if not nil, is told what goes on. It may be called from several goroutines.
	Progress func(format string, args ...any)
}

// How many clusters, and pages of homes of each, are looked at together.
const (
	clustersAtOnce = 4
	pagesAtOnce    = 4
)

// Targets lists the homes of the named tenants, or of all: every shared home, and every home of a tenant's own that is finished and
// not about to go. A tenant that is still being made has no home that could be looked at.
func Targets(ctx context.Context, catalog *placement.Catalog, slugs ...tenant.Slug) ([]Target, error) {
	var tenants []placement.Tenant
	var all []Target
	if len(slugs) == 0 {
		databases, err := catalog.Databases(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range databases {
			if d.Model == placement.ModelShared {
				all = append(all, Target{Home: placement.Home{Cluster: d.Cluster, Database: d.Name, Schema: placement.SharedSchema}})
			}
		}
		if tenants, err = catalog.Tenants(ctx, placement.Filter{}); err != nil {
			return nil, err
		}
	}
	for _, slug := range slugs {
		t, err := catalog.TenantBySlug(ctx, slug)
		if err != nil {
			return nil, err
		}
		if t.State == placement.StateProvisioning {
			return nil, fmt.Errorf("look at tenant %s: it is still %s: finish it with landlord tenant add", slug, t.State)
		}
		if t.Model == placement.ModelShared {
			all = append(all, Target{Home: t.Home})
		}
		tenants = append(tenants, t)
	}
	for _, t := range tenants {
		if t.Model != placement.ModelShared && t.State != placement.StateProvisioning && !t.RemovalDue {
			all = append(all, Target{Home: t.Home, Tenant: t.ID, Slug: t.Slug})
		}
	}
	slices.SortFunc(all, func(a, b Target) int { return strings.Compare(a.Home.String(), b.Home.String()) })
	return slices.Compact(all), nil
}

// Check looks at targets and returns what it found, in their order. What keeps it from looking at one is that one's result; an error
// means that the catalog could not be read, or that ctx has ended.
func Check(ctx context.Context, cfg Config, targets []Target) ([]Result, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	clusters, err := cfg.Catalog.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(targets))
	byCluster := make(map[string][]*Result)
	for i, t := range targets {
		results[i] = Result{Target: t, State: Unknown, Reason: "the catalog does not know its cluster"}
		byCluster[t.Home.Cluster] = append(byCluster[t.Home.Cluster], &results[i])
	}
	var g errgroup.Group
	g.SetLimit(clustersAtOnce)
	for _, cluster := range clusters {
		if here := byCluster[cluster.Name]; len(here) > 0 {
			g.Go(func() error {
				c := &checker{cfg: cfg, cluster: cluster, files: cfg.Set.Scoped(migrate.ScopeTenant)}
				c.check(ctx, here)
				return nil
			})
		}
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("look for drift: %w", err)
	}
	return results, nil
}
