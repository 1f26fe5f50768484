package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
)

// hardenLine is one measure in one database, as harden prints it.
type hardenLine struct {
	Cluster  string `json:"cluster"`
	Database string `json:"database"`
	Measure  string `json:"measure"`
	State    string `json:"state"` // done, already, refused; would with --dry-run
	Why      string `json:"why"`   // what the application could do
	Error    string `json:"error,omitempty"`
}

// hardenResult is what harden prints.
type hardenResult struct {
	Undo     bool         `json:"undo"`
	DryRun   bool         `json:"dry_run"`
	Measures []hardenLine `json:"measures"`
}

func newHardenCmd(a *app) *cobra.Command {
	var undo, dryRun bool
	cmd := &cobra.Command{
		Use:   "harden",
		Short: "Take from the application what PostgreSQL gives everybody and it has no use for",
		Long: `Take from the application's logins, in every database of the installation, functions that PostgreSQL lets everybody
call and a service has no use for: to look at other sessions, to run strings as queries, to hold locks of others,
and so on. Each line says what became of it: done, already (so before, perhaps by the mode of isolation), or
refused, where a managed platform gives nobody the right; then the exit status is 3, and all else holds.

Databases of tenants that are added later are hardened as the cluster's shared database is. Who watches the server
as a member of pg_monitor still sees all. A service that does call one of these functions needs --undo.`,
		Example: `  landlord harden --dry-run
  landlord harden
  landlord harden --undo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.harden(cmd.Context(), undo, dryRun) },
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "give it all back, but what the mode of isolation keeps")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be done")
	return cmd
}

func (a *app) harden(ctx context.Context, undo, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	databases, err := h.service.Harden(ctx, undo, dryRun)
	if len(databases) == 0 && err != nil {
		return err
	}
	r := hardenResult{Undo: undo, DryRun: dryRun, Measures: []hardenLine{}}
	refused := false
	for _, db := range databases {
		for _, m := range db.Measures {
			line := hardenLine{db.Cluster, db.Database, m.Measure.Name, string(m.State), m.Measure.Why, ""}
			if m.Err != nil {
				line.Error, refused = m.Err.Error(), true
			}
			if m.State != isolation.HardenAlready || !undo {
				r.Measures = append(r.Measures, line)
			}
		}
	}
	if refused {
		err = errors.Join(err, errors.New("the server refuses some of it to this login; the rest holds"))
	}
	return errors.Join(a.show(r, r.write), partly(err))
}

func (r hardenResult) write(w io.Writer) {
	if len(r.Measures) == 0 {
		fmt.Fprintln(w, "nothing to change")
		return
	}
	fmt.Fprintln(w, "CLUSTER\tDATABASE\tMEASURE\tSTATE\tKEEPS THE APPLICATION FROM BEING ABLE TO")
	for _, m := range r.Measures {
		why := m.Why
		if m.Error != "" {
			why = m.Error
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Cluster, m.Database, m.Measure, m.State, why)
	}
}
