package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/onboard"
)

func newKeyCmd(a *app) *cobra.Command {
	return newGroupCmd("key", "Rotate the keys that services seal their tenant with",
		newKeyAddCmd(a),
		newKeyListCmd(a),
		newKeyRetireCmd(a),
	)
}

// keyChange is what `key add` and `key retire` print.
type keyChange struct {
	Key       int        `json:"key"`
	Databases int        `json:"databases"` // in which something changed
	File      string     `json:"file"`
	Ends      *time.Time `json:"ends,omitempty"`
	DryRun    bool       `json:"dry_run,omitempty"`
}

func newKeyAddCmd(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Make a new key, known to every database",
		Long: `Make a new seal key: first every database learns it, then it is written to the file of 'keys'. Services
seal with the newest key in their file; give them the new file, and retire the old key when all have it.`,
		Example: `  landlord key add
  landlord key retire 1   # once every service has the new file`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.addKey(cmd.Context(), dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show which key would be made, for how many databases")
	return cmd
}

func (a *app) addKey(ctx context.Context, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	return changeKeys(h.config.Keys, func(file string, ring isolation.Keyring) error {
		known, err := h.service.Keys(ctx)
		if err != nil {
			return fmt.Errorf("add a seal key: every database must be reached, and nothing was changed: %w", err)
		}
		id, err := nextKey(ring, known)
		if err != nil {
			return err
		}
		out := keyChange{Key: id, Databases: len(known), File: file, DryRun: dryRun}
		if !dryRun {
			if out.Databases, err = h.spreadKey(ctx, file, ring, id); err != nil {
				return err
			}
		}
		return a.show(out, func(w io.Writer) {
			if dryRun {
				fmt.Fprintf(w, "would make key %d, tell %d databases and write it to %s\n", id, out.Databases, file)
				return
			}
			fmt.Fprintf(w, "key %d is known to %d databases and written to %s\n", id, out.Databases, file)
			fmt.Fprintf(w, "give the file to every service, then: landlord key retire %d\n", ring[len(ring)-1].ID)
		})
	})
}

// spreadKey makes the key, tells all databases, and writes it down last: services read it there.
func (h *house) spreadKey(ctx context.Context, file string, ring isolation.Keyring, id int) (databases int, err error) {
	key, err := isolation.NewKey(id)
	if err != nil {
		return 0, err
	}
	databases, err = h.service.AddKeys(ctx, isolation.Keyring{key})
	if err == nil {
		err = replaceFile(file, append(slices.Clone(ring), key).String())
	}
	if err == nil {
		return databases, nil
	}
	// Nobody has its secret. Where it cannot be ended now it opens nothing, and no later key takes its number.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if _, undo := h.service.RetireKey(ctx, id, 0); undo != nil {
		err = errors.Join(err, fmt.Errorf("end key %d again: %w", id, undo))
	}
	return 0, fmt.Errorf("add seal key %d: the file is as it was: %w", id, err)
}

// nextKey is a number that no database has ever seen: a key that was retired must not come back with another secret.
func nextKey(ring isolation.Keyring, known []onboard.DatabaseKeys) (int, error) {
	newest := ring[len(ring)-1].ID
	for _, db := range known {
		for _, k := range db.Keys {
			newest = max(newest, k.ID)
		}
	}
	if newest >= 1<<31-1 {
		return 0, errors.New("add a seal key: there is no higher number")
	}
	return newest + 1, nil
}

// keyList is what `key list` prints.
type keyList struct {
	File      []fileKey      `json:"file"`
	Databases []databaseKeys `json:"databases"`
}

type fileKey struct {
	Key   int  `json:"key"`
	Seals bool `json:"seals"` // services seal with it: it is the newest
}

type databaseKeys struct {
	Cluster  string        `json:"cluster"`
	Database string        `json:"database"`
	Keys     []databaseKey `json:"keys"`
}

type databaseKey struct {
	Key  int        `json:"key"`
	Ends *time.Time `json:"ends"` // null: no end
}

func newKeyListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show the keys of the file and of every database",
		Example: "  landlord key list --json | jq '.file[] | select(.seals).key'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listKeys(cmd.Context()) },
	}
}

func (a *app) listKeys(ctx context.Context) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	ring, err := readKeys(h.config.Keys)
	if err != nil {
		return err
	}
	known, unread := h.service.Keys(ctx)
	if unread != nil && len(known) == 0 {
		return unread
	}
	list := keyList{Databases: []databaseKeys{}}
	for i, k := range ring {
		list.File = append(list.File, fileKey{k.ID, i == len(ring)-1})
	}
	for _, db := range known {
		list.Databases = append(list.Databases, keysOf(db))
	}
	if err := a.show(list, func(w io.Writer) { list.write(w, string(h.config.Keys)) }); err != nil {
		return err
	}
	return partly(unread)
}

