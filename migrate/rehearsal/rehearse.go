package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fingerprint"
)

// home is one of the homes of a scratch database.
type home struct {
	name           string // for people
	schema, tenant string
}

// The homes, in the order in which files are applied. What works in first and fails in sibling, which is made alike, works once.
var (
	first   = home{"the first home", "landlord_first", "first"}
	sibling = home{"its sibling", "landlord_sibling", "sibling"}
	shared  = home{"the shared home", isolation.SharedSchema, ""}
)

// manyFiles is from how many files on the siblings are compared at the end only, and not after each file.
const manyFiles = 10

// rehearse fills in a result. An error says that there is none; what files do wrong is in it.
func rehearse(ctx context.Context, s *scratch, w work, r *Result) error {
	t := &trial{scratch: s, work: w, result: r, run: uuid.NewString()}
	failure, err := t.perform(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &skipError{err}
	case failure == nil:
		return nil
	}
	if s.lost(failure.Err) {
		return &skipError{fmt.Errorf("its server went away: %w", failure.Err)}
	}
	if len(r.LeftOut) > 0 && failure.Home == first.name {
		failure.Why = "it may need what " + r.LeftOut[0] + " makes, which is applied before it and is not rehearsed"
		r.Doubt = failure
		return nil
	}
	r.Failure = failure
	return nil
}

// trial is one rehearsal.
type trial struct {
	*scratch
	work   work
	result *Result
	run    string
}

func (t *trial) perform(ctx context.Context) (*FileError, error) {
	start := t.work.database
	if len(t.work.starts) > 0 {
		start = t.work.starts[0]
	} // else only databases lack something, and homes have all
	if err := t.work.set.Until(t.work.database).Prepare(ctx, t.operator, false); err != nil {
		return built(err), nil
	}
	for _, h := range []home{first, sibling, shared} {
		if failure, err := t.build(ctx, h, start); failure != nil || err != nil {
			return failure, err
		}
	}
	for _, m := range t.work.databaseFiles {
		if failure := t.apply(ctx, m, home{name: "the database"}, ""); failure != nil {
			return failure, nil
		}
	}
	if len(t.work.starts) == 0 {
		return nil, nil
	}
	if failure, err := t.siblings(ctx, after(t.work.set, migrate.ScopeTenant, start)); failure != nil || err != nil {
		return failure, err
	}
	for i, start := range t.work.starts[1:] {
		h := home{fmt.Sprintf("a home of version %d", start), fmt.Sprintf("landlord_start_%d", i), fmt.Sprintf("start %d", i)}
		if failure, err := t.build(ctx, h, start); failure != nil || err != nil {
			return failure, err
		}
		for _, m := range after(t.work.set, migrate.ScopeTenant, start) {
			if failure := t.apply(ctx, m, h, fmt.Sprintf("it worked in homes of version %d and failed in one of version %d", t.work.starts[0], start)); failure != nil {
				return failure, nil
			}
		}
	}
	return nil, nil
}

// build makes a home of a version.
func (t *trial) build(ctx context.Context, h home, version int64) (*FileError, error) {
	if h.schema != isolation.SharedSchema {
		if err := isolation.CreateSchema(ctx, t.operator, h.schema, h.tenant); err != nil {
			return nil, err
		}
	}
	if err := t.work.set.Until(version).Build(ctx, t.migrator, h.schema, h.tenant); err != nil {
		return built(err), nil
	}
	return nil, nil
}

// built is a failure of files that homes have already.
func built(err error) *FileError {
	return &FileError{Err: err, Why: "a home cannot be built from these files any more, so that nothing can be rehearsed in one, nor a tenant be added"}
}

// siblings applies files to both siblings and the shared home, and compares the siblings.
func (t *trial) siblings(ctx context.Context, files []migrate.Migration) (*FileError, error) {
	for i, m := range files {
		for _, h := range []struct {
			home
			why string
		}{
			{first, ""},
			{sibling, "it worked in the first home and failed in its sibling: the file names something that exists once"},
			{shared, "it worked in two homes in schemas and failed in the shared one: it names something that exists once, or that shared tables have not"},
		} {
			if failure := t.apply(ctx, m, h.home, h.why); failure != nil {
				return failure, nil
			}
		}
		if len(files) >= manyFiles && i < len(files)-1 {
			continue
		}
		differences, err := t.compare(ctx)
		if err != nil {
			return nil, err
		}
		if len(differences) > 0 {
			f := &FileError{File: m.File, Home: sibling.name, Why: "it did not do the same in the first home and in its sibling, which then differ (" +
				drift.Brief(differences) + "): the file looks at or changes what is not its home's own"}
			if len(files) >= manyFiles {
				f.File = ""
				f.Why = "the pending files did not do" + f.Why[len("it did not do"):]
			}
			return f, nil
		}
	}
	return nil, nil
}

// compare returns how sibling differs from first.
func (t *trial) compare(ctx context.Context) ([]fingerprint.Difference, error) {
	var objects [2][]fingerprint.Object
	for i, h := range []home{first, sibling} {
		var err error
		if objects[i], err = fingerprint.Objects(ctx, t.operator, fingerprint.Home{Schema: h.schema, Tenant: h.tenant}); err != nil {
			return nil, err
		}
	}
	return fingerprint.Compare(objects[0], objects[1]), nil
}

// apply applies a file as a run does. why is what follows when it fails there.
func (t *trial) apply(ctx context.Context, m migrate.Migration, h home, why string) *FileError {
	conn, to := t.migrator, migrate.Target{Scope: m.Scope, Schema: h.schema, Tenant: h.tenant}
	if m.Scope != migrate.ScopeTenant {
		conn, to = t.operator, migrate.Target{Scope: m.Scope}
	}
	by := migrate.Attempt{Run: t.run, Lease: 1}
	began := time.Now()
	_, err := m.Apply(ctx, conn, to, by, limits)
	took := time.Since(began)
	t.result.Steps = append(t.result.Steps, Step{m.File, h.name, took, err})
	if err == nil {
		switch {
		case m.Scope == migrate.ScopeDatabase:
			t.result.perDatabase += took
		case h == sibling:
			t.result.perHome += took
		}
		return nil
	}
	f := &FileError{File: m.File, Home: h.name, Why: why, Err: trim(err)}
	f.Statement = culprit(ctx, m, conn, to, by)
	return f
}

// trim takes off the file's name, which a FileError has.
func trim(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// culprit finds the statement that fails by running them one by one. The step as such is one message, whose errors do not tell.
func culprit(ctx context.Context, m migrate.Migration, conn *pgx.Conn, to migrate.Target, by migrate.Attempt) string {
	if conn.IsClosed() || !m.Watchable() {
		return ""
	}
	err := m.Watch(ctx, conn, to, by, limits, func(int, string) error { return nil })
	if s, ok := errors.AsType[*migrate.StatementError](err); ok {
		return s.Excerpt
	}
	return ""
}
