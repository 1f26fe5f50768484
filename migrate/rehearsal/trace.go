package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/lint"
)

// Trace applies all files from nothing in a scratch database, to a home in a schema, one statement after the other, and then to a
// shared one, and returns what was seen, by file, as [lint.Options] takes it. It takes the first cluster, by name, on which a scratch
// database can be made; where there is none, the error says why.
//
// A file that fails is the error, beside what was seen: of all files before it, or of all if it failed in the shared home only. Files marked NO TRANSACTION are applied and not
// watched, and so are those of the scope database; those of the scope server are left out.
func Trace(ctx context.Context, cfg Config) (map[string][]lint.Traced, error) {
	m, err := newMaker(ctx, cfg)
	if err != nil {
		return nil, err
	}
	seen := make(map[string][]lint.Traced)
	var skipped []error
	for _, cluster := range slices.Sorted(maps.Keys(m.clusters)) {
		cfg.progress("tracing %d files on cluster %s", len(cfg.Set.Scoped(migrate.ScopeTenant)), cluster)
		err := m.with(ctx, cluster, func(s *scratch) error { return (&tracer{s, cfg.Set, uuid.NewString(), seen}).trace(ctx) })
		skip, ok := errors.AsType[*skipError](err)
		if !ok {
			if err != nil {
				err = fmt.Errorf("trace migrations on cluster %s: %w", cluster, err)
			}
			return seen, err
		}
		skipped = append(skipped, fmt.Errorf("cluster %s: %w", cluster, skip.err))
	}
	if len(skipped) == 0 {
		skipped = append(skipped, errors.New("the catalog has no cluster: run landlord init"))
	}
	return nil, fmt.Errorf("trace migrations: no scratch database can be made: %w", errors.Join(skipped...))
}

type tracer struct {
	*scratch
	set  *migrate.Set
	run  string
	seen map[string][]lint.Traced
}

func (t *tracer) trace(ctx context.Context) error {
	if err := t.set.Prepare(ctx, t.operator, false); err != nil {
		return err
	}
	if err := isolation.CreateSchema(ctx, t.operator, first.schema, first.tenant); err != nil {
		return err
	}
	var once error
	for _, m := range t.set.Scoped(migrate.ScopeTenant) {
		by := migrate.Attempt{Run: t.run, Lease: 1}
		to := migrate.Target{Scope: m.Scope, Schema: first.schema, Tenant: first.tenant}
		if err := t.watch(ctx, m, to, by); err != nil {
			return err
		}
		if once == nil { // it stays at this version
			if _, err := m.Apply(ctx, t.migrator, migrate.Target{Scope: m.Scope, Schema: shared.schema}, by, limits); err != nil {
				once = fmt.Errorf("it worked in the first home and failed in the second: %w", err)
			}
		}
	}
	return once
}

// watch applies a file and notes what each of its statements did.
func (t *tracer) watch(ctx context.Context, m migrate.Migration, to migrate.Target, by migrate.Attempt) error {
	if !m.Watchable() {
		_, err := m.Apply(ctx, t.migrator, to, by, limits)
		t.seen[m.File] = nil
		return err
	}
	p := &probe{conn: t.migrator, schema: to.Schema, backfill: m.Phase == migrate.PhaseBackfill}
	var found []lint.Traced
	err := m.Watch(ctx, t.migrator, to, by, limits, func(next int, text string) error {
		if next == 0 {
			if err := p.begin(ctx); err != nil {
				return err
			}
		} else {
			saw, err := p.look(ctx)
			if err != nil {
				return err
			}
			saw.Statement = next - 1
			if len(saw.Rewritten)+len(saw.Scanned)+len(saw.Locked)+len(saw.Elsewhere) > 0 {
				found = append(found, saw)
			}
		}
		return p.before(ctx, text)
	})
	t.seen[m.File] = found
	return err
}

// names returns the keys of a set in order.
func names(set map[string]bool) []string {
	return slices.SortedFunc(maps.Keys(set), cmp.Compare[string])
}
