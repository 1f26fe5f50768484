package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// Plan is what a run would do.
type Plan struct {
	Targets  []placement.RunTarget // what is behind or could not be looked at, each in its wave
	UpToDate int                   // homes that have all
	Groups   []Group
	Waves    int
	Canary   bool // one failure in the first wave halts the run
	// Gate is the contract files that come after that, and what they wait for as far as it can be known before; nil: none do.
	Gate *Gate

	beyond     int64    // the last contract file that a home has and the gate does not let run; 0: none
	starts     []string // the first file that each target lacks; empty: it could not be looked at
	phases     []string // of the files, in their order
	allowDrift bool
}

// Err is why a run of the plan can only fail: all that it would bring somewhere has what the files do not fit. It is nil where there is
// nothing to do.
func (p Plan) Err() error {
	var why []error
	for _, g := range p.Groups {
		if !g.Blocked {
			return nil
		}
		why = append(why, fmt.Errorf("%s: %s", g.Example, g.Problem))
	}
	return errors.Join(why...)
}

// Group is what several targets have in common: they lack the same files, or have the same problem.
type Group struct {
	Scope   migrate.Scope
	Files   []string // what they lack, in order
	Problem string   // why they cannot be migrated, or not be looked at
	Blocked bool     // the problem is that the files do not fit what they have, so that nobody tries
	Count   int
	Example placement.Home
}

// Plan looks at all homes, with one query in each database. It changes nothing.
func (f *Fleet) Plan(ctx context.Context, o Options) (Plan, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return Plan{}, err
	}
	p, err := part.plan(ctx, aim{}, o)
	if err != nil {
		return Plan{}, err
	}
	return part.tellPlan(ctx, p)
}

func (f *Fleet) plan(ctx context.Context, to aim, o Options) (Plan, error) {
	all, err := f.targets(ctx)
	if err != nil {
		return Plan{}, err
	}
	first, err := f.homesOf(ctx, o.First)
	if err != nil {
		return Plan{}, err
	}
	p, err := f.compare(ctx, to, all)
	if err != nil {
		return Plan{}, err
	}
	sizes, err := f.sizes(ctx, p.Targets)
	if err != nil {
		return Plan{}, err
	}
	p.Waves, p.Canary = assignWaves(p.Targets, p.starts, sizes, first)
	if to.down {
		p.Waves = homesFirst(p.Targets, p.Waves)
	}
	p.allowDrift = o.AllowDrift || f.cfg.AllowDrift
	if len(p.Targets) > 0 && o.StopAfter > p.Waves {
		return Plan{}, fmt.Errorf("plan a run: there are %d waves, so that it cannot stop after wave %d", p.Waves, o.StopAfter)
	}
	return p, nil
}

// place is a database of a cluster.
type place struct{ cluster, database string }

// target is a home, or what stands for a database or server, before it is known what it lacks.
type target = placement.RunTarget

// targets lists all there is to migrate. The homes of tenants that are still being made are left out: whoever makes them
// brings them to a version, and [Fleet.late] looks at them again.
func (f *Fleet) targets(ctx context.Context) ([]target, error) {
	databases, err := f.cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	tenants, err := f.cfg.Catalog.Tenants(ctx, placement.Filter{})
	if err != nil {
		return nil, err
	}
	servers, wide := len(f.cfg.Set.Scoped(migrate.ScopeServer)) > 0, len(f.cfg.Set.Scoped(migrate.ScopeDatabase)) > 0
	var all []target
	for _, d := range databases {
		shared := d.Model == placement.ModelShared
		at := func(scope migrate.Scope, schema string) target {
			return target{Home: placement.Home{Cluster: d.Cluster, Database: d.Name, Schema: schema}, Scope: string(scope)}
		}
		if shared && servers {
			all = append(all, at(migrate.ScopeServer, migrate.ServerPlace))
		}
		if wide {
			all = append(all, at(migrate.ScopeDatabase, migrate.DatabasePlace))
		}
		if shared {
			all = append(all, at(migrate.ScopeTenant, placement.SharedSchema))
		}
	}
	for _, t := range tenants {
		if own(t) {
			all = append(all, home(t))
		}
	}
	return all, nil
}

// own tells whether a tenant has a home of its own that is finished and will not go at any moment.
func own(t placement.Tenant) bool {
	return t.Model != placement.ModelShared && t.State != placement.StateProvisioning && !t.RemovalDue
}

func home(t placement.Tenant) target {
	return target{Home: t.Home, Scope: string(migrate.ScopeTenant), Tenant: t.ID.String()}
}

// homesOf returns where the named tenants live.
func (f *Fleet) homesOf(ctx context.Context, slugs []string) (map[placement.Home]bool, error) {
	homes := make(map[placement.Home]bool)
	for _, s := range slugs {
		slug, err := tenant.ParseSlug(s)
		if err != nil {
			return nil, err
		}
		t, err := f.cfg.Catalog.TenantBySlug(ctx, slug)
		if err != nil {
			return nil, err
		}
		homes[t.Home] = true
	}
	return homes, nil
}

