// Package fleet brings all homes of an installation to the version of a set of migrations, in one run that any number of
// processes share.
//
// It guarantees that a migration is applied to a home once, with its version row in the same transaction, whatever process
// dies at whatever moment; that a home which fails keeps no other from being migrated; and that a run can be gone on with
// from wherever it stopped. What a home has is read from the home. The ledger, in the catalog, only says who works on what,
// and can be rebuilt.
//
// One step at one home is package migrate's, which leases and waves there are package placement's.
package fleet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// Config of a Fleet. Catalog and Set are required.
type Config struct {
	Catalog *placement.Catalog
	Set     *migrate.Set
	Logger  *slog.Logger // nil: none
	// Folder is where the files of Set are. It is kept with a run that begins, to find them again. Default: it does not say.
	Folder string
	// Workers is how many targets of one cluster are worked on at once by this process, each with a connection. Default: 4.
	Workers int
	// Limits of a statement, outside NO TRANSACTION files. Default: 100 ms for a lock, a minute for a statement.
	Limits migrate.Limits
	// Retry is how long a target is tried again at once while locks and the like stand in the way, before others get their
	// turn. Default: 3 s. Those that the same worker has not tried at all get it after 0.3 s.
	Retry time.Duration
	// Patience is how long a target is put off again and again before it has failed. Default: 2 min.
	Patience time.Duration
	// Lease is how long what a process holds is its own after its last sign of life. Default: 10 s.
	Lease time.Duration
	// Grace is how long the statements that run are waited for when the caller's context ends. Default: 10 s.
	Grace time.Duration
	// Backfills bounds what they take from a server.
	Backfills Backfills
	// AllowDrift lets nobody look for drift, in no run: homes that have drifted are migrated, too. Default: before a run begins or goes
	// on, the homes that are behind are looked at, and those that have drifted or cannot be looked at stand in the run as failed.
	AllowDrift bool
	// Progress, if not nil, is called about once a second while a run is at work, and at its end.
	Progress func(Status)
}

// What a worker takes at once, and how long it keeps a connection: PostgreSQL's process grows by some 8 MB per thousand
// schemas that it has seen.
const (
	pageSize      = 50
	recycleTarget = 1000
)

// Fleet runs migrations. It is safe for concurrent use.
type Fleet struct {
	cfg     Config
	log     *slog.Logger
	process string // who holds leases
	files   string // digest of the set

	// What [Fleet.allowed] parts the set by: until then the set is whole.
	whole  *migrate.Set
	gate   placement.Gate
	purses *purses // of backfills
}

// New returns a fleet. It connects to nothing.
func New(cfg Config) (*Fleet, error) {
	var errs []error
	if cfg.Catalog == nil {
		errs = append(errs, errors.New("Catalog is missing"))
	}
	if cfg.Set == nil {
		errs = append(errs, errors.New("Set is missing"))
	}
	for _, d := range []time.Duration{cfg.Limits.Lock, cfg.Limits.Statement, cfg.Retry, cfg.Patience, cfg.Lease, cfg.Grace, time.Duration(cfg.Workers)} {
		if d < 0 {
			errs = append(errs, errors.New("Workers and times are not negative"))
			break
		}
	}
	if err := cfg.Backfills.check(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure migrations: %w", err)
	}
	cfg.Workers = cmp.Or(cfg.Workers, 4)
	cfg.Limits.Lock = cmp.Or(cfg.Limits.Lock, 100*time.Millisecond)
	cfg.Limits.Statement = cmp.Or(cfg.Limits.Statement, time.Minute)
	cfg.Retry = cmp.Or(cfg.Retry, 3*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Minute)
	cfg.Lease = cmp.Or(cfg.Lease, 10*time.Second)
	cfg.Grace = cmp.Or(cfg.Grace, 10*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Status) {}
	}
	return &Fleet{cfg: cfg, purses: &purses{}, log: cfg.Logger, process: uuid.NewString(), files: digest(cfg.Set), whole: cfg.Set}, nil
}

