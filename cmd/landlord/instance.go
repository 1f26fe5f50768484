package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

func newInstanceCmd(a *app) *cobra.Command {
	return newGroupCmd("instance", "See which processes of the application are alive, and for which version they were written",
		newInstanceListCmd(a),
		newInstanceForgetCmd(a),
	)
}

// silentAfter is when an instance counts as silent: it says every few seconds that it is alive.
const silentAfter = time.Minute

// instanceView is an instance as it is printed.
type instanceView struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	SchemaVersion int64     `json:"schema_version"` // 0: it does not say
	Started       time.Time `json:"started"`
	LastSeen      time.Time `json:"last_seen"`
	Silent        bool      `json:"silent"` // for over a minute
}

func viewInstance(in placement.Instance) instanceView {
	return instanceView{
		ID: in.ID, Name: in.Name, SchemaVersion: in.SchemaVersion, Started: in.StartedAt.UTC(), LastSeen: in.SeenAt.UTC(),
		Silent: in.Silence > silentAfter,
	}
}

// version is the version it was written for, as text.
func (v instanceView) version() string {
	if v.SchemaVersion == 0 {
		return "-"
	}
	return strconv.FormatInt(v.SchemaVersion, 10)
}

func newInstanceListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the instances that are on the catalog's record",
		Long: `Show the processes of the application that use homes, and the version of its tables that each was written for.
Migrations of the phase contract wait for those that are older, for those that do not say (version -), and
for those that have fallen silent: they may be alive, and cut off from the catalog only.`,
		Example: "  landlord instance list --json | jq '.instances[] | select(.silent)'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listInstances(cmd.Context()) },
	}
}

func (a *app) listInstances(ctx context.Context) error {
	catalog, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	defer catalog.Close()
	all, err := catalog.Instances(ctx)
	if err != nil {
		return err
	}
	views := []instanceView{}
	for _, in := range all {
		views = append(views, viewInstance(in))
	}
	return a.show(map[string]any{"instances": views}, func(w io.Writer) {
		if len(views) == 0 {
			fmt.Fprintln(w, "no instances: nothing that uses homes is alive")
			return
		}
		fmt.Fprintln(w, "NAME\tVERSION\tSTARTED\tLAST SEEN\tSTATE\tID")
		for _, v := range views {
			state := "alive"
			if v.Silent {
				state = "silent"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(v.Name), v.version(), v.Started.Local().Format(time.RFC3339),
				v.LastSeen.Local().Format(time.RFC3339), state, v.ID)
		}
	})
}