func keysOf(db onboard.DatabaseKeys) databaseKeys {
	out := databaseKeys{Cluster: db.Database.Cluster, Database: db.Database.Name, Keys: []databaseKey{}}
	for _, k := range db.Keys {
		key := databaseKey{Key: k.ID}
		if !k.NotAfter.IsZero() {
			key.Ends = &k.NotAfter
		}
		out.Keys = append(out.Keys, key)
	}
	return out
}

func (l keyList) write(w io.Writer, file string) {
	fmt.Fprintln(w, "WHERE\tKEY\tSTATE")
	for _, k := range l.File {
		state := "kept for what is sealed already"
		if k.Seals {
			state = "seals"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", file, k.Key, state)
	}
	for _, db := range l.Databases {
		for _, k := range db.Keys {
			state := "opens"
			switch {
			case k.Ends != nil && k.Ends.Before(time.Now()):
				state = "ended " + k.Ends.Local().Format(time.RFC3339)
			case k.Ends != nil:
				state = "opens until " + k.Ends.Local().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s/%s\t%d\t%s\n", db.Cluster, db.Database, k.Key, state)
		}
	}
}

func newKeyRetireCmd(a *app) *cobra.Command {
	var grace time.Duration
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "retire ID",
		Short: "End an older key in every database and take it from the file",
		Long: `End an older seal key: in every database after --grace, then in the file. The newest key is the one that
services seal with, and stays. Whoever still has a file without a newer key is refused afterwards, so
give every service the new file first.`,
		Example: "  landlord key retire 1 --grace 10m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.Atoi(args[0])
			if err != nil || id < 1 {
				return usageError("%q is no key: 'landlord key list' shows those there are", args[0])
			}
			if grace < 0 {
				return usageError("--grace is negative")
			}
			return a.retireKey(cmd.Context(), id, grace, dryRun)
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", time.Minute, "how long what is sealed already is still let in")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would end")
	return cmd
}

func (a *app) retireKey(ctx context.Context, id int, grace time.Duration, dryRun bool) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	return changeKeys(h.config.Keys, func(file string, ring isolation.Keyring) error {
		if newest := ring[len(ring)-1].ID; id == newest {
			return fmt.Errorf("retire seal key %d: it is the newest, the one that services seal with: 'landlord key add' makes its successor", id)
		}
		known, unread := h.service.Keys(ctx)
		alive, seen := countKey(known, id, time.Now().Add(grace))
		left := slices.DeleteFunc(slices.Clone(ring), func(k isolation.Key) bool { return k.ID == id })
		if !seen && len(left) == len(ring) && unread == nil {
			return fmt.Errorf("retire seal key %d: there is no such key: 'landlord key list' shows those there are", id)
		}
		out := keyChange{Key: id, Databases: alive, File: file, DryRun: dryRun}
		if dryRun {
			return a.showRetired(out)
		}
		if out.Databases, err = h.service.RetireKey(ctx, id, grace); err != nil {
			return partly(fmt.Errorf("retire seal key %d: it stays in the file, because not every database has ended it; try again: %w", id, err))
		}
		if len(left) < len(ring) {
			if err := replaceFile(file, left.String()); err != nil {
				return partly(fmt.Errorf("retire seal key %d: the databases have ended it, the file still has it; try again: %w", id, err))
			}
		}
		if out.Databases > 0 {
			ends := time.Now().Add(grace).UTC().Truncate(time.Second)
			out.Ends = &ends
		}
		return a.showRetired(out)
	})
}

// countKey counts the databases that let a key in after a time, and tells whether any has heard of it.
func countKey(known []onboard.DatabaseKeys, id int, after time.Time) (alive int, seen bool) {
	for _, db := range known {
		for _, k := range db.Keys {
			if k.ID != id {
				continue
			}
			seen = true
			if k.NotAfter.IsZero() || k.NotAfter.After(after) {
				alive++
			}
		}
	}
	return alive, seen
}

func (a *app) showRetired(out keyChange) error {
	return a.show(out, func(w io.Writer) {
		if out.DryRun {
			fmt.Fprintf(w, "would end key %d in %d databases and take it from %s\n", out.Key, out.Databases, out.File)
			return
		}
		if out.Ends == nil {
			fmt.Fprintf(w, "key %d had ended in every database already; it is not in %s\n", out.Key, out.File)
			return
		}
		fmt.Fprintf(w, "key %d ends at %s in %d databases and is gone from %s\n",
			out.Key, out.Ends.Local().Format(time.RFC3339), out.Databases, out.File)
	})
}
