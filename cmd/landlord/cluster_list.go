package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newClusterListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show all clusters and how full they are",
		Example: "  landlord cluster list --json | jq '.clusters[] | {name, tenants, capacity}'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.house(cmd.Context(), nil)
			if err != nil {
				return err
			}
			defer h.Close()
			all, err := h.catalog.Usage(cmd.Context())
			if err != nil {
				return err
			}
			return a.showClusters(all)
		},
	}
}

func (a *app) showClusters(all []placement.Usage) error {
	views := []clusterView{}
	for _, u := range all {
		views = append(views, viewCluster(u))
	}
	return a.show(map[string]any{"clusters": views}, func(w io.Writer) {
		if len(views) == 0 {
			fmt.Fprintln(w, "no clusters: add one with 'landlord cluster add', or name one in the configuration and run 'landlord init'")
			return
		}
		fmt.Fprintln(w, "CLUSTER\tSTATE\tTENANTS\tCONNECTIONS\tTIER\tREGION\tDATABASE\tENDPOINT")
		for _, c := range views {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.Name, c.State, c.load(), c.Connections, cmp.Or(c.Tier, "-"), cmp.Or(c.Region, "-"),
				c.Database, c.Endpoint)
		}
	})
}

// load is how many tenants there are of how many, as text.
func (c clusterView) load() string {
	if c.Capacity == 0 {
		return fmt.Sprintf("%d, no limit", c.Tenants)
	}
	return fmt.Sprintf("%d of %d", c.Tenants, c.Capacity)
}

// databaseView is a database of a cluster as it is printed.
type databaseView struct {
	Name        string `json:"name"`
	Model       string `json:"model"`
	Mode        string `json:"mode"`
	HomeVersion int    `json:"home_version"`
	Login       string `json:"login"`
	Stamp       string `json:"stamp"`
}

// clusterDetail is what `cluster show` prints.
type clusterDetail struct {
	clusterView
	Granted   int            `json:"granted"`   // of the connections, now
	Processes int            `json:"processes"` // that they are granted to
	Databases []databaseView `json:"databases"`
}

func newClusterShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a cluster and its databases",
		Example: "  landlord cluster show a",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.showCluster(cmd.Context(), args[0]) },
	}
}

func (a *app) showCluster(ctx context.Context, name string) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	u, err := h.usage(ctx, name)
	if err != nil {
		return err
	}
	databases, err := h.catalog.Databases(ctx)
	if err != nil {
		return err
	}
	granted, processes, err := h.catalog.Granted(ctx, name)
	if err != nil {
		return err
	}
	out := clusterDetail{clusterView: viewCluster(u), Granted: granted, Processes: processes, Databases: []databaseView{}}
	for _, d := range databases {
		if d.Cluster == name {
			out.Databases = append(out.Databases, databaseView{d.Name, string(d.Model), d.Mode, d.HomeVersion, d.Login, d.Stamp})
		}
	}
	return a.show(out, out.write)
}

func (c clusterDetail) write(w io.Writer) {
	for _, row := range [][2]string{
		{"cluster", c.Name},
		{"state", c.State},
		{"tenants", c.load()},
		{"connections", fmt.Sprintf("%d, of which %d are granted to %d processes", c.Connections, c.Granted, c.Processes)},
		{"tier", cmp.Or(c.Tier, "-")},
		{"region", cmp.Or(c.Region, "-")},
		{"endpoint", c.Endpoint},
		{"operator", c.Operator},
		{"app", c.App},
		{"admin", c.Admin},
		{"databases", strconv.Itoa(len(c.Databases))},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	if len(c.Databases) == 0 {
		return
	}
	fmt.Fprintln(w, "\nDATABASE\tMODEL\tMODE\tOBJECTS\tLOGIN\tSTAMP")
	for _, d := range c.Databases {
		fmt.Fprintf(w, "%s\t%s\t%s\tversion %d\t%s\t%s\n", d.Name, d.Model, d.Mode, d.HomeVersion, d.Login, d.Stamp)
	}
}