// compare asks each database what its places have, and judges that. Databases that cannot be reached are part of the plan:
// their targets may be reached when their turn comes.
func (f *Fleet) compare(ctx context.Context, to aim, all []target) (Plan, error) {
	byPlace := make(map[place][]target)
	for _, t := range all {
		at := place{t.Home.Cluster, t.Home.Database}
		byPlace[at] = append(byPlace[at], t)
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return Plan{}, err
	}
	var g errgroup.Group
	g.SetLimit(2 * f.cfg.Workers)
	var mu sync.Mutex // guards p, groups and lacked
	var p Plan
	groups := make(map[string]*Group)
	lacked := make(map[int64]string) // phases, by version
	note := func(t target, files []string, problem string) {
		p.Targets, p.starts = append(p.Targets, t), append(p.starts, strings.Join(files[:min(len(files), 1)], ""))
		key := t.Scope + "\x00" + fmt.Sprint(files) + "\x00" + problem
		if groups[key] == nil {
			groups[key] = &Group{Scope: migrate.Scope(t.Scope), Files: files, Problem: problem, Example: t.Home, Blocked: t.State == placement.TargetFailed}
		}
		groups[key].Count++
	}
	for at, targets := range byPlace {
		g.Go(func() error {
			have, err := reach.look(ctx, at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				for _, t := range targets {
					note(t, nil, redact(err))
				}
				return ctx.Err()
			}
			for _, t := range targets {
				pending, err := have.pending(f.cfg.Set, to, t)
				switch {
				case err != nil:
					version, err := f.beyond(have, t, err)
					p.beyond = max(p.beyond, version)
					// Trying would find the same: it stands in the run as failed, and says nothing of the files.
					t.State, t.Error = placement.TargetFailed, err.Error()
					note(t, nil, err.Error())
				case len(pending) > 0:
					if err := to.check(pending); err != nil {
						return err
					}
					for _, m := range pending {
						lacked[m.Version] = string(m.Phase)
					}
					note(t, names(pending), "")
				case t.Scope == string(migrate.ScopeTenant):
					p.UpToDate++
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Plan{}, fmt.Errorf("plan a run: %w", err)
	}
	for _, version := range slices.Sorted(maps.Keys(lacked)) {
		if !slices.Contains(p.phases, lacked[version]) {
			p.phases = append(p.phases, lacked[version])
		}
	}
	for _, group := range groups {
		p.Groups = append(p.Groups, *group)
	}
	slices.SortFunc(p.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(order[a.Scope], order[b.Scope]), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Example.String(), b.Example.String()))
	})
	return p, nil
}

// order is that in which scopes are migrated.
var order = map[migrate.Scope]int{migrate.ScopeServer: 0, migrate.ScopeDatabase: 1, migrate.ScopeTenant: 2}

func names(pending []migrate.Migration) []string {
	files := make([]string, len(pending))
	for i, m := range pending {
		files[i] = m.File
	}
	return files
}

// late returns what came into being since a run was planned, and is behind: homes made by a process with older files, and those that
// tenants have moved to. One that took longer than an hour to make may be missed; the next plan finds it.
func (f *Fleet) late(ctx context.Context, run placement.Run) ([]target, error) {
	known, err := f.cfg.Catalog.RunTargets(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	has := make(map[placement.Home]bool, len(known))
	for _, t := range known {
		has[t.Home] = true
	}
	tenants, err := f.cfg.Catalog.Tenants(ctx, placement.Filter{})
	if err != nil {
		return nil, err
	}
	since := run.StartedAt.Add(-time.Hour)
	moved, err := f.cfg.Catalog.MovedSince(ctx, since)
	if err != nil {
		return nil, err
	}
	var fresh []target
	for _, t := range tenants {
		if own(t) && !has[t.Home] && (t.CreatedAt.After(since) || moved[t.ID.String()]) {
			fresh = append(fresh, home(t))
			database := target{
				Home:  placement.Home{Cluster: t.Home.Cluster, Database: t.Home.Database, Schema: migrate.DatabasePlace},
				Scope: string(migrate.ScopeDatabase),
			}
			if t.Model == placement.ModelDatabase && !has[database.Home] && len(f.cfg.Set.Scoped(migrate.ScopeDatabase)) > 0 {
				fresh = append(fresh, database)
			}
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	p, err := f.compare(ctx, aimOf(run), fresh)
	if err == nil && !f.allowsDrift(run) {
		err = f.barTargets(ctx, p.Targets)
	}
	for i := range p.Targets {
		p.Targets[i].Wave = run.Waves
	}
	return p.Targets, err
}