// digest tells one set of files from another.
func digest(set *migrate.Set) string {
	sum := sha256.New()
	for _, m := range set.Migrations() {
		fmt.Fprintf(sum, "%d %s\n", m.Version, m.Checksum)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Workers is how many targets of one cluster this process works on at once.
func (f *Fleet) Workers() int { return f.cfg.Workers }

// Asked is the run that the set's files would make, as [placement.Catalog.AskRun] takes it.
func (f *Fleet) Asked() placement.AskedRun {
	return placement.AskedRun{Files: f.files, Folder: f.cfg.Folder}
}

func (f *Fleet) newest() int64 { return newest(f.cfg.Set) }

func newest(set *migrate.Set) int64 {
	versions := set.Versions()
	if len(versions) == 0 {
		return 0
	}
	return versions[len(versions)-1]
}

// Options of a run.
type Options struct {
	// First are the tenants whose homes make the first wave, by slug.
	First []string
	// StopAfter is the wave after which the run pauses. Default: none.
	StopAfter int
	// ExpandOnly leaves the gate of the next contract files as it is.
	ExpandOnly bool
	// Soak is how long after a wave the next one waits. Default: not at all. [Fleet.Resume] keeps the run's own where this is
	// zero; negative, it takes that away.
	Soak time.Duration
	// Health, if not nil, is asked after that time whether the next wave may begin. It is this process's: others, without one,
	// wait at the end of a wave. A run keeps that it has one; [Fleet.Resume] wants it again.
	Health Health
	// NoHealth lets Resume go on without Health, from now on.
	NoHealth bool
	// AllowDrift migrates homes that have drifted, and those that could not be looked at, too, in this run.
	AllowDrift bool
}

// Up brings all homes to the version of the set: it plans a run and works on it until it is over, paused or halted. Where
// all have that version already there is no run, and the status is zero but for what is up to date. A run of the same files
// that another process is at work on is joined.
//
// Files of the phase contract, and what follows them, are not part of that run. When it is done, Up tries to open their gate, as
// [Fleet.OpenGate] does, and goes on with a run of its own; the status is that of the last run. A gate that stays closed is no
// error: the status says what it waits for.
//
// The error says why this process could not go on; that targets failed is told by the status. When ctx ends, what is being
// applied is waited for, and all else is left as it is for [Fleet.Resume].
func (f *Fleet) Up(ctx context.Context, o Options) (Status, error) {
	for {
		part, err := f.allowed(ctx)
		if err != nil {
			return Status{}, err
		}
		s, err := part.bring(ctx, aim{}, o)
		switch {
		case errors.Is(err, placement.ErrGate):
			continue // it only rises, and not without end
		case err != nil || !s.Whole():
			return s, err
		case o.ExpandOnly:
			return f.tell(ctx, s, nil)
		}
		s.Gate, err = part.open(ctx)
		switch {
		case errors.Is(err, placement.ErrGate):
			continue
		case err != nil || s.Gate == nil || len(s.Gate.Waits) > 0:
			return s, err
		}
	}
}

func (f *Fleet) bring(ctx context.Context, to aim, o Options) (Status, error) {
	plan, err := f.plan(ctx, to, o)
	if err != nil {
		return Status{}, err
	}
	if err := f.fits(ctx, plan); err != nil {
		return Status{}, err
	}
	if len(plan.Targets) == 0 {
		return f.close(ctx, to, plan, o.Health)
	}
	run, begun, err := f.begin(ctx, to, plan, placement.RunRunning, o)
	if err != nil {
		return Status{}, err
	}
	if !begun && run.State != placement.RunRunning {
		return f.status(ctx, run, fmt.Errorf("%w: run %d of these files is %s: landlord migrate resume goes on with it",
			placement.ErrRunState, run.Number, run.State))
	}
	return f.work(ctx, run, o.Health)
}

func (f *Fleet) begin(ctx context.Context, to aim, plan Plan, state placement.RunState, o Options) (placement.Run, bool, error) {
	plan, err := f.bar(ctx, to, plan)
	if err != nil {
		return placement.Run{}, false, err
	}
	run := placement.Run{
		Files: f.files, Folder: f.cfg.Folder, Newest: f.newest(), State: state, Waves: plan.Waves, StopAfter: o.StopAfter,
		Canary: plan.Canary, Contracted: f.gate.Contracted, Between: placement.Between{Soak: max(o.Soak, 0), Checked: o.Health != nil},
		AllowDrift: plan.allowDrift, Phases: plan.phases,
	}
	if to.down {
		run.Down, run.Newest = true, to.version
	}
	return f.cfg.Catalog.BeginRun(ctx, run, plan.Targets)
}

// Resume goes on with a run that was interrupted, paused or halted. Nothing to do is no error. It opens no gate.
func (f *Fleet) Resume(ctx context.Context, o Options) (Status, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return Status{}, err
	}
	s, err := part.resume(ctx, o)
	return f.tell(ctx, s, err)
}

func (f *Fleet) resume(ctx context.Context, o Options) (Status, error) {
	run, err := f.last(ctx)
	if err == nil && !run.Over() {
		err = f.mayGoOn(ctx, run)
	}
	if err != nil || run.Over() {
		return f.status(ctx, run, err)
	}
	if err := f.setBetween(ctx, run, o); err != nil {
		return f.status(ctx, run, err)
	}
	if err := f.barPending(ctx, run); err != nil {
		return f.status(ctx, run, err)
	}
	run.Contracted = f.gate.Contracted
	run, err = f.cfg.Catalog.GoOn(ctx, run, o.StopAfter, placement.RunRunning, placement.RunPaused, placement.RunHalted)
	if err != nil {
		return Status{}, err
	}
	return f.work(ctx, run, o.Health)
}

// Retry tries the failed targets of the last run again, all or the one at home, and goes on with the run as [Fleet.Resume] does,
// with what o says of the time between waves. It opens no gate.
func (f *Fleet) Retry(ctx context.Context, home *placement.Home, o Options) (Status, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return Status{}, err
	}
	s, err := part.retry(ctx, home, o)
	return f.tell(ctx, s, err)
}

