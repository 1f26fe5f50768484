package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// devFolder is where `landlord dev` keeps everything, in the current folder.
const devFolder = ".landlord"

// devServers are the local servers: two, so that a tenant has somewhere to move to.
var devServers = []string{"a", "b"}

// devControlDatabase holds the catalog, on the first of the servers.
const devControlDatabase = "landlord"

// devSharedDatabase is the shared database of both.
const devSharedDatabase = "app"

func newDevCmd(a *app) *cobra.Command {
	return newGroupCmd("dev", "Run two local PostgreSQL servers with a ready configuration",
		newDevUpCmd(a),
		newDevDownCmd(a),
		newDevStatusCmd(a),
		newDevLoadCmd(a),
		newDevPsqlCmd(a),
	)
}

// devEnv is one set of local servers and what belongs to it.
type devEnv struct {
	folder string // absolute
}

func openDevEnv() (devEnv, error) {
	folder, err := filepath.Abs(devFolder)
	return devEnv{folder}, err
}

func (d devEnv) configFile() string        { return filepath.Join(d.folder, "landlord.yaml") }
func (d devEnv) migrations() string        { return filepath.Join(d.folder, "migrations") }
func (d devEnv) secret(name string) string { return filepath.Join(d.folder, "secrets", name) }
func (d devEnv) server(n string) pglocal.Config {
	return pglocal.Config{Dir: filepath.Join(d.folder, "servers"), Name: n, Detach: true}
}

// devStatus is what up, down and status print.
type devStatus struct {
	Servers []devServer `json:"servers"`
	Config  string      `json:"config"`
}

type devServer struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	Port    int    `json:"port"`
	PID     int    `json:"pid"` // 0 while it does not run
	DataDir string `json:"data_dir"`
	Version string `json:"version"`
}

func (d devEnv) describe(ctx context.Context, s *pglocal.Server) devServer {
	out := devServer{Name: s.Name, Running: s.Running(ctx), Port: s.Port, DataDir: s.DataDir, Version: s.Install.Version}
	if out.Running {
		out.PID = s.PID()
	}
	return out
}

// status describes the servers that were set up, running or not.
func (d devEnv) status(ctx context.Context) (devStatus, error) {
	st := devStatus{Servers: []devServer{}, Config: d.configFile()}
	servers, err := d.existing()
	for _, s := range servers {
		st.Servers = append(st.Servers, d.describe(ctx, s))
	}
	return st, err
}

// existing opens the servers that were set up.
func (d devEnv) existing() ([]*pglocal.Server, error) {
	var servers []*pglocal.Server
	for _, name := range devServers {
		s, err := pglocal.Open(d.server(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// down stops the servers. With purge it also deletes everything that up has made.
func (d devEnv) down(ctx context.Context, purge bool) error {
	servers, err := d.existing()
	if err != nil {
		return err
	}
	stop := (*pglocal.Server).Stop
	if purge {
		stop = (*pglocal.Server).Remove
	}
	for _, s := range servers {
		err = errors.Join(err, stop(s, ctx))
	}
	if err != nil || !purge {
		return err
	}
	if err := os.RemoveAll(d.folder); err != nil {
		return fmt.Errorf("remove local servers: %w", err)
	}
	return nil
}

func (a *app) showDev(st devStatus) error {
	return a.show(st, func(w io.Writer) {
		if len(st.Servers) == 0 {
			fmt.Fprintln(w, "no local servers: start them with 'landlord dev up'")
			return
		}
		fmt.Fprintln(w, "SERVER\tSTATE\tPORT\tPID\tVERSION\tDATA")
		for _, s := range st.Servers {
			state, pid := "stopped", "-"
			if s.Running {
				state, pid = "running", fmt.Sprint(s.PID)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", s.Name, state, s.Port, pid, s.Version, s.DataDir)
		}
	})
}

func newDevStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the local servers",
		Example: "  landlord dev status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDevEnv()
			if err != nil {
				return err
			}
			st, err := d.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.showDev(st)
		},
	}
}

func newDevDownCmd(a *app) *cobra.Command {
	var purge, dryRun bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the local servers",
		Long: `Stop the local servers. Their data stays and 'landlord dev up' goes on with it, unless --purge deletes
the servers and all of .landlord: data, configuration, secrets and migrations.`,
		Example: "  landlord dev down --purge",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDevEnv()
			if err != nil {
				return err
			}
			if dryRun {
				st, err := d.status(cmd.Context())
				if err != nil {
					return err
				}
				a.progress("dry run: nothing was stopped or deleted")
				return a.showDev(st)
			}
			if err := d.down(cmd.Context(), purge); err != nil {
				return err
			}
			st, err := d.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.showDev(st)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "also delete the servers' data and all of .landlord")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what there is to stop")
	return cmd
}
