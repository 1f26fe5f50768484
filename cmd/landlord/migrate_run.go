package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// withFleet runs fn on the fleet of the catalog and the folder that --dir or the configuration names; without files, for a
// command that migrates nothing.
func (a *app) withFleet(ctx context.Context, dir string, files bool, fn func(*fleet.Fleet, *placement.Catalog) error) error {
	set, folder := &migrate.Set{}, ""
	if files {
		found, err := a.migrationsDir(dir)
		if err != nil {
			return err
		}
		if folder, err = filepath.Abs(found); err != nil {
			return err
		}
		if set, err = newTables(folder).load(); err != nil {
			return err
		}
	}
	c, err := a.config()
	if err != nil {
		return err
	}
	dsn, err := c.Catalog.Resolve()
	if err != nil {
		return err
	}
	// Workers come back to the catalog again and again: unlike other commands, this one keeps its connections.
	catalog, err := placement.Open(ctx, placement.Config{DSN: dsn, Logger: a.log, MaxConns: 8, Retry: a.patience})
	if err != nil {
		return err
	}
	defer catalog.Close()
	defer a.openScreen()()
	f, err := fleet.New(fleet.Config{
		Catalog: catalog, Set: set, Folder: folder, Logger: a.log, Progress: a.tellProgress, Backfills: a.backfills,
	})
	if err != nil {
		return err
	}
	return fn(f, catalog)
}

// backfillFlags bound what the backfills of this process take from a server.
func (a *app) backfillFlags(cmd *cobra.Command) {
	cmd.Flags().IntVar(&a.backfills.Batches.Most, "batch-rows", 0, "most `rows` in one batch of a backfill (default 20000)")
	cmd.Flags().IntVar(&a.backfills.RowsPerSecond, "rows-per-second", 0,
		"most `rows` that backfills of this process change on a cluster in a second (default no limit)")
}

// runView is a run as it is printed.
type runView struct {
	Run       int64         `json:"run"` // 0: there is none
	ID        string        `json:"id,omitempty"`
	State     string        `json:"state"`
	AtWork    bool          `json:"at_work"` // it is running, and a process has said so a moment ago
	Phases    []string      `json:"phases"`  // of its files
	Why       string        `json:"why,omitempty"`
	Newest    int64         `json:"newest,omitempty"`
	Wave      int           `json:"wave,omitempty"`
	Waves     []waveView    `json:"waves"`
	UpToDate  int           `json:"up_to_date"`
	Pending   int           `json:"pending"`
	Leased    int           `json:"leased"`
	Verified  int           `json:"verified"`
	Failed    int           `json:"failed"`
	Skipped   int           `json:"skipped"`
	Waiting   int           `json:"waiting"`
	Failures  []failureView `json:"failures,omitzero"`
	Skips     []skipView    `json:"skips,omitzero"`
	NextWave  string        `json:"next_wave,omitempty"` // what it waits for before that begins
	Actor     string        `json:"actor,omitempty"`
	StartedAt *time.Time    `json:"started_at,omitempty"`
	EndedAt   *time.Time    `json:"ended_at,omitempty"`
	gateView
	Down bool `json:"down,omitempty"` // it undoes what is above version newest
}

type waveView struct {
	Wave int `json:"wave"`
	tallyView
	Clusters []clusterTallyView `json:"clusters"`
}

type clusterTallyView struct {
	Cluster string `json:"cluster"`
	tallyView
}

type tallyView struct {
	Targets  int `json:"targets"`
	Verified int `json:"verified"`
	Failed   int `json:"failed"`
	Skipped  int `json:"skipped"`
	PutOff   int `json:"put_off"` // to be tried again after an error
}

type failureView struct {
	SQLState string   `json:"sqlstate"`
	Error    string   `json:"error"`
	Count    int      `json:"count"`
	Homes    []string `json:"homes"`
	Next     string   `json:"next"`    // what leads on
	Tenants  []string `json:"tenants"` // whose homes these are; empty: nobody's alone
}

type skipView struct {
	Home   string `json:"home"`
	Reason string `json:"reason"`
}

func viewRun(s fleet.Status) runView {
	v := runView{State: "up to date", UpToDate: s.UpToDate, Phases: []string{}, Waves: []waveView{}, Failures: []failureView{}, Skips: []skipView{}}
	v.gateView = viewGate(s.Gate)
	if s.Run.ID == "" {
		return v
	}
	r := s.Run
	v.Run, v.ID, v.State, v.Why, v.Newest, v.Wave = r.Number, r.ID, string(r.State), r.Why, r.Newest, r.Wave
	v.AtWork, v.Phases = r.AtWork, append(v.Phases, r.Phases...)
	v.Actor, v.StartedAt, v.EndedAt, v.Down = r.Actor, &r.StartedAt, r.EndedAt, r.Down
	v.Pending, v.Leased = s.Counts[placement.TargetPending], s.Counts[placement.TargetLeased]
	v.Verified, v.Failed = s.Counts[placement.TargetVerified], s.Counts[placement.TargetFailed]
	v.Skipped, v.Waiting, v.NextWave = s.Counts[placement.TargetSkipped], s.Waiting, waitOf(r)
	for _, w := range s.Waves {
		view := waveView{Wave: w.Wave, tallyView: tallyView(w.Tally), Clusters: []clusterTallyView{}}
		for _, c := range w.Clusters {
			view.Clusters = append(view.Clusters, clusterTallyView{c.Cluster, tallyView(c.Tally)})
		}
		v.Waves = append(v.Waves, view)
	}
	for _, f := range s.Failures {
		view := failureView{SQLState: f.SQLState, Error: oneLine(f.Error), Count: f.Count, Tenants: f.Tenants, Next: nextStep(f)}
		for _, h := range f.Homes {
			view.Homes = append(view.Homes, h.String())
		}
		v.Failures = append(v.Failures, view)
	}
	for _, t := range s.Skipped {
		v.Skips = append(v.Skips, skipView{t.Home.String(), t.Reason})
	}
	return v
}

