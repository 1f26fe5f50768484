package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

// forgotten is what `instance forget` prints.
type forgotten struct {
	instanceView
	DryRun bool `json:"dry_run,omitempty"`
}

func newInstanceForgetCmd(a *app) *cobra.Command {
	var confirm string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "forget ID --confirm ID",
		Short: "Take an instance off the record that ended without leaving",
		Long: `Take an instance off the catalog's record whose process was killed, or whose machine is gone: one that ends
as it should leaves by itself. Migrations of the phase contract then do not wait for it any more, so look first
whether it really is gone. If it is alive all the same, it comes back with its next sign of life, or is refused.`,
		Example: `  landlord instance list
  landlord instance forget 6f1b1c0f-7d21-4c63-9d35-0190f3c28a4e --dry-run
  landlord instance forget 6f1b1c0f-7d21-4c63-9d35-0190f3c28a4e --confirm 6f1b1c0f-7d21-4c63-9d35-0190f3c28a4e`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usageError("%q is no instance's id: 'landlord instance list' shows those there are", args[0])
			}
			return a.forgetInstance(cmd.Context(), id.String(), confirm, dryRun)
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the instance's `id` once more")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be forgotten")
	return cmd
}

func (a *app) forgetInstance(ctx context.Context, id, confirm string, dryRun bool) error {
	catalog, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	defer catalog.Close()
	all, err := catalog.Instances(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(in placement.Instance) bool { return in.ID == id })
	if i < 0 {
		return fmt.Errorf("forget instance %s: there is none: 'landlord instance list' shows those there are", id)
	}
	in, out := all[i], forgotten{viewInstance(all[i]), dryRun}
	name, silence := printable(in.Name), in.Silence.Round(time.Second)
	switch {
	case !out.Silent:
		return fmt.Errorf("forget instance %s: it said %s ago that it is alive: stop it, and it leaves by itself; if it was killed, "+
			"wait until it has been silent for %s", name, silence, silentAfter)
	case dryRun:
		return a.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "would forget instance %s, written for version %s, silent for %s\n", name, out.version(), silence)
		})
	case confirm != id:
		return usageError("migrations may take away what instance %s, written for version %s and silent for %s, still reads if it is alive; "+
			"if it is gone, type:\n  landlord instance forget %s --confirm %[4]s", name, out.version(), silence, id)
	}
	if _, err := catalog.ForgetInstance(ctx, id); err != nil {
		return err
	}
	return a.show(out, func(w io.Writer) {
		fmt.Fprintf(w, "instance %s is forgotten: migrations of the phase contract do not wait for it any more\n", name)
	})
}
