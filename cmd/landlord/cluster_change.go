package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/landlord-go/landlord/placement"
)

// clusterChange is what `cluster set` prints.
type clusterChange struct {
	clusterView
	Changed []string `json:"changed"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

func newClusterSetCmd(a *app) *cobra.Command {
	var to clusterConfig
	var state string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a cluster's capacity, connections, labels, state, endpoint or credential references",
		Long: `Change what the catalog says of a cluster; what is not named stays. Routers follow a new endpoint by
themselves. After a new secret run 'landlord init', which gives the logins the passwords that follow from it.

A cluster that is 'full' takes no more tenants. A capacity below the present number does not touch those
who live there. Routers keep to a new number of connections within seconds; one in use is closed when its use ends.`,
		Example: `  landlord cluster set a --capacity 200 --tier gold
  landlord cluster set a --connections 150
  landlord cluster set a --state full`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := to.absolute(); err != nil {
				return err
			}
			if state != "" && state != string(placement.ClusterActive) && state != string(placement.ClusterFull) {
				return usageError("--state %q: use active or full; 'landlord cluster drain' sets draining", state)
			}
			alter := alteration(cmd.Flags(), to, placement.ClusterState(state))
			if alter == nil {
				return usageError("there is nothing to change: name a flag")
			}
			return a.setCluster(cmd.Context(), args[0], alter, dryRun)
		},
	}
	clusterFlags(cmd.Flags(), &to)
	cmd.Flags().StringVar(&state, "state", "", "active or full")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return cmd
}

// alteration sets the fields whose flags were given, nil when there are none.
func alteration(flags *pflag.FlagSet, to clusterConfig, state placement.ClusterState) func(*placement.Cluster) {
	var sets []func(*placement.Cluster)
	for name, set := range map[string]func(*placement.Cluster){
		"endpoint":    func(c *placement.Cluster) { c.Endpoint = to.Endpoint },
		"operator":    func(c *placement.Cluster) { c.Operator = to.Operator },
		"app":         func(c *placement.Cluster) { c.App = to.App },
		"admin":       func(c *placement.Cluster) { c.Admin = to.Admin },
		"region":      func(c *placement.Cluster) { c.Region = to.Region },
		"tier":        func(c *placement.Cluster) { c.Tier = to.Tier },
		"capacity":    func(c *placement.Cluster) { c.Capacity = to.Capacity },
		"connections": func(c *placement.Cluster) { c.Connections = to.Connections },
		"state":       func(c *placement.Cluster) { c.State = state },
	} {
		if flags.Changed(name) {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return nil
	}
	return func(c *placement.Cluster) {
		for _, set := range sets {
			set(c)
		}
	}
}

func (a *app) setCluster(ctx context.Context, name string, alter func(*placement.Cluster), dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	before, after, err := h.alterCluster(ctx, name, alter, dryRun)
	if err != nil {
		return err
	}
	out := clusterChange{clusterView: viewCluster(after), Changed: changes(before, after.Cluster), DryRun: dryRun}
	if out.Changed == nil {
		out.Changed = []string{}
	}
	if err := a.showClusterChange(out); err != nil {
		return err
	}
	for _, entry := range h.config.Clusters {
		configured := after.Cluster
		if follow(&configured, entry.cluster()); entry.Name == name && configured != after.Cluster {
			a.progress("the configuration says otherwise of cluster %s: change it there too, or the next 'landlord init' changes it back", name)
		}
	}
	return nil
}

func (h *house) alterCluster(ctx context.Context, name string, alter func(*placement.Cluster), dryRun bool) (before placement.Cluster, after placement.Usage, err error) {
	if after, err = h.usage(ctx, name); err != nil {
		return before, after, err
	}
	if before = after.Cluster; dryRun {
		alter(&after.Cluster)
		return before, after, after.Validate()
	}
	after.Cluster, err = h.catalog.UpdateCluster(ctx, name, func(c *placement.Cluster) error {
		before = *c
		alter(c)
		return nil
	})
	return before, after, err
}

func (a *app) showClusterChange(out clusterChange) error {
	return a.show(out, func(w io.Writer) {
		switch {
		case len(out.Changed) == 0:
			fmt.Fprintf(w, "cluster %s: nothing to change\n", out.Name)
		case out.DryRun:
			fmt.Fprintf(w, "cluster %s: would change %s\n", out.Name, strings.Join(out.Changed, ", "))
		default:
			fmt.Fprintf(w, "cluster %s: changed %s\n", out.Name, strings.Join(out.Changed, ", "))
		}
	})
}

func newClusterRemoveCmd(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a cluster on which no tenant lives",
		Long: `Forget a cluster on which no tenant lives. The server itself is not touched: roles and the shared database
stay as they are, and 'landlord cluster add' takes them up again. A cluster of the configuration must be
taken out there too, or the next 'landlord init' adds it again.`,
		Example: "  landlord cluster remove a",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.removeCluster(cmd.Context(), args[0], dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell whether it could be forgotten")
	return cmd
}

func (a *app) removeCluster(ctx context.Context, name string, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	u, err := h.usage(ctx, name)
	if err != nil {
		return err
	}
	if u.Tenants > 0 {
		return fmt.Errorf("remove cluster %s: %w: %d tenants live there ('landlord tenant list --cluster %[1]s'): remove them first, "+
			"and let no more in ('landlord cluster drain %[1]s')", name, placement.ErrInUse, u.Tenants)
	}
	if !dryRun {
		// The shared database is only forgotten. A tenant that comes in between makes the second step fail; 'landlord init'
		// records the database again.
		if err := h.catalog.DeleteDatabase(ctx, name, u.SharedDatabase); err != nil {
			return err
		}
		if err := h.catalog.RemoveCluster(ctx, name); err != nil {
			return fmt.Errorf("%w; 'landlord init' puts the cluster in order again", err)
		}
	}
	return a.show(map[string]any{"cluster": name, "removed": !dryRun}, func(w io.Writer) {
		if dryRun {
			fmt.Fprintf(w, "would forget cluster %s\n", name)
			return
		}
		fmt.Fprintf(w, "cluster %s is forgotten; its server was not touched\n", name)
	})
}
