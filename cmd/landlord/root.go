package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/internal/bars"
	"github.com/landlord-go/landlord/migrate/fleet"
)

// Exit statuses, the same for every command.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // wrong arguments or flags; nothing was tried
	exitPartly      = 3   // some targets failed, the rest is done
	exitFindings    = 4   // audit, lint, drift or doctor found something
	exitInterrupted = 130 // by SIGINT or SIGTERM; can be resumed
)

// statusError is an error that ends the process with a status of its own.
type statusError struct {
	status int
	err    error // nil: what there is to say has been printed
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// usageError reports arguments that cobra could not have found wrong.
func usageError(format string, args ...any) error {
	return &statusError{status: exitUsage, err: fmt.Errorf(format, args...)}
}

// app is what the commands share. Configuration and catalog are opened by the commands that need them.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	screen         *bars.Screen       // stderr, where it is a terminal that shows progress as bars; else nil
	follow         func(fleet.Status) // hears of the progress of a run; nil: it is shown

	configPath string // --config
	json       bool   // --json
	log        *slog.Logger
	backfills  fleet.Backfills
	patience   time.Duration // how long a catalog that cannot be reached is asked again; 0: as long as placement finds right

	started  bool // a command's own code runs: from here on errors are not about usage
	loadOnce sync.Once
	loaded   config
	loadErr  error
}

// run executes the command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var status *statusError
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(a.stderr, "landlord: interrupted: %v\n", err)
		return exitInterrupted
	case errors.As(err, &status) && status.err == nil:
		return status.status
	case errors.As(err, &status) && status.status != exitUsage:
		fmt.Fprintf(a.stderr, "landlord: %v\n", err)
		return status.status
	case status != nil || !a.started:
		fmt.Fprintf(a.stderr, "landlord: %v\nRun '%s --help' for usage.\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "landlord: %v\n", err)
	return exitFailed
}

func newRootCmd(a *app) *cobra.Command {
	root := newGroupCmd("landlord", "The data layer of a multi-tenant service on PostgreSQL",
		newDevCmd(a),
		newDemoCmd(a),
		newInitCmd(a),
		newKeyCmd(a),
		newClusterCmd(a),
		newTenantCmd(a),
		newMigrateCmd(a),
		newMoveCmd(a),
		newInstanceCmd(a),
		newAuditCmd(a),
		newDoctorCmd(a),
		newHardenCmd(a),
		newBenchCmd(a),
		newVersionCmd(a),
	)
	root.Long = `landlord places tenants on PostgreSQL servers, in shared tables, schemas or databases of their own.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 findings, 130 interrupted.`
	root.Example = `  landlord dev up          start two local servers with a ready configuration
  landlord init            make the catalog, the roles and the shared homes
  landlord tenant add acme --model schema`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)

	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "configuration `file` (default $LANDLORD_CONFIG, landlord.yaml, .landlord/landlord.yaml)")
	flags.BoolVar(&a.json, "json", false, "print results as JSON")
	level := slog.LevelInfo
	flags.TextVar(&level, "log-level", slog.LevelInfo, "least `level` of what is logged: debug, info, warn or error")
	root.PersistentPreRun = func(*cobra.Command, []string) {
		a.log = slog.New(slog.NewTextHandler(logTo{a}, &slog.HandlerOptions{Level: level}))
	}

	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	markStart(a, root)
	return root
}

// markStart lets a know when a command's own code begins. All that cobra finds wrong, it finds before.
func markStart(a *app, cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		markStart(a, c)
	}
}

// newGroupCmd makes a command that only holds others. It shows its help when called alone; cobra
// would do so for a misspelt subcommand too, and call it success.
func newGroupCmd(use, short string, cmds ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(cmds...)
	return group
}