func (f *Fleet) retry(ctx context.Context, home *placement.Home, o Options) (Status, error) {
	run, err := f.last(ctx)
	if err == nil && run.Files != f.files { // over, or last would have said so
		err = otherFiles(run)
	}
	if err == nil {
		err = f.mayGoOn(ctx, run)
	}
	if err == nil {
		err = f.setBetween(ctx, run, o)
	}
	if err != nil {
		return Status{}, err
	}
	drifted, why, err := f.stillDrifted(ctx, run, home)
	if err != nil {
		return Status{}, err
	}
	n, err := f.cfg.Catalog.RetryTargets(ctx, run.ID, home, drifted...)
	switch {
	case err != nil:
		return Status{}, err
	case n == 0 && why != "":
		return f.status(ctx, run, fmt.Errorf("%s: put that right, or begin a run that takes the home as it is: landlord migrate up --allow-drift", why))
	case n == 0:
		return f.status(ctx, run, errors.New("no such target has failed in the last run"))
	}
	run.Contracted = f.gate.Contracted
	run, err = f.cfg.Catalog.GoOn(ctx, run, run.StopAfter, placement.RunRunning, placement.RunPaused, placement.RunHalted, placement.RunFailed)
	if err != nil {
		return Status{}, err
	}
	return f.work(ctx, run, o.Health)
}

// last returns the last run, if it is of the fleet's files.
func (f *Fleet) last(ctx context.Context) (placement.Run, error) {
	run, err := f.cfg.Catalog.LastRun(ctx)
	if err == nil && run.Files != f.files && !run.Over() {
		err = otherFiles(run)
	}
	return run, err
}

func otherFiles(run placement.Run) error {
	return fmt.Errorf("%w: the files are not those with which run %d began%s: put them back, or begin a run of these with "+
		"landlord migrate up", placement.ErrRunState, run.Number, origin(run))
}
