package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// askedFlags are those of 'migrate up' that 'migrate resume' keeps to when the run has not begun.
type askedFlags struct {
	First       []string       `json:"tenant,omitempty"`
	Wave        int            `json:"wave,omitempty"`
	ExpandOnly  bool           `json:"expand_only,omitempty"`
	NoRehearsal bool           `json:"no_rehearsal,omitempty"`
	AllowErrors bool           `json:"allow_lint_errors,omitempty"`
	AllowDrift  bool           `json:"allow_drift,omitempty"`
	Soak        *time.Duration `json:"soak,omitempty"`
	Health      bool           `json:"health,omitempty"` // the command itself is stored nowhere
}

// ask records what the command was asked for, before it looks at the files.
func ask(ctx context.Context, f *fleet.Fleet, catalog *placement.Catalog, args migrateRun) error {
	flags, err := json.Marshal(askedFlags{
		args.first, args.wave, args.expandOnly, args.noRehearsal, args.allowErrors, args.allowDrift, args.soak,
		args.health != "" && args.health != noHealth,
	})
	if err != nil {
		return err
	}
	asked := f.Asked()
	asked.Flags = string(flags)
	return catalog.AskRun(ctx, asked)
}

// forgetAsked ends what ask began, unless the command was interrupted.
func forgetAsked(ctx context.Context, catalog *placement.Catalog) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return catalog.ForgetAskedRun(ctx)
	}
}

// askedRun returns what a run was asked for that never began, with what args say now; false where the last run is the one to go on with.
func (a *app) askedRun(ctx context.Context, args migrateRun) (migrateRun, bool, error) {
	catalog, err := a.catalog(ctx)
	if err != nil {
		return args, false, err
	}
	defer catalog.Close()
	asked, err := catalog.AskedRun(ctx)
	if errors.Is(err, placement.ErrNoRun) {
		return args, false, nil
	}
	if err != nil {
		return args, false, err
	}
	switch run, err := catalog.LastRun(ctx); {
	case err == nil && !run.Over():
		return args, false, nil
	case err != nil && !errors.Is(err, placement.ErrNoRun):
		return args, false, err
	}
	var flags askedFlags
	if err := json.Unmarshal([]byte(asked.Flags), &flags); err != nil {
		return args, false, fmt.Errorf("read with which flags the run was asked for: %w", err)
	}
	if args.dir == "" {
		args.dir = asked.Folder
	}
	set, err := migrate.Load(os.DirFS(args.dir))
	if err != nil {
		return args, false, fmt.Errorf("a run of %s was asked for and has not begun: %w", asked.Folder, err)
	}
	if !fleet.IsOf(placement.Run{Files: asked.Files}, set) {
		return args, false, fmt.Errorf("a run of %s was asked for and has not begun, and the files are not the same any more: begin a run "+
			"of these with landlord migrate up", asked.Folder)
	}
	if flags.Health && args.health == "" {
		return args, false, usageError("the run was asked for with a health command, which is stored nowhere: give it again with --health, " +
			"or go on without it by --health none")
	}
	args.first, args.expandOnly = flags.First, flags.ExpandOnly
	args.noRehearsal, args.allowErrors, args.allowDrift = flags.NoRehearsal, flags.AllowErrors, flags.AllowDrift
	if args.wave == 0 {
		args.wave = flags.Wave
	}
	if args.soak == nil {
		args.soak = flags.Soak
	}
	return args, true, nil
}
