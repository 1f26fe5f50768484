package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// withLastRun is withFleet for a command that has to do with the last run.
func (a *app) withLastRun(ctx context.Context, dir string, fn func(*fleet.Fleet, *placement.Catalog) error) error {
	dir, err := a.lastRunDir(ctx, dir)
	if err != nil {
		return err
	}
	return a.withFleet(ctx, dir, true, fn)
}

// runDirFlag is dirFlag for such a command.
func runDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "`folder` of the migrations (default the last run's, or else the configuration's)")
}

// lastRunDir is the folder that --dir names, or else the one with which the last run began, if that is on this machine and
// holds the run's files still. Empty: it is for the configuration to say.
func (a *app) lastRunDir(ctx context.Context, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	catalog, err := a.catalog(ctx)
	if err != nil {
		return "", err
	}
	defer catalog.Close()
	run, err := catalog.LastRun(ctx)
	switch {
	case errors.Is(err, placement.ErrNoRun):
		return "", nil
	case err != nil:
		return "", err
	case run.Folder == "":
		return "", nil
	}
	// It is only where the files were: what is there now, if anything, may be something else.
	if set, err := migrate.Load(os.DirFS(run.Folder)); err == nil && fleet.IsOf(run, set) {
		return run.Folder, nil
	}
	return "", nil
}
