package main

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// psqlArgs are the flags of `dev psql`.
type psqlArgs struct {
	cluster, database, role, tenant string
	commands                        []string
}

func newDevPsqlCmd(a *app) *cobra.Command {
	var args psqlArgs
	cmd := &cobra.Command{
		Use:   "psql",
		Short: "Open psql on a local server in the part of one of landlord's roles",
		Long: `Open psql on a server of the configuration in the part of one of landlord's roles, without a tenant's
context: what the application's login sees when it does not go through the router.

Roles: operator (the server's administrator), owner (of the tables), migrator, admin, app.
--tenant goes to the database and schema where that tenant lives.`,
		Example: `  landlord dev psql --role app -c 'table orders'
  landlord dev psql --tenant acme --role owner -c 'alter table orders add note text'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.devPsql(cmd.Context(), args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&args.cluster, "cluster", "", "`name` of the cluster (default the configuration's first)")
	flags.StringVar(&args.database, "database", "", "`name` of the database (default the cluster's shared one)")
	flags.StringVar(&args.role, "role", "operator", "operator, owner, migrator, admin or app")
	flags.StringVar(&args.tenant, "tenant", "", "`slug` of the tenant to whose home to go")
	flags.StringArrayVarP(&args.commands, "command", "c", nil, "`sql` to run instead of reading standard input; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("tenant", "cluster")
	cmd.MarkFlagsMutuallyExclusive("tenant", "database")
	return cmd
}

func (a *app) devPsql(ctx context.Context, args psqlArgs) error {
	route, err := a.psqlRoute(ctx, args)
	if err != nil {
		return err
	}
	var to psqlTarget
	settings := map[string]string{}
	switch cluster, database := route.Cluster, route.Home.Database; args.role {
	case "operator":
		to, err = operatorTarget(cluster, database)
	case "owner": // cannot log in
		to, err = operatorTarget(cluster, database)
		settings["role"] = isolation.OwnerRole
	case "migrator":
		to, err = loginTarget(cluster, isolation.MigratorRole, database)
	case "admin":
		to, err = loginTarget(cluster, isolation.AdminRole, database)
	case "app":
		to, err = loginTarget(cluster, route.Database.Login, database)
	default:
		return usageError("there is no role %q: use operator, owner, migrator, admin or app", args.role)
	}
	if err != nil {
		return err
	}
	if args.tenant != "" {
		settings["search_path"] = pgx.Identifier{route.Home.Schema}.Sanitize() + ",extensions,pg_temp"
	}
	to.settings = settings
	return a.psql(to, args.commands)
}

// psqlRoute finds the tenant's home, or with no tenant the wanted database.
func (a *app) psqlRoute(ctx context.Context, args psqlArgs) (route placement.Route, err error) {
	if args.tenant != "" {
		slug, err := tenant.ParseSlug(args.tenant)
		if err != nil {
			return route, usageError("%w", err)
		}
		catalog, err := a.catalog(ctx)
		if err != nil {
			return route, err
		}
		defer catalog.Close()
		t, err := catalog.TenantBySlug(ctx, slug)
		if err != nil {
			return route, err
		}
		return catalog.Route(ctx, t.ID)
	}
	c, err := a.config()
	if err != nil {
		return route, err
	}
	route.Cluster, err = c.cluster(args.cluster)
	route.Home.Database = cmp.Or(args.database, route.Cluster.SharedDatabase)
	route.Database.Login = placement.SharedLogin
	return route, err
}
