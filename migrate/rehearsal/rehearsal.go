// Package rehearsal applies migrations in a scratch database before they touch a home.
//
// On each cluster that has targets it makes a database with landlord's objects and, in it, two sibling homes in schemas and a shared
// one, brings them to the version that most homes have, and applies what those lack by the same steps as a run. A file that works
// only once fails in the second home, one that looks beyond its home leaves the siblings different, and an ordinary mistake fails
// in the first. [Trace] watches in such a database what single statements do.
//
// It guarantees that no home is touched, that the database is dropped whatever happens, and that one which a killed process has left
// is dropped by a later rehearsal; no database is dropped that was not made for one. Homes there are empty: what depends on rows is
// found by the first wave. Files of the scope server are left out, since they would touch the server.
package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// Config says what to rehearse. Catalog and Set are required.
type Config struct {
	Catalog *placement.Catalog
	Set     *migrate.Set
	// Progress, if not nil, is told what goes on. It may be called from several goroutines.
	Progress func(format string, args ...any)
}

func (c Config) progress(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(format, args...)
	}
}

// limits of a statement: those of a run, but that locks are waited for. Nobody else is there but autovacuum.
var limits = migrate.Limits{Lock: 10 * time.Second, Statement: time.Minute}

// Result is what the rehearsal on one cluster came to.
type Result struct {
	Cluster string
	// Skipped is why nothing could be rehearsed there. Empty: it was.
	Skipped string
	Steps   []Step
	// LeftOut are pending files of the scope server.
	LeftOut []string
	// Failure is what the run must not begin with. Nil: there is nothing.
	Failure *FileError
	// Doubt is a failure that may come of LeftOut, which a run applies before.
	Doubt *FileError

	perHome, perDatabase time.Duration // what is pending takes
	homes, databases     int           // targets of the cluster
}

// Step is a file in one of the homes.
type Step struct {
	File, Home string
	Took       time.Duration
	Err        error
}

// FileError is a file that cannot be applied, or must not be.
type FileError struct {
	File      string // empty: one of several
	Home      string
	Statement string // the beginning of the one that failed, where it is known
	Why       string // what follows from where it failed
	Err       error
}

func (f *FileError) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ": ")
	}
	if f.Statement != "" {
		fmt.Fprintf(&b, "statement %q: ", f.Statement)
	}
	if f.Err != nil {
		b.WriteString(f.Err.Error())
	}
	if f.Why != "" {
		if f.Err != nil {
			b.WriteString(": ")
		}
		b.WriteString(f.Why)
	}
	return b.String()
}

func (f *FileError) Unwrap() error { return f.Err }

// clustersAtOnce is how many clusters rehearse at the same time.
const clustersAtOnce = 4

// Rehearse rehearses what a run of plan would do, on each cluster that it has targets on, and returns what came of it, by cluster. What
// keeps a rehearsal from being made is in its result; an error means that the catalog could not be read, or that ctx has ended.
func Rehearse(ctx context.Context, cfg Config, plan fleet.Plan) ([]Result, error) {
	w := pendingOf(cfg.Set, plan)
	if w.none() {
		return nil, ctx.Err()
	}
	counts := make(map[string]*Result)
	for _, t := range plan.Targets {
		r := counts[t.Home.Cluster]
		if r == nil {
			r = &Result{Cluster: t.Home.Cluster, LeftOut: w.server}
			counts[t.Home.Cluster] = r
		}
		switch {
		case t.State == placement.TargetFailed: // it is not migrated
		case t.Scope == string(migrate.ScopeTenant):
			r.homes++
		case t.Scope == string(migrate.ScopeDatabase):
			r.databases++
		}
	}
	m, err := newMaker(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var results []*Result
	var g errgroup.Group
	g.SetLimit(clustersAtOnce)
	for _, r := range counts {
		if r.homes+r.databases == 0 {
			continue
		}
		results = append(results, r)
		g.Go(func() error {
			cfg.progress("rehearsing %d files on cluster %s", w.count(), r.Cluster)
			err := m.with(ctx, r.Cluster, func(s *scratch) error { return rehearse(ctx, s, w, r) })
			if skip, ok := errors.AsType[*skipError](err); ok {
				r.Skipped, err = skip.Error(), nil
			}
			return err
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("rehearse migrations: %w", err)
	}
	slices.SortFunc(results, func(a, b *Result) int { return cmp.Compare(a.Cluster, b.Cluster) })
	out := make([]Result, len(results))
	for i, r := range results {
		out[i] = *r
	}
	return out, nil
}

// Estimate is how long a run takes from what its files took here, on empty tables, with so many workers on each cluster.
func Estimate(results []Result, workers int) time.Duration {
	var longest time.Duration
	for _, r := range results {
		work := time.Duration(r.homes)*r.perHome + time.Duration(r.databases)*r.perDatabase
		longest = max(longest, work/time.Duration(max(workers, 1)))
	}
	return longest
}
