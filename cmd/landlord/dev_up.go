package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pglocal"
)

func newDevUpCmd(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start two local servers and write a configuration for them",
		Long: `Start two PostgreSQL servers, a and b, under .landlord, and write there a configuration, random secrets
and the goose files of a small shop. Servers that run are left as they are, and so are secrets and
migrations that exist; the configuration is written anew. Needs PostgreSQL's server programs
(LANDLORD_PG_BIN, PATH or the usual folders). As root the servers run as another user.`,
		Example: `  landlord dev up
  landlord dev up --json | jq -r '.servers[].port'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDevEnv()
			if err != nil {
				return err
			}
			if dryRun {
				return a.planDevUp(cmd.Context(), d)
			}
			st, err := d.up(cmd.Context(), a.progress)
			if err != nil {
				return err
			}
			a.progress("configuration: %s; next: landlord init", st.Config)
			return a.showDev(st)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show which programs and folders would be used")
	return cmd
}

func (a *app) planDevUp(ctx context.Context, d devEnv) error {
	install, err := pglocal.Find(0)
	if err != nil {
		return err
	}
	a.progress("dry run: would start %d servers under %s with %s (version %s); there are now:",
		len(devServers), d.folder, install.Bin, install.Version)
	st, err := d.status(ctx)
	if err != nil {
		return err
	}
	return a.showDev(st)
}

// up brings the servers up, with the control database, and writes what belongs to them.
func (d devEnv) up(ctx context.Context, progress func(string, ...any)) (devStatus, error) {
	before, err := d.status(ctx)
	if err != nil {
		return devStatus{}, err
	}
	running := map[string]bool{}
	for _, s := range before.Servers {
		running[s.Name] = s.Running
	}
	servers := make([]*pglocal.Server, len(devServers))
	g, gctx := errgroup.WithContext(ctx)
	for i, name := range devServers {
		if running[name] {
			progress("server %s already runs", name)
		} else {
			progress("starting server %s", name)
		}
		g.Go(func() (err error) {
			servers[i], err = pglocal.Start(gctx, d.server(name))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return devStatus{}, err
	}
	if err := d.write(servers); err != nil {
		return devStatus{}, fmt.Errorf("write configuration: %w", err)
	}
	if err := createControlDatabase(ctx, servers[0].DSN()); err != nil {
		return devStatus{}, fmt.Errorf("create control database: %w", err)
	}
	return d.status(ctx)
}

func createControlDatabase(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "create database "+pgx.Identifier{devControlDatabase}.Sanitize())
	if pgerr.Is(err, pgerr.DuplicateDatabase) {
		err = nil
	}
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}
