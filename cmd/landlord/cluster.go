package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/landlord-go/landlord/placement"
)

func newClusterCmd(a *app) *cobra.Command {
	return newGroupCmd("cluster", "Say which PostgreSQL servers tenants may live on",
		newClusterAddCmd(a),
		newClusterListCmd(a),
		newClusterShowCmd(a),
		newClusterSetCmd(a),
		newClusterDrainCmd(a),
		newClusterRemoveCmd(a),
	)
}

// clusterView is a cluster as it is printed.
type clusterView struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Tier        string `json:"tier"`
	Region      string `json:"region"`
	Tenants     int    `json:"tenants"`
	Capacity    int    `json:"capacity"`    // 0: no limit
	Connections int    `json:"connections"` // that routers may have open together
	Database    string `json:"database"`
	Endpoint    string `json:"endpoint"`
	Operator    string `json:"operator"`
	App         string `json:"app"`
	Admin       string `json:"admin"`
}

func viewCluster(u placement.Usage) clusterView {
	return clusterView{
		Name: u.Name, State: string(u.State), Tier: u.Tier, Region: u.Region, Tenants: u.Tenants, Capacity: u.Capacity,
		Connections: u.Connections, Database: u.SharedDatabase, Endpoint: u.Endpoint,
		Operator: string(u.Operator), App: string(u.App), Admin: string(u.Admin),
	}
}

// usage is one cluster with its number of tenants.
func (h *house) usage(ctx context.Context, name string) (placement.Usage, error) {
	all, err := h.catalog.Usage(ctx)
	if err != nil {
		return placement.Usage{}, err
	}
	for _, u := range all {
		if u.Name == name {
			return u, nil
		}
	}
	return placement.Usage{}, fmt.Errorf("find cluster %.70q: %w", name, placement.ErrUnknownCluster)
}

// clusterFlags are what `cluster add` and `cluster set` have in common.
func clusterFlags(flags *pflag.FlagSet, c *clusterConfig) {
	flags.StringVar(&c.Endpoint, "endpoint", "", "`connection` string without user, password and database")
	flags.StringVar((*string)(&c.Operator), "operator", "", "`ref` to the operator's connection string: env:NAME or file:/path")
	flags.StringVar((*string)(&c.App), "app", "", "`ref` to the secret behind the application's logins")
	flags.StringVar((*string)(&c.Admin), "admin", "", "`ref` to the secret behind the logins of landlord itself")
	flags.StringVar(&c.Region, "region", "", "`name` that tenants can ask for")
	flags.StringVar(&c.Tier, "tier", "", "`name` that tenants can ask for")
	flags.IntVar(&c.Capacity, "capacity", 0, "greatest `number` of tenants; 0 for no limit")
	flags.IntVar(&c.Connections, "connections", 0, fmt.Sprintf(
		"greatest `number` of connections that all routers together have open; a new cluster has %d unless named", placement.DefaultConnections))
}

// absolute makes references to relative files absolute, as the catalog wants them.
func (c *clusterConfig) absolute() error {
	for _, ref := range []*placement.Ref{&c.Operator, &c.App, &c.Admin} {
		file, ok := strings.CutPrefix(string(*ref), "file:")
		if !ok || file == "" {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		*ref = placement.Ref("file:" + path)
	}
	return nil
}

// changes names the fields in which two clusters differ.
func changes(before, after placement.Cluster) []string {
	var names []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"endpoint", before.Endpoint == after.Endpoint},
		{"database", before.SharedDatabase == after.SharedDatabase},
		{"operator", before.Operator == after.Operator},
		{"app", before.App == after.App},
		{"admin", before.Admin == after.Admin},
		{"region", before.Region == after.Region},
		{"tier", before.Tier == after.Tier},
		{"capacity", before.Capacity == after.Capacity},
		{"connections", before.Connections == after.Connections},
		{"state", before.State == after.State},
	} {
		if !f.same {
			names = append(names, f.name)
		}
	}
	return names
}

