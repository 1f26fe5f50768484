package preflight

import (
	"context"
	"errors"
	"fmt"

	"github.com/landlord-go/landlord/placement"
)

// catalog checks what the catalog knows, and finds the two sides.
func (c *checker) catalog(ctx context.Context) error {
	t := c.Tenant
	c.report.Source = placement.Place{Model: t.Model, Home: t.Home}
	who := "tenant " + string(t.Slug)
	if _, err := placement.ParseModel(string(c.Model)); err != nil {
		return err
	}
	mv, err := c.Catalog.ActiveMove(ctx, t.ID)
	switch {
	case err == nil:
		c.problem(OtherMove, who, fmt.Sprintf("a move to %s is under way since %s: it is %s", mv.Target, mv.StartedAt.UTC().Format("2006-01-02 15:04:05 UTC"), mv.Phase),
			"let it end, complete or abort it ('landlord move status')")
	case !errors.Is(err, placement.ErrNoMove):
		return err
	case t.State != placement.StateActive:
		c.problem(TenantState, who, fmt.Sprintf("the tenant is %s", t.State), stateFix[t.State])
	}
	if c.Model == t.Model && c.Cluster == t.Home.Cluster {
		c.problem(SameHome, who, fmt.Sprintf("the tenant lives at %s as %s already", t.Home, t.Model), "name another model or cluster")
	}
	usage, err := c.Catalog.Usage(ctx)
	if err != nil {
		return err
	}
	for _, u := range usage {
		if u.Name == t.Home.Cluster {
			c.source = &side{name: "source", model: t.Model, home: t.Home, made: true, cluster: u.Cluster}
			if err := c.moves(ctx, u.Name); err != nil {
				return err
			}
		}
		if u.Name == c.Cluster {
			c.capacity(u)
			home := placement.NewHome(placement.ModelShared, u.Cluster, "")
			c.target = &side{name: "target", model: c.Model, home: home, made: c.Model == placement.ModelShared, cluster: u.Cluster}
			c.report.Target = placement.Place{Model: c.Model, Home: placement.NewHome(c.Model, u.Cluster, "")}
			if u.Name != t.Home.Cluster {
				if err := c.moves(ctx, u.Name); err != nil {
					return err
				}
			}
		}
	}
	if c.target == nil {
		c.problem(NoCluster, "cluster "+c.Cluster, "the catalog does not know it", "see 'landlord cluster list', or add it")
	}
	return nil
}

// stateFix says what to do about a tenant that is not active.
var stateFix = map[placement.State]string{
	placement.StateSuspended:    "open it first ('landlord tenant resume')",
	placement.StateProvisioning: "let its onboarding end, or repeat it ('landlord tenant add')",
	placement.StateRemoving:     "take its removal back first ('landlord tenant resume')",
	placement.StateMoving:       "see 'landlord move status'",
}

// capacity checks whether the target cluster takes the tenant. A cluster that it lives on already does.
func (c *checker) capacity(u placement.Usage) {
	if u.Name == c.Tenant.Home.Cluster {
		return
	}
	var what string
	switch {
	case u.State == placement.ClusterFull || u.State == placement.ClusterDraining:
		what = "it is marked " + string(u.State)
	case u.Capacity > 0 && u.Tenants >= u.Capacity:
		what = fmt.Sprintf("it has %d tenants, and its capacity is %d", u.Tenants, u.Capacity)
	default:
		return
	}
	c.problem(ClusterFull, "cluster "+u.Name, what, "change that ('landlord cluster set'), or name another cluster")
}

// moves checks whether one more move fits on a cluster. Those that wait for the end of their rollback window do not count.
func (c *checker) moves(ctx context.Context, cluster string) error {
	all, err := c.Catalog.Moves(ctx, placement.MoveFilter{Cluster: cluster, Active: true})
	if err != nil {
		return err
	}
	n := 0
	for _, mv := range all {
		if mv.Phase != placement.MoveReversing {
			n++
		}
	}
	if n >= c.Limit {
		c.problem(TooManyMoves, "cluster "+cluster, fmt.Sprintf("it takes part in %d moves, and %d may be under way at once", n, c.Limit),
			"let one of them end ('landlord move list')")
	}
	return nil
}