func (v runView) write(w io.Writer) {
	if v.Run == 0 {
		if v.UpToDate == 1 {
			fmt.Fprintln(w, "the only home is up to date")
		} else {
			fmt.Fprintf(w, "all %d homes are up to date\n", v.UpToDate)
		}
		v.gateView.write(w)
		return
	}
	state := v.State
	if v.Why != "" {
		state += ": " + v.Why
	}
	if v.Down {
		fmt.Fprintf(w, "run %d, down to version %d, is %s\n", v.Run, v.Newest, state)
	} else {
		fmt.Fprintf(w, "run %d is %s\n", v.Run, state)
	}
	if v.State == string(placement.RunRunning) && !v.AtWork {
		fmt.Fprintln(w, unattended)
	}
	if v.NextWave != "" {
		fmt.Fprintln(w, v.NextWave)
	}
	fmt.Fprintln(w, "WAVE\tTARGETS\tVERIFIED\tFAILED\tSKIPPED")
	for _, wave := range v.Waves {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\n", wave.Wave, wave.Targets, wave.Verified, wave.Failed, wave.Skipped)
	}
	const most = 5 // homes named of each failure; --json names all
	for _, f := range v.Failures {
		fmt.Fprintf(w, "%d failed with %s: %s\n", f.Count, cmp.Or(f.SQLState, "no SQLSTATE"), f.Error)
		for i, home := range f.Homes {
			if i == most {
				fmt.Fprintf(w, "  and %d more: landlord migrate status --failures names them\n", len(f.Homes)-most)
				break
			}
			fmt.Fprintf(w, "  %s\t%s\n", home, f.Tenants[i])
		}
		if f.Next != "" {
			fmt.Fprintf(w, "  %s\n", f.Next)
		}
	}
	for _, s := range v.Skips {
		fmt.Fprintf(w, "skipped %s: %s\n", s.Home, s.Reason)
	}
	v.gateView.write(w)
}

// unattended is what there is to say of a run that is running, and in no process that anybody knows of.
const unattended = "no process is at work on it: landlord migrate resume goes on with it"

// showRun prints what has become of a run. err is why this process did not go on with it; else a run that did not reach all
// homes ends with status 3, and says what leads on.
func (a *app) showRun(ctx context.Context, s fleet.Status, err error) error {
	if err != nil {
		if s.Run.ID != "" && ctx.Err() == nil {
			err = errors.Join(a.show(viewRun(s), viewRun(s).write), err)
		}
		return err
	}
	v := viewRun(s)
	if err := a.show(v, v.write); err != nil {
		return err
	}
	return endOf(s)
}

// endOf is how a command ends that has seen a run to where it is.
func endOf(s fleet.Status) error {
	switch s.Run.State {
	case placement.RunPaused, placement.RunHalted:
		resume := "landlord migrate resume"
		if s.Run.Checked && s.Run.Wave < s.Run.Waves {
			resume += " --health '...'"
		}
		return partly(fmt.Errorf("run %d is %s: %s goes on with it", s.Run.Number, s.Run.State, resume))
	case placement.RunFailed:
		return partly(fmt.Errorf("run %d: %s failed, the rest is done: put right what is wrong there, then landlord migrate retry; "+
			"or leave one out with landlord migrate skip", s.Run.Number, number(s.Counts[placement.TargetFailed], "target")))
	case placement.RunAbandoned:
		return partly(fmt.Errorf("run %d was abandoned: %s", s.Run.Number, s.Run.Why))
	case placement.RunRunning, placement.RunDone:
	}
	return nil
}

// homeOf is the home that an argument names: itself, or that of the tenant with this slug.
func homeOf(ctx context.Context, catalog *placement.Catalog, arg string) (placement.Home, error) {
	if strings.Contains(arg, "/") {
		parts := strings.SplitN(arg, "/", 3)
		if len(parts) != 3 {
			return placement.Home{}, usageError("read home %.200q: write it as cluster/database/schema", arg)
		}
		// No check of the names: what stands for a whole database is among them.
		return placement.Home{Cluster: parts[0], Database: parts[1], Schema: parts[2]}, nil
	}
	slug, err := tenant.ParseSlug(arg)
	if err != nil {
		return placement.Home{}, usageError("%w", err)
	}
	t, err := catalog.TenantBySlug(ctx, slug)
	return t.Home, err
}