func newClusterAddCmd(a *app) *cobra.Command {
	var c clusterConfig
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a server and make it ready for tenants",
		Long: `Add a server to the catalog and make it ready for tenants: roles, the shared database, landlord's objects
and the application's tables. The same command again goes on where it stopped. Credentials are given by
reference (env:NAME, file:/path) and never stored.`,
		Example: `  landlord cluster add c --endpoint 'host=pg3 sslmode=require' --database app \
    --operator env:PG3_OPERATOR --app file:/run/secrets/pg3.app --admin file:/run/secrets/pg3.admin \
    --region eu --capacity 500 --connections 200`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Name = args[0]
			if err := c.absolute(); err != nil {
				return err
			}
			if err := c.cluster().Validate(); err != nil {
				return usageError("%w", lines(err))
			}
			if dryRun {
				return a.planCluster(cmd.Context(), c.cluster())
			}
			return a.addCluster(cmd.Context(), c.cluster())
		},
	}
	clusterFlags(cmd.Flags(), &c)
	cmd.Flags().StringVar(&c.Database, "database", "app", "`name` of the shared database, which is made")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check that the server answers, and show what would be made")
	for _, name := range []string{"endpoint", "operator", "app", "admin"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

// clusterAdded is what `cluster add` prints.
type clusterAdded struct {
	clusterView
	Mode   string   `json:"mode"`
	Why    string   `json:"mode_reason"`
	Steps  []string `json:"steps"`
	DryRun bool     `json:"dry_run,omitempty"`
}

func (a *app) addCluster(ctx context.Context, c placement.Cluster) error {
	h, err := a.houseWithKeys(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := h.tables.load(); err != nil {
		return err
	}
	r := initResult{Mode: map[string]string{}, Why: map[string]string{}}
	if err := h.recordCluster(ctx, c, &r); err != nil {
		return err
	}
	if err := h.setUp(ctx, c, &r); err != nil {
		return partly(fmt.Errorf("%w: the catalog has the cluster; when the cause is gone, do this again, or 'landlord cluster remove %s'", err, c.Name))
	}
	return a.showAdded(clusterAdded{clusterView: viewCluster(placement.Usage{Cluster: c}), Steps: r.Steps, Mode: r.Mode[c.Name], Why: r.Why[c.Name]})
}

// recordCluster puts the cluster into the catalog, unless it is there as it is wanted.
func (h *house) recordCluster(ctx context.Context, c placement.Cluster, r *initResult) error {
	err := h.catalog.AddCluster(ctx, c)
	if err == nil {
		r.did(fmt.Sprintf("cluster %s: added to the catalog", c.Name))
		return nil
	}
	if !errors.Is(err, placement.ErrExists) {
		return err
	}
	have, readErr := h.catalog.Cluster(ctx, c.Name)
	if readErr != nil {
		return readErr
	}
	if differs := changes(have, c); len(differs) > 0 {
		return fmt.Errorf("%w, with other values of %s: change it by 'landlord cluster set'", err, strings.Join(differs, ", "))
	}
	return nil
}

func (a *app) planCluster(ctx context.Context, c placement.Cluster) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	out := clusterAdded{clusterView: viewCluster(placement.Usage{Cluster: c}), Steps: []string{"would add cluster " + c.Name + " to the catalog"}, DryRun: true}
	r := initResult{Mode: map[string]string{}, Why: map[string]string{}}
	if err := h.planSetUp(ctx, c, false, &r); err != nil {
		return err
	}
	out.Steps, out.Mode, out.Why = append(out.Steps, r.Steps...), r.Mode[c.Name], r.Why[c.Name]
	return a.showAdded(out)
}

func (a *app) showAdded(out clusterAdded) error {
	return a.show(out, func(w io.Writer) {
		for _, step := range out.Steps {
			fmt.Fprintln(w, step)
		}
		fmt.Fprintf(w, "cluster %s: mode %s, because %s\n", out.Name, out.Mode, out.Why)
	})
}
